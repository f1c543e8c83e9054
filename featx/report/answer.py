"""The answer in one sentence: the best classifier on frozen features next to the best fine-tuned network."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featx.networks import BACKBONES
from featx.results import ComparedRun, Pair, Run, format_validation, pair_runs, signed_score

SIGNIFICANCE = 0.05
"""A difference is called significant if McNemar's p is under it."""


MODELS = {
    "rf": "random forest",
    "svm": "SVM",
    "linear-svm": "linear SVM",
    "logreg": "logistic regression",
    "knn": "nearest neighbours",
    "lda": "linear discriminant analysis",
}


# Classical and fine-tuned runs, as sentences name them.
_KINDS = ("classifiers on frozen features", "fine-tuned networks")


# A run, as a comparison shows it, and which test rows it gets right.
Candidate = tuple[Run, ComparedRun, np.ndarray]


@dataclass(frozen=True)
class Answer:
    """The first lines of a report.

    Attributes
    ----------
    question, sentence, basis, measure : str
        `basis` says what the runs of the sentence were chosen by, `measure` what its numbers are.
    classical, finetuned : str or None
        Names of the two runs; None if there is none of the kind, or if they were not chosen on the same rows by the
        same measure: no one of them is the best then.
    pair : Pair or None
        The fine-tuned run next to the classical one.
    is_significant : bool or None
        At `SIGNIFICANCE`.
    """

    question: str
    sentence: str
    basis: str
    measure: str
    classical: str | None
    finetuned: str | None
    pair: Pair | None
    is_significant: bool | None


def answer_question(candidates: Sequence[Candidate]) -> Answer:
    """Choose the best run of each kind by validation scores, never by test rows, and compare the two.

    The candidates, at least one, are of the same test rows.
    """
    kinds = [[each for each in candidates if each[0].is_finetuned is is_finetuned] for is_finetuned in (False, True)]
    classical, finetuned = best = [_choose(kind) for kind in kinds]
    backbones = list(dict.fromkeys(name_backbone(run) for run, _, _ in candidates))
    network = backbones[0] if len(backbones) == 1 else "network"
    pair = None
    if classical and finetuned:
        pair = pair_runs(classical[1].name, finetuned[1].name, classical[2], finetuned[2])
    return Answer(
        question=f"How far do the features of a frozen {network} get, next to fine-tuning it?",
        sentence=_say(kinds, best, pair),
        basis=_say_basis(kinds, best),
        measure="Every test image counts the same. In brackets: Wilson's 95% intervals"
        + (f"; p: McNemar's test on the same images, significant under {SIGNIFICANCE:g}." if pair else "."),
        classical=classical[1].name if classical else None,
        finetuned=finetuned[1].name if finetuned else None,
        pair=pair,
        is_significant=pair.p_value < SIGNIFICANCE if pair else None,
    )


def name_model(run: Run, *, discretize: str | None = None) -> str:
    """Return a readable name of a run's model, such as "SVM on ternary frozen features" or "fine-tuned VGG16".

    `discretize` is that of one cell; default: of the chosen one.
    """
    if run.is_finetuned:
        return f"fine-tuned {name_backbone(run)}"
    ternary = "ternary " if (discretize or run.best.discretize) == "ternary" else ""
    return f"{MODELS.get(run.model, run.model)} on {ternary}frozen features"


def name_backbone(run: Run) -> str:
    """Return a readable name of a run's backbone; "network" if the record doesn't say."""
    name = str(run.store.get("backbone") or "network")
    return BACKBONES[name].title if name in BACKBONES else name


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


def rank_runs(runs: Sequence[Run]) -> list[list[int]]:
    """Rank runs of one kind by the score that each was chosen by, if that is the same measure on the same rows.

    Returns
    -------
    list of list of int
        A group of indices of `runs` for each measure, in the order of their first runs: the best of a group first, the
        first of equal ones. Runs without a validation score are in no group.
    """
    groups: dict[str, list[int]] = {}
    for number, run in enumerate(runs):
        if _validation_rank(run) is not None:
            groups.setdefault(_name_measure(run), []).append(number)
    return [sorted(group, key=lambda number: _validation_rank(runs[number]), reverse=True) for group in groups.values()]


def _name_measure(run: Run) -> str:
    """Return what makes validation scores comparable, as one text: an untrusted record may contain any values."""
    names = ("choose_by", "cv", "sample_weight", "label", "where", "n_train", "n_validation")
    # Only fine-tuning uses other splits than the column `split`.
    return repr([*(run.protocol.get(name) for name in names), run.protocol.get("split", "split")])


def _validation_rank(run: Run) -> float | None:
    choose_by = run.protocol.get("choose_by", "accuracy")
    # A recipe's loss includes L2 and smoothed labels: it can compare its stages, but not runs.
    if choose_by in ("accuracy", "loss"):
        return run.best.validation_accuracy
    return None if run.best.validation_score is None else signed_score(run.best.validation_score, str(choose_by))


def _choose(candidates: Sequence[Candidate]) -> Candidate | None:
    """Return the best by validation scores, or the only one; None if there is none, or they can't be ranked."""
    if len(candidates) < 2:
        return next(iter(candidates), None)
    groups = rank_runs([run for run, _, _ in candidates])
    return candidates[groups[0][0]] if len(groups) == 1 else None


def _say(kinds: Sequence[Sequence[Candidate]], best: Sequence[Candidate | None], pair: Pair | None) -> str:
    present = list(zip(kinds, best, _KINDS, strict=True))
    parts = ", ".join(_say_kind(*parts) for parts in present if parts[0])
    parts = parts[:1].upper() + parts[1:]
    unranked = [kind for candidates, chosen, kind in present if candidates and chosen is None]
    if unranked:
        return f"{parts}; no difference is tested, as validation scores don't rank the {' and the '.join(unranked)}."
    if pair is None:
        missing = "fine-tuned run" if kinds[0] else "classifier on frozen features"
        return f"{parts}; there is no {missing} to compare it with."
    p_text = format_p(pair.p_value)
    if pair.p_value >= SIGNIFICANCE:
        return f"{parts}; the difference is not significant, {p_text}."
    better = "the fine-tuned network" if pair.difference > 0 else "the frozen features"
    return f"{parts}; the difference is significant, {p_text}: {better} did better."


def _say_kind(candidates: Sequence[Candidate], chosen: Candidate | None, kind: str) -> str:
    if chosen is not None:
        run, compared, _ = chosen
        low, high = compared.accuracy_interval
        return f"{name_model(run)} {percent(compared.accuracy)} [{100 * low:.1f}, {100 * high:.1f}]"
    accuracies = [compared.accuracy for _, compared, _ in candidates]
    return f"{len(candidates)} {kind} {percent(min(accuracies))} to {percent(max(accuracies))}"


def _say_basis(kinds: Sequence[Sequence[Candidate]], best: Sequence[Candidate | None]) -> str:
    chosen = [candidate for candidate in best if candidate is not None]
    sentences = []
    if chosen:
        each = "Each is the best of its kind" if len(chosen) > 1 else "This is the best of its kind"
        scores = " and ".join(_say_validation(*candidate[:2]) for candidate in chosen)
        sentences.append(f"{each} by validation scores, the first of equal ones: {scores}.")
    for candidates, one, kind in zip(kinds, best, _KINDS, strict=True):
        groups = rank_runs([run for run, _, _ in candidates])
        if candidates and one is None:
            firsts = [candidates[group[0]] for group in groups] or list(candidates)
            scores = ", ".join(_say_validation(*candidate[:2]) for candidate in firsts)
            why = "were not chosen on the same rows by the same measure" if groups else "have no validation scores"
            sentences.append(f"The {kind} {why}, so they are not ranked: {scores}.")
        n_without = len(candidates) - sum(map(len, groups))
        if groups and n_without:
            sentences.append(f"{n_without} of the {kind} {'has' if n_without == 1 else 'have'} no validation score.")
    sentences.append("Test rows were used once, to score each run.")
    return " ".join(sentences)


def _say_validation(run: Run, compared: ComparedRun) -> str:
    if _validation_rank(run) is None:
        return f"{compared.name} (none on record)"
    choose_by = run.protocol.get("choose_by", "accuracy")
    is_accuracy = choose_by in ("accuracy", "loss")
    score = percent(run.best.validation_accuracy) if is_accuracy else f"{choose_by} {run.best.validation_score:.3f}"
    ending = "; its stage was chosen by the loss of its training" if choose_by == "loss" else ""
    return f"{compared.name} ({score} {format_validation(run)}{ending})"
