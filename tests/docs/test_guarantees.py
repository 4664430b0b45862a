"""docs/guarantees.md: every promise names tests, and the tests exist."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from connectors import testing
from tests.docs.pages import ROOT, read

PAGE = "docs/guarantees.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::([\w:]+)`")
ROWS = [
    line
    for line in read(PAGE).splitlines()
    if line.startswith("| ") and not re.match(r"\| (Promise|Sink|---)", line)
]


@cache
def names_in(path: str) -> set[str]:
    """Return the tests in a file: `test_…`, and `Class::test_…` with those of the kit's classes."""
    found = set()
    for node in ast.parse(read(path)).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            own = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
            for base in node.bases:
                own |= set(dir(getattr(testing, getattr(base, "id", ""), None)))
            found |= {f"{node.name}::{name}" for name in own}
    return {name for name in found if name.split("::")[-1].startswith("test_")}


@pytest.mark.parametrize(("path", "name"), sorted(set(NAMED.findall(read(PAGE)))))
def test_a_test_that_the_page_names_exists(path, name):
    assert (ROOT / path).is_file(), f"there is no {path}"
    assert name in names_in(path), f"{path} has no {name}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:60])
def test_a_promise_names_a_test(row):
    assert NAMED.search(row) or row.count("|") > 3, row


def test_the_page_makes_promises():
    assert len([row for row in ROWS if NAMED.search(row)]) > 20
