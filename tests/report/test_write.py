"""The page: whole, alone, the same every time, and a stranger's names are text in it."""

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
from featx.report.figures.style import new_figure
from featx.report.panels import Easel, Panel, run_panels

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


def test_strangers_names_are_text(page, written):
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
    page = Page(write_report(copied, tmp_path / "r.html").read_text(encoding="utf-8"))
    assert page.texts["td"].count("SVM on ternary frozen features") == 1
    assert page.texts["td"].count("SVM on frozen features") == 5


def test_which_figures_a_run_has(results):
    headings = {run.name: [panel.heading for panel in run_panels(run)] for run in gather(results).runs}
    both = ["Confusion matrix", "Confusion matrix, shares"]
    assert headings["logreg"] == [*both, "Reliability", "ROC curves", "The grid"]
    assert headings["svm"] == [*both, "ROC curves", "The grid"]
    assert headings["older"] == [*both, "The grid"]
    assert headings["tuned"] == [*both, "Reliability", "ROC curves", "Training curves"]


def test_the_same_runs_give_the_same_bytes(results, tmp_path):
    once, again = (write_report(results / "svm", tmp_path / name) for name in ("once.html", "again.html"))
    assert again.read_bytes() == once.read_bytes()


def test_features_have_a_section_of_their_own(results, tmp_path):
    figure, ax = new_figure()
    ax.plot([0, 1], [1, 0])
    panel = Panel("Covariance <of> layers", figure, "Sorted by class.")
    text = write_report(results / "older", tmp_path / "r.html", features=[panel]).read_text(encoding="utf-8")
    page = Page(text)
    assert "features" in [attributes.get("id") for attributes in page.of("section")]
    assert any("Covariance <of> layers" in said for said in page.texts["figcaption"])


def test_features_are_shown_by_what_the_runs_tell_apart(tmp_path):
    table = make_table(60).assign(label="", grade=[("fair", "good")[row % 2] for row in range(60)])
    named = table.assign(label=table["grade"])
    protocol = {"label": "grade", "classes": ["fair", "good"]}
    run = make_run(tmp_path / "run", named, store_path=make_store(tmp_path, table), protocol=protocol)
    text = write_report(run, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "no image has a label" not in text
    assert any(said.startswith("Principal components") for said in Page(text).texts["figcaption"])


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


def test_many_classes_and_cells_stay_small(tmp_path):
    table = make_table(1000, classes=[f"class {number:03d}" for number in range(100)])
    options = {"store_path": "gone.h5"}
    run = make_run(tmp_path / "run", table, **options)
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"cells": record["cells"] * 100}))
    text = write_report(run, tmp_path / "r.html").read_text(encoding="utf-8")
    assert len(text) < 400_000
    assert text.count('<th scope="row"><a href="#run-1">') == 100
    assert "500 further cells" in text


def test_of_very_many_classes_those_with_the_most_images_have_a_row(results, tmp_path, monkeypatch):
    monkeypatch.setattr("featx.report.page.MOST_CLASSES", 2)
    report = gather(results / "older")
    page = Page(write_report(results / "older", tmp_path / "r.html").read_text(encoding="utf-8"))
    shown = "".join(page.text)
    assert "1 classes with fewer test images are in per_class.csv" in shown
    assert "1 further classes are in the store" in shown
    kept = report.runs[0].per_class["support"].nlargest(2).index
    assert set(kept) <= {text.strip() for text in page.texts["th"]}


def test_figures_keep_to_their_budget():
    def panel(n_points):
        figure, ax = new_figure()
        rng = np.random.default_rng(0)
        ax.scatter(rng.random(n_points), rng.random(n_points), c=rng.random(n_points))
        return Panel("Points", figure, "Many.")

    easel = Easel()
    small = easel.draw(panel(5))
    assert small.markup.startswith("<svg")
    assert " style=" not in small.markup
    assert "{" in easel.css
    # Too many to draw each: a picture of few colours.
    large = easel.draw(panel(3000))
    assert large.markup.startswith('<img alt="Points. Many."')
    assert 50_000 < len(large.markup) < 200_000
    assert easel.spent == len(small.markup) + len(large.markup)
    mean = Easel(budget=len(small.markup) + 10)
    assert not mean.is_full
    assert mean.draw(panel(5)) is not None
    assert mean.is_full
    assert mean.draw(panel(5)) is None


def test_a_budget_that_is_spent_is_told(results, tmp_path, monkeypatch):
    monkeypatch.setattr("featx.report.write.Easel", lambda: Easel(budget=30_000))
    page = Page(write_report(results, tmp_path / "r.html").read_text(encoding="utf-8"))
    assert 1 <= "".join(page.text).count("Its figures are left out, to keep the page small") <= 3


def test_a_file_that_is_there_stays_unless_told(results, tmp_path):
    path = tmp_path / "r.html"
    path.write_text("mine")
    with pytest.raises(FeatxError, match="exists"):
        write_report(results, path)
    assert path.read_text() == "mine"
    write_report(results / "older", path, overwrite=True)
    assert path.read_text().startswith("<!DOCTYPE html>")


def test_what_fails_leaves_nothing(results, tmp_path, monkeypatch):
    def fail(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("featx.system.files.os.fsync", fail)
    with pytest.raises(FeatxError, match="No space left"):
        write_report(results / "older", tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_a_library_that_is_missing_is_named(results, tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(FeatxError, match=r"pip install 'featx\[report\]'"):
        write_report(results / "older", tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []


def invoke(*arguments):
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def test_the_command_writes_the_page_and_says_the_answer(results, tmp_path):
    done = invoke(results / "svm", results / "tuned", tmp_path / "nowhere", "-o", tmp_path / "r.html", "--title", "T")
    assert done.exit_code == 0, done.output
    assert gather([results / "svm", results / "tuned"]).answer.sentence in done.stdout
    assert "2 runs" in done.stdout
    assert "nowhere: no such folder" in done.stderr
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert page.texts["title"][0] == "T"


def test_the_command_tells_scripts(results, tmp_path):
    done = invoke(results / "older", "-o", tmp_path / "r.html", "--json")
    record = json.loads(done.stdout)
    assert record["bytes"] == (tmp_path / "r.html").stat().st_size
    assert record["runs"] == ["older"]
    assert record["answer"]["finetuned"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no run to report on"),
        (["{results}", "--root", "nowhere"], "nowhere: no such folder"),
        (["{results}", "-o", "{results}"], "a folder; give the name of a file"),
    ],
)
def test_what_a_user_can_mend_is_one_line(results, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    done = invoke(*(argument.replace("{results}", str(results)) for argument in arguments))
    assert done.exit_code == 1
    assert re.fullmatch(r"featx: .*\n", done.stderr)
    assert message in done.stderr
