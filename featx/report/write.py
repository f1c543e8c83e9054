"""Runs as one page that a person can read in a minute, mail, and open in ten years."""

from collections.abc import Callable, Sequence
from pathlib import Path

from featx.errors import FeatxError
from featx.report.data import Report, ReportedRun, gather, most_confused
from featx.report.dataset import count_sizes
from featx.report.figures.store_figures import N_CLOSER, describe_features
from featx.report.galleries import choose_galleries
from featx.report.page import Drawings, render_page
from featx.report.panels import Drawn, Easel, Panel, answer_panel, data_panels, run_panels
from featx.system import check_writable, progress_bar, whole_file

TITLE = "Frozen features and a fine-tuned network"


def write_report(
    results: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    title: str | None = None,
    root: str | Path | None = None,
    features: Sequence[Panel] | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Write a report of runs: one HTML file that needs no network and no server.

    The same runs, store and images give the same bytes.

    Parameters
    ----------
    results : path, or sequence of path
        Folders of runs, or folders that hold some.
    output : path
        The file.
    title : str, optional
    root : path, optional
        Where the images are now; default: where the store says.
    features : sequence of Panel, optional
        Figures for the section of the features, which there is only with some. Default: what
        `featx.report.figures.store_figures.describe_features` draws of the store, where it is there.
    overwrite : bool, default False
        Replace a file that is there.
    progress : bool, default False
        Show progress bars, if standard error is a terminal.

    Returns
    -------
    Path
        The file, written whole.

    Raises
    ------
    FeatxError
        If no run is left to report on, the output is taken or can't be written, or a library is missing.

    Examples
    --------
    >>> write_report("results", "report.html")               # doctest: +SKIP
    """
    check_writable(Path(output), overwrite=overwrite)
    report = gather(results)
    return write_page(report, output, title=title, root=root, features=features, overwrite=overwrite, progress=progress)


def write_page(
    report: Report,
    output: str | Path,
    *,
    title: str | None = None,
    root: str | Path | None = None,
    features: Sequence[Panel] | None = None,
    overwrite: bool = False,
    progress: bool = False,
    mark: str = "",
) -> Path:
    """Write what was gathered; see `write_report`. `mark` is a comment of HTML that the file ends with."""
    output = Path(output)
    check_writable(output, overwrite=overwrite)
    if root is not None and not Path(root).is_dir():
        raise FeatxError(f"{root}: no such folder; --root is where the paths of the store's images start")
    galleries = choose_galleries(report, root=Path(root) if root is not None else None, progress=progress)
    sizes = None
    if report.store is not None:
        paths = report.store.images["path"].tolist()
        sizes = count_sizes(paths, Path(root) if root is not None else report.store.root)
    notes: list[str] = []
    if features is None:
        features = _feature_panels(report, root, notes.append)
    easel = Easel()
    drawings = _draw(report, features, easel, progress=progress)
    page = render_page(report, drawings, galleries, sizes, title=title or TITLE, notes=notes)
    with whole_file(output) as file:
        file.write((page + mark).encode("utf-8"))
    return output


def _feature_panels(report: Report, root: str | Path | None, note: Callable[[str], None]) -> list[Panel]:
    """Draw the store's features; classes that the best run confuses most are looked at more closely."""
    if report.store is None:
        return []
    images_root = root if root is not None else report.store.root
    # What the runs tell apart, which need not be the column called label.
    label = str(report.runs[0].run.protocol.get("label") or "label")
    try:
        drawn = describe_features(
            report.store.path,
            label=label if label in report.store.columns else "label",
            images_root=images_root,
            classes=most_confused(report, N_CLOSER),
            echo=note,
        )
    except FeatxError as error:
        # The page is about the runs: it is whole without them.
        note(f"figures of the features are left out: {error}")
        return []
    return [Panel(*item) for item in drawn]


def _draw(report: Report, features: Sequence[Panel], easel: Easel, *, progress: bool) -> Drawings:
    """Draw what matters most first: where the budget ends, the runs of the answer have their figures."""
    answer = easel.draw(answer_panel(report))
    data = _keep(easel.draw(panel) for panel in data_panels(report))
    names = (report.answer.classical, report.answer.finetuned)
    best = [run for run in report.runs if run.name in names]
    others = [run for run in report.runs if run.name not in names]
    with progress_bar(len(report.runs), wanted=progress, unit="run") as bar:
        runs = _draw_runs(best, easel, bar.update)
        drawn_features = _keep(easel.draw(panel) for panel in features)
        runs |= _draw_runs(others, easel, bar.update)
    return Drawings(answer=answer, data=data, features=drawn_features, runs=runs, css=easel.css)


def _draw_runs(
    runs: Sequence[ReportedRun], easel: Easel, advance: Callable[[], object]
) -> dict[str, tuple[Drawn, ...]]:
    drawn = {}
    for run in runs:
        if not easel.is_full:
            drawn[run.name] = _keep(easel.draw(panel) for panel in run_panels(run))
        advance()
    return drawn


def _keep(drawn: object) -> tuple[Drawn, ...]:
    return tuple(figure for figure in drawn if figure is not None)
