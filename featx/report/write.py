"""Write runs as one HTML page that a person can read in a minute, mail, and open in ten years."""

from collections.abc import Callable, Sequence
from pathlib import Path

from featx.errors import FeatxError
from featx.report.data import Report, gather, most_confused
from featx.report.dataset import count_sizes
from featx.report.figures import N_CLOSER, Panel, draw_classes, summary_figures
from featx.report.galleries import choose_galleries
from featx.report.page import render_page
from featx.report.panels import Drawings, FigureBudget, answer_panels, run_panels
from featx.store import Store
from featx.system import check_writable, progress_bar, whole_file

TITLE = "Frozen features and a fine-tuned network"


def write_report(
    results: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    title: str | None = None,
    root: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Write a report of runs: one HTML file that needs no network and no server.

    The same runs, store and images give the same bytes.

    Parameters
    ----------
    results : path, or sequence of path
        Folders of runs, or folders that contain some.
    output : path
        The file.
    title : str, optional
    root : path, optional
        Where the images are now; default: where the store says.
    overwrite : bool, default False
        Replace a file that exists.
    progress : bool, default False
        Show progress bars, if standard error is a terminal.

    Returns
    -------
    Path
        The file, written whole.

    Raises
    ------
    FeatxError
        If no run is left to report on, the output exists or can't be written, or a library is missing.

    Examples
    --------
    >>> write_report("results", "report.html")               # doctest: +SKIP
    """
    check_writable(Path(output), overwrite=overwrite)
    return write_page(gather(results), output, title=title, root=root, overwrite=overwrite, progress=progress)


def write_page(
    report: Report,
    output: str | Path,
    *,
    title: str | None = None,
    root: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = False,
    mark: str = "",
) -> Path:
    """Write what was gathered; see `write_report`. `mark` is a comment of HTML that the file ends with."""
    output = Path(output)
    check_writable(output, overwrite=overwrite)
    if root is not None and not Path(root).is_dir():
        raise FeatxError(f"{root}: no such folder; it is where the paths of the store's images start", parameter="root")
    sizes, images_root = None, None
    if report.store is not None:
        images_root = Path(root) if root is not None else report.store.root
        sizes = count_sizes(report.store.images["path"].tolist(), images_root)
    galleries = choose_galleries(report, images_root, progress=progress)
    notes: list[str] = []
    drawings = _draw(report, images_root, notes.append, progress=progress)
    page = render_page(report, drawings, galleries, sizes, title=title or TITLE, notes=notes)
    with whole_file(output) as file:
        file.write((page + mark).encode("utf-8"))
    return output


def _draw(report: Report, root: Path | None, note: Callable[[str], None], *, progress: bool) -> Drawings:
    """Draw the most important figures first, for the case that there is no room for all: the answer and its runs."""
    budget = FigureBudget()
    answer = budget.draw(answer_panels(report), "all runs")
    data, features = _store_panels(report, root, note)
    drawn_data = budget.draw(data, "the data")
    names = (report.answer.classical, report.answer.finetuned)
    runs, drawn_features = {}, ()
    with progress_bar(len(report.runs), wanted=progress, unit="run") as bar:
        for is_best in (True, False):
            for run in report.runs:
                if (run.name in names) is is_best:
                    runs[run.name] = budget.draw(run_panels(run.saved), run.name)
                    bar.update()
            if is_best:
                drawn_features = budget.draw(features, "the features")
    return Drawings(answer, drawn_data, drawn_features, runs, budget.css, tuple(budget.left_out))


def _store_panels(
    report: Report, root: Path | None, note: Callable[[str], None]
) -> tuple[Sequence[Panel], Sequence[Panel]]:
    """Plot the store's data and features; classes that the best run confuses most are also drawn by themselves."""
    data, features = [], []
    if report.store is not None:
        label = report.store.label_column
        try:
            with Store(report.store.path) as store:
                try:
                    data.append(draw_classes(store, label=label, split=report.store.split_column))
                except FeatxError as error:
                    note(f"the figure of the classes is left out: {error}")
                classes = most_confused(report, N_CLOSER)
                features = summary_figures(store, label=label, root=root, classes=classes, echo=note)
        except FeatxError as error:
            # The page is about the runs: it is whole without them.
            note(f"figures of the store are left out: {error}")
    return data, features
