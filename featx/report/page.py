"""Lay out a report as one HTML page, by the template next to this file."""

import base64
import hashlib
import importlib.resources
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

import featx
from featx.errors import FeatxError, one_line
from featx.report.answer import name_model, percent
from featx.report.data import Report, ReportedRun
from featx.report.dataset import ImageSizes, StoreData, format_sizes
from featx.report.figures import short_name
from featx.report.galleries import Galleries
from featx.report.panels import Drawings
from featx.results import Cell, Run, format_params, format_weight

if TYPE_CHECKING:
    from jinja2 import Template

MOST_ROWS = 1000
"""How many rows the table of cells has, and how many those of the classes of all runs have together."""


_MOST_REJECTED = 50


_MOST_CHARACTERS = 400


_TEST_SCORES = {
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "mcc": "Matthews's correlation",
    "roc_auc": "ROC AUC",
    "log_loss": "Log loss",
}


# The entries of a store's record that say how features were made.
_STORE_SETTINGS = (
    *("backbone", "weights", "weights_sha256", "image_size", "resize", "interpolation", "preprocessing", "pooling"),
    *("views", "precision", "engine", "engine_version", "device", "keras_version", "keras_backend", "store_dtype"),
    *("jpeg", "icc", "root", "created", "featx_version"),
)


def render_page(
    report: Report,
    drawings: Drawings,
    galleries: Galleries,
    sizes: ImageSizes | None,
    *,
    title: str,
    notes: Sequence[str] = (),
) -> str:
    """Lay out a report.

    Parameters
    ----------
    report : Report
    drawings : Drawings
    galleries : Galleries
    sizes : ImageSizes or None
        Of the store's images; None without a store.
    title : str
    notes : sequence of str
        Further lines at the end of the section of the data.

    Returns
    -------
    str
        HTML that loads nothing: its content security policy names the one style sheet and the one script by their
        digests. Every name from a run or a store is escaped.
    """
    css = f"{_read('page.css')}\n{drawings.css}"
    script = _read("page.js")
    anchors = {run.name: f"run-{number}" for number, run in enumerate(report.runs, 1)}
    most = max(1, MOST_ROWS // len(report.runs))
    rows, n_cells = _cell_rows(report, anchors, most)
    return _template().render(
        title=title,
        policy=_policy(css, script),
        css=css,
        script=script,
        version=featx.__version__,
        newest=max((run.run.created for run in report.runs), default="")[:10],
        answer=report.answer,
        answer_figures=drawings.answer,
        facts=_facts(report),
        cells=rows,
        shortened=_say_shortened(report, drawings, n_cells, most),
        left_out=report.left_out,
        runs=[_run_view(run, anchors[run.name], drawings, galleries, most) for run in report.runs],
        store=_store_view(report.store, drawings, sizes) if report.store and sizes else None,
        examples=galleries.examples,
        features=drawings.features,
        notes=[*report.notes, *galleries.notes, *notes],
    )


def _template() -> "Template":
    try:
        import jinja2
    except ImportError as error:
        raise FeatxError(f"a report needs jinja2 ({error}): pip install 'featx[report]'") from error
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_fit,
    )
    return environment.from_string(_read("page.html"))


def _fit(value: object) -> object:
    """Make untrusted text fit for a page: no control characters, no lone surrogates, not endless."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    line = one_line(value)
    # A picture is long, but featx's own.
    if len(line) <= _MOST_CHARACTERS or line.startswith("data:image/jpeg;base64,"):
        return line
    return line[: _MOST_CHARACTERS - 1] + "…"


def _read(name: str) -> str:
    # Universal newlines: what a browser hashes has no carriage returns.
    return importlib.resources.files(__package__).joinpath("template", name).read_text(encoding="utf-8")


def _policy(css: str, script: str) -> str:
    return (
        f"default-src 'none'; style-src {_digest(css)}; script-src {_digest(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def _facts(report: Report) -> list[tuple[str, str]]:
    facts = [("Test images", f"{report.n_rows:,}"), ("Classes", f"{len(report.classes):,}")]
    facts.append(("Runs", f"{len(report.runs):,}"))
    if report.majority is not None:
        facts.append(("Always the majority class", percent(report.majority)))
    pair = report.answer.pair
    if pair is not None:
        facts.append(("Only the frozen features right", f"{pair.n_first_only:,} images"))
        facts.append(("Only the fine-tuned network right", f"{pair.n_second_only:,} images"))
    return facts


def _say_shortened(report: Report, drawings: Drawings, n_cells: int, most: int) -> str:
    """Return what the page has no room for, in one sentence; empty if that is nothing."""
    parts = []
    if drawings.left_out:
        owners = [short_name(name, 40) for name in drawings.left_out]
        others = f" and {len(owners) - 3:,} more runs" if len(owners) > 3 else ""
        parts.append(f"figures of {', '.join(owners[:3])}{others} (featx plot draws each)")
    if n_cells:
        parts.append(f"{n_cells:,} cells with lower validation accuracy (in the cells.csv of their runs)")
    n_classes = max(len(run.per_class) for run in report.runs) - most
    if n_classes > 0:
        parts.append(f"{n_classes:,} classes of each run with fewer test images (in its per_class.csv)")
    if report.store is not None:
        n_classes, n_rejected = len(report.store.counts) - MOST_ROWS, len(report.store.rejected) - _MOST_REJECTED
        parts += [f"{n_classes:,} classes of the store (featx info lists them)"] if n_classes > 0 else []
        parts += [f"{n_rejected:,} rejected files (featx info lists them)"] if n_rejected > 0 else []
    return f"Left out, to keep the page small: {'; '.join(parts)}." if parts else ""


def _cell_rows(report: Report, anchors: Mapping[str, str], most: int) -> tuple[list[dict[str, object]], int]:
    """Return the table's rows, the chosen cells first, and how many of other cells there is no room for."""
    rows, n_left_out = [], 0
    for run in report.runs:
        others = [cell for number, cell in enumerate(run.run.cells) if number != run.run.chosen]
        others.sort(key=lambda cell: -1 if cell.validation_accuracy is None else cell.validation_accuracy, reverse=True)
        n_left_out += max(0, len(others) - most + 1)
        rows += [_cell_row(run, cell, anchors[run.name]) for cell in (run.run.best, *others[: most - 1])]
    # Stable: within each, runs and cells stay in their order.
    return sorted(rows, key=lambda row: not row["is_chosen"]), n_left_out


def _cell_row(run: ReportedRun, cell: Cell, anchor: str) -> dict[str, object]:
    is_chosen = cell is run.run.best
    validation, deviation = cell.validation_accuracy, cell.validation_deviation
    spread = f" ± {100 * deviation:.1f}" if validation is not None and deviation is not None else ""
    test, bounds = (run.compared.accuracy, run.compared.accuracy_interval) if is_chosen else (None, None)
    memory = run.run.peak_memory if is_chosen else None
    return {
        "run": run.name,
        "anchor": anchor,
        "is_chosen": is_chosen,
        "model": name_model(run.run, discretize=cell.discretize),
        "settings": _format_cell(cell),
        "error": cell.error,
        "note": cell.note,
        "numbers": [
            (validation, "" if validation is None else percent(validation) + spread + _format_measure(run.run, cell)),
            (test, "" if test is None else percent(test)),
            (bounds[0] if bounds else None, _interval(bounds) if bounds else ""),
            (cell.seconds, _seconds(cell.seconds)),
            (memory, "" if memory is None else f"{memory / 1e9:.2f} GB"),
        ],
    }


def _format_measure(run: Run, cell: Cell) -> str:
    """Return in brackets how a validation accuracy was measured, if not on plain validation rows."""
    folds, weight = run.protocol.get("cv"), run.protocol.get("sample_weight")
    choose_by, score = run.protocol.get("choose_by", "accuracy"), cell.validation_score
    parts = [f"{folds} folds"] if folds else []
    parts += [f"weighted by {weight}"] if weight else []
    parts += [f"{choose_by} {score:.3f}"] if choose_by != "accuracy" and score is not None else []
    return f" ({', '.join(parts)})" if parts else ""


def _format_cell(cell: Cell) -> str:
    discretized = "" if cell.discretize == "none" else f"{cell.discretize} "
    return (discretized + format_params(cell.params)).strip()


def _run_view(run: ReportedRun, anchor: str, drawings: Drawings, galleries: Galleries, most: int) -> dict[str, object]:
    # The classes with the most test images, in their own order.
    largest = run.per_class["support"].nlargest(most).index
    per_class = run.per_class[run.per_class.index.isin(largest)]
    return {
        "name": run.name,
        "anchor": anchor,
        "model": name_model(run.run),
        "chosen": _format_cell(run.run.best),
        "facts": _run_facts(run),
        "drawn": drawings.runs.get(run.name, ()),
        "classes": [
            (name, *(f"{score:.3f}" for score in (row.precision, row.recall, row.f1)), f"{row.support:,.0f}")
            for name, row in zip(per_class.index, per_class.itertuples(index=False), strict=True)
        ],
        "settings": _run_settings(run),
        "gallery": galleries.wrong[run.name],
        "notes": run.notes,
    }


def _run_facts(run: ReportedRun) -> list[tuple[str, str]]:
    compared, test, best = run.compared, run.run.test or {}, run.run.best
    facts = [("Test accuracy", f"{percent(compared.accuracy)} {_interval(compared.accuracy_interval)}")]
    if best.validation_accuracy is not None:
        facts.append(("Validation accuracy", percent(best.validation_accuracy) + _format_measure(run.run, best)))
    # All scores of the record are weighted if rows have weights; the accuracy above is not.
    weighted = format_weight(run.run)
    if weighted and _is_number(test.get("accuracy")):
        facts.append((f"Test accuracy{weighted}", percent(test["accuracy"])))
    facts += [
        (label + weighted, f"{test[name]:.3f}") for name, label in _TEST_SCORES.items() if _is_number(test.get(name))
    ]
    facts.append(("Training", f"{_seconds(compared.training_seconds)} s"))
    if compared.predict_seconds is not None:
        facts.append(("To label 1,000 images", f"{_seconds(compared.predict_seconds)} s"))
    if compared.n_parameters is not None:
        facts.append(("Numbers fitted", f"{compared.n_parameters:,}"))
    if run.run.peak_memory is not None:
        facts.append(("Memory", f"{run.run.peak_memory / 1e9:.2f} GB"))
    return facts


def _run_settings(run: ReportedRun) -> list[tuple[str, str]]:
    shown: dict[str, object] = {"folder": run.saved.folder, "created": run.run.created}
    shown |= {name: value for name, value in run.run.protocol.items() if name != "classes" and value is not None}
    names = ("path", "backbone", "weights", "weights_sha256", "layers", "n_features", *_STORE_SETTINGS[3:])
    shown |= {
        f"store {name.removeprefix('store_')}": run.run.store[name]
        for name in names
        if run.run.store.get(name) not in (None, [], "")
    }
    if run.run.baseline:
        shown["weights_sha256"] = run.run.baseline.get("weights_sha256")
    shown |= {f"version of {name}": version for name, version in run.run.versions.items()}
    return [(name, _text(value)) for name, value in shown.items()]


def _store_view(store: StoreData, drawings: Drawings, sizes: ImageSizes) -> dict[str, object]:
    settings, totals = store.attributes, store.counts.sum()
    rejected = list(store.rejected.itertuples(index=False, name=None))
    counts = store.counts.iloc[:MOST_ROWS]
    return {
        "facts": [
            ("Images", f"{len(store.images):,}"),
            ("Features per image", f"{store.n_features:,}"),
            ("Image files", format_sizes(sizes)),
            ("Seen by the network", f"{settings.get('image_size', '?')} pixels, {settings.get('resize', '?')}"),
            ("Rejected files", f"{len(rejected):,}"),
            ("Columns", ", ".join(store.columns)),
        ],
        "drawn": drawings.data,
        "splits": list(store.counts.columns),
        "counts": [
            (name, [f"{count:,} ({percent(count / total)})" for count, total in zip(row, totals, strict=True)])
            for name, row in zip(counts.index, counts.to_numpy(), strict=True)
        ],
        "rejected": rejected[:_MOST_REJECTED],
        "settings": [
            (name, _text(value))
            for name, value in {
                "path": store.path,
                **{name: settings[name] for name in _STORE_SETTINGS if name in settings},
            }.items()
        ],
    }


def _interval(bounds: Sequence[float]) -> str:
    return f"[{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}]"


def _seconds(seconds: float) -> str:
    return f"{seconds:,.1f}" if seconds < 1000 else f"{seconds:,.0f}"


def _is_number(value: object) -> bool:
    return isinstance(value, float) and bool(np.isfinite(value))


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
