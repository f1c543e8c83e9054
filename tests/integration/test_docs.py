"""The documents: what they name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROMISES = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([\w/]+\.py::\w+)`", PROMISES))))
def test_the_test_that_holds_a_promise_is_there(name):
    file, _, function = name.partition("::")
    assert re.search(rf"^def {function}\(", (ROOT / "tests" / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_every_promise_names_its_test():
    rows = [line for line in PROMISES.splitlines() if line.startswith("| ") and "held by" not in line]
    assert len(rows) > 10
    for row in rows:
        assert "---" in row or "test_" in row.rsplit("|", 2)[1], row
