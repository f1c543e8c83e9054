"""Format a run as tables and lines of text, for a screen and for CSV."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from featx.results.record import Run

_TEST_SCORES = ("balanced_accuracy", "macro_f1", "mcc", "roc_auc", "log_loss")


def cells_table(run: Run) -> pd.DataFrame:
    """Return the cells as a table: one column per parameter; only the chosen cell has a test accuracy.

    `validation` and `deviation` are of the accuracy; the score that cells were chosen by is next to them if it is
    another. A fine-tuned network sees pixels: it has no discretization.
    """
    names = list(dict.fromkeys(name for cell in run.cells for name in cell.params))
    choose_by = run.protocol.get("choose_by", "accuracy")
    rows: list[dict[str, object]] = []
    for row, cell in enumerate(run.cells):
        is_chosen = row == run.chosen
        rows.append(
            {
                "model": run.model,
                **({} if run.is_finetuned else {"discretize": cell.discretize}),
                **{name: cell.params.get(name) for name in names},
                "validation": cell.validation_accuracy,
                "deviation": cell.validation_deviation,
                **({} if choose_by == "accuracy" else {f"validation {choose_by}": cell.validation_score}),
                "test": run.test["accuracy"] if is_chosen and run.test else None,
                "seconds": cell.seconds,
                "error": cell.error,
                "chosen": "*" if is_chosen else "",
                "note": cell.note,
            }
        )
    table = pd.DataFrame(rows)
    return table.dropna(axis="columns", how="all")


def layers_table(run: Run) -> pd.DataFrame:
    """Return the scores of each layer that were asked for, one row per layer; NaN where there is none."""
    table = pd.DataFrame(list(run.layers))
    scores = [name for name in table.columns if name not in ("layer", "n_features")]
    return table.astype({"layer": str} | dict.fromkeys(scores, float))


def format_test(run: Run) -> str:
    """Return the test scores as a line of text."""
    if run.test is None:
        return "no test rows: no test accuracy"
    interval = run.test.get("accuracy_interval")
    bounds = f" [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else ""
    others = [
        f"{name.replace('_', ' ')} {run.test[name]:.4f}" for name in _TEST_SCORES if run.test.get(name) is not None
    ]
    return (
        f"test accuracy {run.test['accuracy']:.4f}{bounds} on {run.protocol['n_test']:,} images{format_weight(run)} "
        f"(always the majority class: {run.test['majority_class_rate']:.4f}); {', '.join(others)}"
    )


def format_weight(run: Run) -> str:
    """Return `, weighted by <column>` if a run's scores are weighted; else nothing."""
    weight = run.protocol.get("sample_weight")
    return f", weighted by {weight}" if weight else ""


def format_validation(run: Run) -> str:
    """Return on what rows, and with which weights, a run's validation scores were measured."""
    folds = run.protocol.get("cv")
    return (f"as the mean over {folds} folds" if folds else "on validation rows") + format_weight(run)


def format_table(table: pd.DataFrame) -> str:
    """Format a table for a screen: accuracies with four decimals, seconds with one."""
    import tabulate

    text = {name: [_format_value(value, _decimals(name)) for value in column] for name, column in table.items()}
    return tabulate.tabulate(text, headers="keys", tablefmt="github", disable_numparse=True)


def _decimals(column: str) -> str:
    if column.startswith(("validation", "deviation", "test", "alone", "cumulative", "without", "importance")):
        return "{:.4f}"
    return "{:.1f}" if "seconds" in column else "{:g}"


def _format_value(value: object, number: str) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return str(value)
    # {:g} would round large counts.
    is_count = number == "{:g}" and float(value).is_integer() and abs(value) < 2**53
    return f"{value:.0f}" if is_count else number.format(value)


def format_params(params: Mapping[str, object]) -> str:
    """Return `kernel=rbf C=10` and the like."""
    return " ".join(f"{name}={_format_value(value, '{:g}')}" for name, value in params.items())
