"""Whatever a person types compiles, or is an ExpressionError with a place; never anything else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.transforms.jq.cases import read_cases
from tests.transforms.jq.engine import refusal
from tests.transforms.jq.oracle import Oracle
from tests.transforms.jq.programs import programs
from transforms.expressions.errors import ExpressionError
from transforms.jq import compile_program

CASES = int(os.environ.get("JQ_CASES", "400"))
SEED = int(os.environ.get("JQ_SEED", "20261121"))

WORDS = [
    *["if", "then", "elif", "else", "end", "as", "def", "reduce", "foreach", "try", "catch", "and"],
    *[
        "or",
        "not",
        "label",
        "break",
        "import",
        "include",
        "empty",
        "error",
        "map",
        "select",
        "path",
    ],
    *[
        ".",
        "..",
        ".a",
        '."a b"',
        ".[0]",
        ".[]",
        ".[1:2]",
        "[",
        "]",
        "{",
        "}",
        "(",
        ")",
        "|",
        ",",
        ":",
    ],
    *[
        ";",
        "=",
        "|=",
        "+=",
        "//=",
        "?//",
        "//",
        "?",
        "==",
        "!=",
        "<",
        "<=",
        "+",
        "-",
        "*",
        "/",
        "%",
    ],
    *[
        "$x",
        "$__loc__",
        "$",
        "@base64",
        "@",
        "1",
        "1.5e3",
        ".5",
        "1e",
        '"',
        '"a"',
        '"\\(',
        "\\",
        "\\u",
    ],
    *[
        "#",
        "# comment\n",
        "\n",
        "\t",
        "\r",
        "\0",
        "é",
        "😀",
        "\ufeff",
        "\ud800",
        "'",
        "`",
        "::",
        "f::g",
    ],
    *[
        "$ENV",
        "env",
        "input",
        "halt",
        "99999999999999999999",
        "1e999",
        "-",
        "--1",
        "reduce . as",
        "&",
    ],
]
TYPED = [
    case.program
    for file in sorted(Path(__file__).with_name("cases").glob("*.test"))
    for case in read_cases(file)
]

settings_of_fuzz = settings(
    max_examples=CASES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@st.composite
def mutated(draw):
    """Return a program that was right, with a few slips of the hand."""
    text = draw(st.one_of(st.sampled_from(TYPED), programs()))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 3)))
        other = draw(st.one_of(st.just(""), st.sampled_from(WORDS), st.just(text[end:][:7])))
        text = text[:start] + other + text[end:]
    return text


def compiles(text):
    """Return whether a text compiles, checking how it is refused if not."""
    wrong = None
    try:
        assert callable(compile_program(text).outputs)
    except ExpressionError as error:
        wrong = error
    if wrong is None:
        return True
    assert 0 <= wrong.position <= len(text), (text, wrong.position)
    assert wrong.message
    assert len(str(wrong)) < 1000
    return False


@seed(SEED)
@settings_of_fuzz
@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join)))
def test_arbitrary_text_compiles_or_says_where_it_is_wrong(text):
    compiles(text)


@seed(SEED)
@settings_of_fuzz
@given(st.lists(st.sampled_from(WORDS), max_size=10).map("".join))
def test_words_run_together_compile_or_say_where_they_are_wrong(text):
    compiles(text)


@pytest.mark.slow
def test_a_program_with_slips_compiles_where_libjq_compiles_it():
    with Oracle() as oracle:

        @seed(SEED)
        @settings_of_fuzz
        @given(mutated())
        def agrees(text):
            ours = compiles(text)
            if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
                return  # libjq is given UTF-8, and its texts end at NUL
            if not ours and stricter(text):
                return
            answer = oracle.ask(text, "null")
            assert answer is None or ours == (answer.refused is None), (text, answer)

        agrees()


def stricter(text):
    """Whether a name is refused here by design, or unknown in a function that nothing calls.

    libjq leaves such a function out before it looks for what it names.
    """
    try:
        compile_program(text)
    except ExpressionError as error:
        return refusal(error) is not None or ("is not defined" in error.message and "def" in text)
    return False


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "text",
    [
        "(" * 20_000,
        "[" * 3_000 + "]" * 3_000,
        "{a:" * 3_000 + "1" + "}" * 3_000,
        "-" * 20_000 + "1",
        "." + "[0]" * 20_000,
        "." + ".a" * 20_000,
        "+".join(["1"] * 20_000),
        " | ".join(["."] * 20_000),
        ", ".join(["1"] * 20_000),
        " // ".join(["1"] * 5_000),
        "if . then 1 else " * 3_000 + "2" + " end" * 3_000,
        "if 1 then 2 " + "elif 3 then 4 " * 5_000 + "else 5 end",
        "try " * 10_000 + "1",
        ". as $x | " * 10_000 + "1",
        "def f: 1; " * 10_000 + "f",
        "def f: " * 3_000 + "1" + "; f" * 3_000,
        '"' + "\\(" * 3_000 + "1" + ")" * 3_000 + '"',
        '"\\(' * 500 + "1" + ')"' * 500,
        "reduce . as $x (" * 1_000,
        ". as " + "[" * 5_000 + "$x" + "]" * 5_000 + " | 1",
        ".a" + "?" * 20_000,
        "1" * 100_000,
        '"' + "a" * 1_000_000 + '"',
        "#" * 1_000_000,
        "." + " " * 1_000_000,
        " ".join(f"def f{n}: f{n - 1}, f{n - 1};" if n else "def f0: 1;" for n in range(40))
        + "f39",
        " ".join(f"def f{n}(g): f{n - 1}(g | g);" if n else "def f0(g): g;" for n in range(40))
        + "f39(.)",
    ],
    ids=lambda text: f"{text[:12]}…{len(text)}",
)
def test_a_huge_or_deep_program_compiles_or_says_where_it_is_too_much(text):
    compiles(text)
