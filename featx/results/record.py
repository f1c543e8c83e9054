"""Define the record of one run: the cells that were tried, the one that was chosen, and its test scores."""

from dataclasses import dataclass

FINETUNE = "finetune"
"""The model of a run of a fine-tuned network; the others are those of `featx.fit.MODELS`."""


@dataclass(frozen=True)
class Cell:
    """One combination of a grid, or one stage of fine-tuning.

    Attributes
    ----------
    discretize : str
        none or ternary.
    params : dict
        The classifier's parameters, or what distinguishes a stage of fine-tuning from the others.
    validation_accuracy : float or None
        On the validation rows, or the mean over folds; None if there was nothing to choose, or the cell failed.
    validation_deviation : float or None
        Standard deviation over folds (of the population: n).
    seconds : float
        To fit and to score, over all folds; an equal share of the time that several cells need together.
    error : str or None
        The error that the cell failed with.
    validation_score : float or None
        The score that cells are chosen by, as validation_accuracy; the same number if the protocol says accuracy.
    note : str or None
        Says that it did not converge; for the chosen cell also which of its numbers are at an edge of the grid, and the
        next ones to try.
    """

    discretize: str
    params: dict[str, object]
    validation_accuracy: float | None
    validation_deviation: float | None
    seconds: float
    error: str | None = None
    validation_score: float | None = None
    note: str | None = None


@dataclass(frozen=True)
class Run:
    """A grid that was fitted, chosen from, refitted and scored once; or a network that was fine-tuned on the same rows.

    Attributes
    ----------
    model : str
        One of `featx.fit.MODELS`, or `FINETUNE`.
    store : dict
        The store's path and settings; `layers` and `n_features` are those fitted on, `store_layers` all of the store's.
    protocol : dict
        How cells were compared and by which score (choose_by; for a fine-tuned network accuracy or its own loss), the
        seed, the classes, and how many rows each split has.
    cells : tuple of Cell
    chosen : int
        The index of the cell that was refitted on all rows but the test rows: the best, the first of equal ones. Of a
        fine-tuned network, the stage whose weights were kept.
    test : dict or None
        See `featx.results.score`; None if the store has no test rows.
    refit_seconds : float
        0 for a fine-tuned network.
    versions : dict
        Of featx, scikit-learn and Python.
    created : str
        UTC, ISO 8601.
    notes : tuple of str
    peak_memory : int or None
        Of the process that fitted it, bytes.
    layers : tuple of dict
        Scores by layer, if they were asked for; see `featx.fit.layerwise.ablate_layers`.
    n_parameters : int or None
        How many numbers were fitted: those that the classifier reads to predict, or the network's trainable weights
        over all stages.
    predict_seconds : float or None
        To label a thousand images, from files to labels: the network's part and the classifier's. None if the store
        doesn't say how fast its features were made.
    baseline : dict or None
        How a fine-tuned network was trained: recipe, stages (name, epochs, best_epoch, n_trainable, n_frozen, seconds
        and ended each), weights_sha256, and once_seconds: the seconds to compute what all epochs use, which the stages'
        seconds don't include. None for a classifier.
    """

    model: str
    store: dict[str, object]
    protocol: dict[str, object]
    cells: tuple[Cell, ...]
    chosen: int
    test: dict[str, float | list[float] | None] | None
    refit_seconds: float
    versions: dict[str, str]
    created: str
    notes: tuple[str, ...] = ()
    peak_memory: int | None = None
    layers: tuple[dict[str, str | int | float | None], ...] = ()
    n_parameters: int | None = None
    predict_seconds: float | None = None
    baseline: dict[str, object] | None = None

    @property
    def best(self) -> Cell:
        """The chosen cell."""
        return self.cells[self.chosen]

    @property
    def is_finetuned(self) -> bool:
        """True for a fine-tuned network, False for a classifier."""
        return self.model == FINETUNE
