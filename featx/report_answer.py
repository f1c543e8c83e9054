"""The answer in one sentence: the best classifier on frozen features beside the best fine-tuned network."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featx.compare import ComparedRun, Pair, pair_runs
from featx.run_record import Run

SIGNIFICANCE = 0.05
"""A difference is called significant where McNemar's p is under it."""

MODELS = {
    "rf": "random forest",
    "svm": "SVM",
    "linear-svm": "linear SVM",
    "logreg": "logistic regression",
    "knn": "nearest neighbours",
    "lda": "linear discriminant analysis",
}

_BACKBONES = {
    "vgg16": "VGG16",
    "vgg19": "VGG19",
    "resnet50": "ResNet-50",
    "resnet101": "ResNet-101",
    "inception_v3": "Inception v3",
    "inception_resnet_v2": "Inception-ResNet v2",
    "densenet121": "DenseNet-121",
    "efficientnet_v2_s": "EfficientNetV2-S",
    "convnext_tiny": "ConvNeXt-Tiny",
    "googlenet": "GoogLeNet",
}

# A run, what a comparison says of it, and which test rows it gets right.
Candidate = tuple[Run, ComparedRun, np.ndarray]


@dataclass(frozen=True)
class Answer:
    """What a report says first.

    Attributes
    ----------
    question, sentence, basis : str
        `basis` says what the runs of the sentence were chosen by.
    classical, finetuned : str or None
        Names of the two runs; None where there is none of the kind.
    pair : Pair or None
        The fine-tuned run beside the classical one.
    is_significant : bool or None
        At `SIGNIFICANCE`.
    """

    question: str
    sentence: str
    basis: str
    classical: str | None
    finetuned: str | None
    pair: Pair | None
    is_significant: bool | None


def answer_question(candidates: Sequence[Candidate]) -> Answer:
    """Choose the best run of each kind by validation accuracy, never by test rows, and set one beside the other.

    Parameters
    ----------
    candidates : sequence of (Run, ComparedRun, correct)
        On the same test rows; at least one.
    """
    classical = _choose([candidate for candidate in candidates if not candidate[0].is_finetuned])
    finetuned = _choose([candidate for candidate in candidates if candidate[0].is_finetuned])
    chosen = [candidate for candidate in (classical, finetuned) if candidate]
    backbones = list(dict.fromkeys(name_backbone(run) for run, _, _ in candidates))
    network = backbones[0] if len(backbones) == 1 else "network"
    pair = None
    if classical and finetuned:
        pair = pair_runs(classical[1].name, finetuned[1].name, classical[2], finetuned[2])
    return Answer(
        question=f"How far do the features of a frozen {network} get, next to fine-tuning it?",
        sentence=_say(chosen, pair),
        basis=_say_basis(chosen),
        classical=classical[1].name if classical else None,
        finetuned=finetuned[1].name if finetuned else None,
        pair=pair,
        is_significant=pair.p_value < SIGNIFICANCE if pair else None,
    )


def name_model(run: Run, *, discretize: str | None = None) -> str:
    """Return what a reader calls a run's model.

    Parameters
    ----------
    run : Run
    discretize : {"none", "ternary"}, optional
        Of one cell; default: of the chosen one.

    Returns
    -------
    str
        Such as "SVM on ternary frozen features" or "fine-tuned VGG16".
    """
    if run.is_finetuned:
        return f"fine-tuned {name_backbone(run)}"
    ternary = "ternary " if (discretize or run.best.discretize) == "ternary" else ""
    return f"{MODELS.get(run.model, run.model)} on {ternary}frozen features"


def name_backbone(run: Run) -> str:
    """Return what a reader calls a run's backbone; "network" where the record doesn't tell."""
    name = str(run.store.get("backbone") or "network")
    return _BACKBONES.get(name, name)


def percent(share: float) -> str:
    """Return a share in percent, one decimal.

    Examples
    --------
    >>> percent(0.8761904)
    '87.6%'
    """
    return f"{100 * share:.1f}%"


def format_p(p_value: float) -> str:
    """Return a p-value in two digits.

    Examples
    --------
    >>> format_p(0.4123), format_p(0.000012), format_p(1.0)
    ('p = 0.41', 'p < 0.001', 'p = 1')
    """
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"


def _choose(candidates: Sequence[Candidate]) -> Candidate | None:
    """Return the best on validation figures, the first of equals; one that has none comes last."""
    return max(candidates, key=_validation, default=None)


def _validation(candidate: Candidate) -> float:
    found = candidate[0].best.validation_accuracy
    return -1.0 if found is None else found


def _say(chosen: Sequence[Candidate], pair: Pair | None) -> str:
    parts = ", ".join(_say_run(run, compared) for run, compared, _ in chosen)
    parts = parts[:1].upper() + parts[1:]
    if pair is None:
        missing = "classifier on frozen features" if chosen[0][0].is_finetuned else "fine-tuned run"
        return f"{parts}; there is no {missing} to set beside it."
    told = format_p(pair.p_value)
    if pair.p_value >= SIGNIFICANCE:
        return f"{parts}; the difference is not significant, {told}."
    better = "the fine-tuned network" if pair.difference > 0 else "the frozen features"
    return f"{parts}; the difference is significant, {told}: {better} did better."


def _say_run(run: Run, compared: ComparedRun) -> str:
    bounds = compared.accuracy_interval
    interval = f" [{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}]" if bounds else ""
    return f"{name_model(run)} {percent(compared.accuracy)}{interval}"


def _say_basis(chosen: Sequence[Candidate]) -> str:
    figures = []
    for run, compared, _ in chosen:
        found = run.best.validation_accuracy
        folds = run.protocol.get("cv")
        where = f"the mean over {folds} folds" if folds else "on validation rows"
        # Accuracies of weighted and of unweighted rows are two measures.
        weight = run.protocol.get("sample_weight")
        where += f", weighted by {weight}" if weight else ""
        figures.append(f"{compared.name} ({'none on record' if found is None else f'{percent(found)} {where}'})")
    each = "Each is the best of its kind" if len(chosen) > 1 else "It is the best"
    paired = (
        f"; p: McNemar's test on the same test images, significant under {SIGNIFICANCE:g}" if len(chosen) > 1 else ""
    )
    return (
        f"{each} by validation accuracy, the first of equals: {' and '.join(figures)}. Test rows were used once, to "
        f"score it. In brackets: 95% bootstrap intervals{paired}."
    )
