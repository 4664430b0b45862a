"""Our engine gives what the cases say; the runner of `make conformance` tells what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.transforms.jq.cases import read_cases
from tests.transforms.jq.conformance import judge, main

FILES = sorted(Path(__file__).with_name("cases").glob("*.test"))

MIXED = """\
# a comment
.[] | . + 1
[1, 2]
2
3.0

.a
{"a": 1}
2

.[]
[1, 2]
1

1, error("after the outputs")
null
1

$ENV
null
{}

%%FAIL
.a b
jq: error: whatever jq says

%%FAIL IGNORE MSG
.a

.[0] + 1
[9007199254740993]
9007199254740992
"""


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_case_gives_what_it_says(file):
    verdicts = [(case, judge(case)) for case in read_cases(file)]

    wrong = [
        f"{case.place}: {case.program}\n  {verdict.reason}: {verdict.got}\n  not {verdict.wanted}"
        for case, verdict in verdicts
        if verdict.kind != "passed"
    ]
    assert not wrong, "\n".join(wrong)
    assert len(verdicts) > 30


def test_the_runner_tells_what_passed_failed_was_refused_and_departs(tmp_path, capsys):
    file = tmp_path / "mixed.test"
    file.write_text(MIXED)

    code = main([str(file)])

    shown = capsys.readouterr().out
    assert code == 1
    assert shown.endswith("3 passed, 3 failed, 1 refused, 1 departs\n")
    assert f"failed  {at('.a')}: other outputs\n    .a\n      expected 2\n      got      1" in shown
    assert f"{at('.[]')}: other outputs\n    .[]\n      expected 1\n      got      1 · 2" in shown
    assert f"refused {at('$ENV')}: $ENV: a flow may not read the environment" in shown
    assert f"{at('.a', last=True)}: it compiles" in shown
    assert f"departs {at('.[0] + 1')}: exact integers" in shown


def at(program, *, last=False):
    lines = MIXED.split("\n")
    found = len(lines) - lines[::-1].index(program) if last else lines.index(program) + 1
    return f"mixed.test:{found}"


def test_the_runner_ends_with_0_when_nothing_failed(tmp_path, capsys):
    file = tmp_path / "fine.test"
    file.write_text(".a\n{}\nnull")

    assert main([str(file)]) == 0
    assert capsys.readouterr().out == "1 passed, 0 failed, 0 refused, 0 departs\n"


def test_the_runner_says_which_file_it_cannot_read(tmp_path, capsys):
    assert main([str(tmp_path / "absent.test")]) == 2
    assert "absent.test" in capsys.readouterr().err
