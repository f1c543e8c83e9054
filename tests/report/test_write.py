"""The page: whole, alone, the same every time, and untrusted names are text in it."""

import base64
import hashlib
import json
import re
import shutil
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from click.testing import CliRunner
from report_runs import BAD_FILE, CLASSES, SCRIPT, make_results, make_run, make_store, make_table

from featx import FeatxError
from featx.cli import main
from featx.report import gather, write_report
from featx.report.figures import Panel
from featx.report.figures.style import new_figure
from featx.report.galleries import Galleries, Gallery
from featx.report.page import render_page
from featx.report.panels import Drawings, Drawn, FigureBudget, run_panels

VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """What a browser's parser makes of a page: elements with their attributes, and the text within each kind."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.text, self.texts = [], [], [], {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        self.text.append(data)
        for tag in set(self.open):
            self.texts.setdefault(tag, []).append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def written(results):
    return write_report(results, results.parent / "report.html", title="What <i>we</i> found")


@pytest.fixture(scope="module")
def page(written):
    found = Page(written.read_text(encoding="utf-8"))
    assert found.open == []
    return found


@pytest.fixture
def no_figures(monkeypatch):
    """Pages without figures, where these don't matter."""
    monkeypatch.setattr("featx.report.write._draw", lambda *args, **options: Drawings())


def render(folder):
    """Lay out a page of runs without figures and images."""
    report = gather(folder)
    galleries = Galleries(dict.fromkeys((run.name for run in report.runs), Gallery(())))
    return render_page(report, Drawings(), galleries, None, title="T")


def test_the_page_is_one_well_formed_file(page):
    assert [attributes["lang"] for attributes in page.of("html")] == ["en"]
    names = [attributes["name"] for attributes in page.of("meta") if "name" in attributes]
    assert "viewport" in names
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert len(page.of("h1")) == len(page.of("main")) == 1
    assert all(image["alt"] for image in page.of("img"))
    assert all("scope" in attributes for attributes in page.of("th"))
    assert len(page.of("caption")) == len(page.of("table"))


def test_nothing_is_asked_of_anybody(page):
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "data", "poster", "srcset", "action"):
                assert value.startswith(("#", "data:")), (tag, name, value)
            assert not name.startswith("on"), (tag, name)
            # The policy takes no style attributes.
            assert name != "style", (tag, value)
    assert "@import" not in "".join(page.texts["style"])
    assert "url(" not in "".join(page.texts["style"]).replace("url(#", "")


def test_the_policy_names_the_styles_and_the_script_by_digest(page):
    (policy,) = (meta["content"] for meta in page.of("meta") if "http-equiv" in meta)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for rule, tag in (("style-src", "style"), ("script-src", "script")):
        assert len(page.of(tag)) == 1
        digest = base64.b64encode(hashlib.sha256("".join(page.texts[tag]).encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"


def test_untrusted_names_are_text(page, written):
    shown = "".join(page.text)
    for name in (*CLASSES, "a note with <b>markup</b>", 'it\'s a "store" <b>.h5', "What <i>we</i> found"):
        assert name in shown, name
    assert BAD_FILE in shown
    assert not any(attributes.get("src") == "x" for attributes in page.of("img"))
    assert "alert" not in "".join(page.texts["script"])
    assert page.of("i") == []
    text = written.read_text(encoding="utf-8")
    assert SCRIPT not in text
    assert "<img src=x" not in text


def test_classes_in_figures_are_text_too(page):
    # Long names are cut.
    assert any(SCRIPT[:20] in text for text in page.texts["svg"])


def test_the_first_screen_says_what_was_found(page, results):
    report = gather(results)
    shown = "".join(page.text)
    assert report.answer.sentence in shown
    assert report.answer.question in "".join(page.texts["h2"])
    sections = [attributes.get("id") for attributes in page.of("section")]
    assert sections == ["answer", "table", "runs", "run-1", "run-2", "run-3", "run-4", "data", "features"]


def test_every_cell_has_a_row_that_links_to_its_run(page):
    links = [attributes["href"] for attributes in page.of("a") if attributes["href"].startswith("#run-")]
    # Two classifiers of six cells, a third of six, and two stages.
    assert sorted(links) == sorted(["#run-1"] * 6 + ["#run-2"] * 6 + ["#run-3"] * 6 + ["#run-4"] * 2)


def test_a_cell_is_called_by_its_own_discretization(results, tmp_path):
    copied = shutil.copytree(results / "svm", tmp_path / "svm")
    record = json.loads((copied / "run.json").read_text())
    record["cells"][1]["discretize"] = "ternary"
    (copied / "run.json").write_text(json.dumps(record))
    page = Page(render(copied))
    assert page.texts["td"].count("SVM on ternary frozen features") == 1
    assert page.texts["td"].count("SVM on frozen features") == 5


def test_which_figures_a_run_has(results):
    headings = {run.name: [panel.heading for panel in run_panels(run.saved)] for run in gather(results).runs}
    both = ["Confusion matrix", "Confusion matrix, shares"]
    assert headings["logreg"] == [*both, "Reliability", "ROC curves", "The grid"]
    assert headings["svm"] == [*both, "ROC curves", "The grid"]
    assert headings["bare"] == [*both, "The grid"]
    assert headings["tuned"] == [*both, "Reliability", "ROC curves", "Training curves"]


def test_the_same_runs_give_the_same_bytes(results, tmp_path, monkeypatch):
    """Those of the features are compared where they are drawn."""
    monkeypatch.setattr("featx.report.write.summary_figures", lambda *args, **options: [])
    once, again = (write_report(results / "svm", tmp_path / name) for name in ("once.html", "again.html"))
    assert again.read_bytes() == once.read_bytes()


def test_the_features_have_a_section_of_their_own(page):
    captions = page.texts["figcaption"]
    assert {"Dead and constant features", "t-SNE, 2 layers", "Images of each class by split"} <= set(captions)


def test_features_are_shown_by_the_label_of_the_runs(tmp_path, monkeypatch):
    table = make_table(60).assign(label="", grade=[("fair", "good")[row % 2] for row in range(60)])
    named = table.assign(label=table["grade"])
    protocol = {"label": "grade", "classes": ["fair", "good"]}
    run = make_run(tmp_path / "run", named, store_path=make_store(tmp_path, table), protocol=protocol)
    asked = []
    monkeypatch.setattr("featx.report.write.run_panels", lambda run: [])
    monkeypatch.setattr("featx.report.write.summary_figures", lambda store, **options: asked.append(options) or [])
    write_report(run, tmp_path / "r.html")
    assert [options["label"] for options in asked] == ["grade"]


def test_without_a_store_the_page_says_so(results, tmp_path):
    copied = shutil.copytree(results / "svm", tmp_path / "svm")
    record = json.loads((copied / "run.json").read_text())
    (copied / "run.json").write_text(json.dumps(record | {"store": {"path": "gone.h5"}}))
    page = Page(write_report(copied, tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "gone.h5: the store isn't there" in "".join(page.text)
    assert page.of("img") == []


def test_names_that_no_text_holds_are_made_plain(tmp_path):
    table = make_table(40, classes=["aXX", "b\u202egnp"]).assign(path=[f"{row}\x1b[2J.png" for row in range(40)])
    make_run(tmp_path / "run", table, store_path="\x00.h5")
    answers = tmp_path / "run" / "predictions.csv"
    answers.write_bytes(answers.read_bytes().replace(b",aXX", b",a\xff"))
    text = write_report(tmp_path / "run", tmp_path / "r.html").read_text(encoding="utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", text)
    assert "[2J.png" in text
    assert "a\\xff" in text


def test_endless_names_are_cut(tmp_path):
    table = make_table(40, classes=["a" * 100_000, "b"])
    make_run(tmp_path / "run", table, store_path="gone.h5")
    assert write_report(tmp_path / "run", tmp_path / "r.html").stat().st_size < 300_000


def test_what_has_no_room_is_said_in_one_sentence(tmp_path, monkeypatch, no_figures):
    """Of cells those with the best validation accuracy are in the table, of classes those with the most images."""
    monkeypatch.setattr("featx.report.page.MOST_ROWS", 10)
    monkeypatch.setattr("featx.report.page._MOST_REJECTED", 1)
    table = make_table(120, classes=[f"class {number:03d}" for number in range(60)])
    run = make_run(tmp_path / "run", table, store_path=make_store(tmp_path, table, rejected=(0, 1)))
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"cells": record["cells"] * 20}))
    report = gather(run)
    page = Page(write_report(run, tmp_path / "r.html").read_text(encoding="utf-8"))
    assert sum(attributes["href"] == "#run-1" for attributes in page.of("a")) == 10
    n_classes = len(report.runs[0].per_class) - 10
    (said,) = (text for text in page.texts["p"] if text.startswith("Left out"))
    assert said == (
        "Left out, to keep the page small: 110 cells with lower validation accuracy (in the cells.csv of their runs); "
        f"{n_classes} classes of each run with fewer test images (in its per_class.csv); 50 classes of the store "
        "(featx info lists them); 1 rejected files (featx info lists them)."
    )
    shown = {text.strip() for text in page.texts["th"]}
    assert set(report.runs[0].per_class["support"].nlargest(10).index) <= shown


def make_panel(n_points):
    figure, ax = new_figure()
    rng = np.random.default_rng(0)
    ax.scatter(rng.random(n_points), rng.random(n_points), c=rng.random(n_points))
    return Panel("Points", figure, "Many.")


def test_figures_have_one_limit():
    budget = FigureBudget()
    # Too many points to draw each: a picture of few colours.
    small, large = budget.draw([make_panel(5), make_panel(3000)], "svm")
    assert small.markup.startswith("<svg")
    assert " style=" not in small.markup
    assert "{" in budget.css
    assert large.markup.startswith('<img alt="Points. Many."')
    assert 50_000 < len(large.markup) < 200_000
    assert budget.left_out == []
    # The last one may pass the limit.
    budget = FigureBudget(most=len(small.markup) + 10)
    assert len(budget.draw([make_panel(5)] * 3, "svm")) == 2
    assert budget.draw([make_panel(5)], "rf") == ()
    assert budget.left_out == ["svm", "rf"]


def test_figures_that_have_no_room_are_named(results, tmp_path, monkeypatch):
    """Those of the answer's two runs are drawn first."""
    panel = Panel("Points", None)
    monkeypatch.setattr(FigureBudget, "_draw", lambda budget, panel: Drawn(panel.heading, 1000 * "-", "", 100))
    monkeypatch.setattr("featx.report.write.FigureBudget", lambda: FigureBudget(most=8000))
    monkeypatch.setattr("featx.report.write.run_panels", lambda run: [panel] * 2)
    monkeypatch.setattr("featx.report.write.answer_panels", lambda report: [panel])
    monkeypatch.setattr("featx.report.write._store_panels", lambda *args: ([panel], []))
    page = Page(write_report(results, tmp_path / "r.html").read_text(encoding="utf-8"))
    (said,) = (text for text in page.texts["p"] if text.startswith("Left out"))
    assert "figures of logreg (featx plot draws each)" in said
    assert page.texts["figcaption"].count("Points") == 8


def test_a_file_that_is_there_stays_unless_it_is_to_be_replaced(results, tmp_path, no_figures):
    path = tmp_path / "r.html"
    path.write_text("mine")
    with pytest.raises(FeatxError, match="exists"):
        write_report(results, path)
    assert path.read_text() == "mine"
    write_report(results / "bare", path, overwrite=True)
    assert path.read_text().startswith("<!DOCTYPE html>")


def test_what_fails_leaves_nothing(results, tmp_path, monkeypatch, no_figures):
    def fail(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("featx.system.files.os.fsync", fail)
    with pytest.raises(FeatxError, match="No space left"):
        write_report(results / "bare", tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_a_library_that_is_missing_is_named(results, tmp_path, monkeypatch, missing):
    if missing == "jinja2":
        monkeypatch.setattr("featx.report.write._draw", lambda *args, **options: Drawings())
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(FeatxError, match=r"pip install 'featx\[report\]'"):
        write_report(results / "bare", tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []


def invoke(*arguments):
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def test_the_command_writes_the_page_and_says_the_answer(results, tmp_path, no_figures):
    options = ["-o", tmp_path / "r.html", "--title", "T"]
    done = invoke(results / "svm", results / "tuned", tmp_path / "nowhere", *options)
    assert done.exit_code == 0, done.output
    answer = gather([results / "svm", results / "tuned"]).answer
    assert answer.sentence in done.stdout
    assert "2 runs" in done.stdout
    assert "nowhere: no such folder" in done.stderr
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert page.texts["title"][0] == "T"
    done = invoke(results / "bare", "-o", tmp_path / "j.html", "--json")
    record = json.loads(done.stdout)
    assert record["bytes"] == (tmp_path / "j.html").stat().st_size
    assert record["runs"] == ["bare"]
    assert record["answer"]["finetuned"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no run to report on"),
        (["{results}", "--root", "nowhere"], "--root: nowhere: no such folder"),
    ],
)
def test_an_error_is_one_line(results, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    done = invoke(*(argument.replace("{results}", str(results)) for argument in arguments))
    assert done.exit_code == 1
    assert re.fullmatch(rf"featx: .*{message}.*\n", done.stderr)
