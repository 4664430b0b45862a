"""The cases are in jq's own format, and libjq gives what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.transforms.jq.cases import Case, read_cases
from tests.transforms.jq.comparison import read, same
from tests.transforms.jq.oracle import Oracle

FILES = sorted(Path(__file__).with_name("cases").glob("*.test"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_libjq_gives_the_same_but_where_a_case_says_why_not(file):
    wrong = []
    with Oracle() as oracle:
        for case in read_cases(file):
            answer = oracle.ask(case.program, case.input or "null")
            if case.departs is not None:
                continue
            if answer is None:
                wrong.append(f"{case.place}: libjq died of {case.program}")
            elif case.input is None:
                if answer.refused is None:
                    wrong.append(f"{case.place}: libjq compiles {case.program}")
            elif (answer.refused, answer.error) != (None, None) or not same(
                [read(line) for line in answer.outputs], [read(line) for line in case.expected]
            ):
                wrong.append(f"{case.place}: {case.program}\n  libjq: {answer}")
    assert not wrong, "\n".join(wrong)


def test_a_file_of_cases_is_read_as_jq_reads_it(tmp_path):
    file = tmp_path / "some.test"
    file.write_text(
        "# comment\n.a\n{}\nnull\n1\n# ends it\n\n%%FAIL\n.a b\njq: error\n    .a b\n\n"
        "#: exact\n.\n1\n1\n\nempty\nnull\n"
    )

    assert list(read_cases(file)) == [
        Case("some.test", 2, ".a", "{}", ["null", "1"]),
        Case("some.test", 9, ".a b", None, ["jq: error", "    .a b"], message_matters=True),
        Case("some.test", 14, ".", "1", ["1"], departs="exact"),
        Case("some.test", 18, "empty", "null", []),
    ]
