"""docs/reference/jq.md names every builtin and format, and none that isn't there."""

from __future__ import annotations

import re
from pathlib import Path

from transforms.jq.builtins import FORMATS
from transforms.jq.builtins.regex import MATCH_SECONDS
from transforms.jq.errors import LARGEST_ARRAY, LARGEST_TEXT
from transforms.jq.json_text import DEEPEST, MOST_DIGITS, SHOWN
from transforms.jq.limits import MOST_OUTPUTS, SECONDS
from transforms.jq.names import REFUSED, known_functions

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "reference" / "jq.md").read_text("utf-8")


def section(title):
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_every_builtin_is_listed_and_nothing_else():
    rows = "\n".join(line for line in section("Functions").splitlines() if line.startswith("| "))
    listed = {
        (name, arguments.count(";") + 1 if arguments else 0)
        for name, arguments in re.findall(r"`([A-Za-z_]\w*)(?:\(([^)]*)\))?`", rows)
    }
    assert listed == known_functions()


def test_every_format_is_listed_and_nothing_else():
    formats = re.search(r"^Formats: (.*)$", section("Functions"), re.MULTILINE)
    assert formats is not None
    assert set(re.findall(r"`@(\w+)`", formats[1])) == set(FORMATS)


def test_every_refused_name_is_listed():
    refused = section("What is refused")
    assert [name for name in REFUSED if f"`{name}`" not in refused] == []


def test_limits_are_those_of_the_code():
    limits = section("Errors and limits")
    assert f"| {SECONDS:g} s |" in limits
    assert f"regular expression | {MATCH_SECONDS:g} s |" in limits
    assert f"{MOST_OUTPUTS:,}" in limits
    assert f"{LARGEST_TEXT // 2**20} M characters" in limits
    assert f"{LARGEST_ARRAY // 10**6} M elements" in limits
    assert f"{DEEPEST:,}" in limits
    assert f"{SHOWN} bytes" in limits
    assert f"{MOST_DIGITS:,} digits" in section("Numbers")
