"""Generated programs over generated inputs: our engine gives what libjq gives.

Values, their order, whether it fails, and what `catch` sees of the error. `make fuzz-jq` runs
20,000 cases from a seed that it prints; JQ_CASES and JQ_SEED choose. Departures are below, each
with its reason: nothing else is let through.
"""

from __future__ import annotations

import json
import os
import re

from hypothesis import HealthCheck, given, note, seed, settings

from tests.transforms.jq.comparison import read, same, same_but_digits
from tests.transforms.jq.engine import Outcome, run
from tests.transforms.jq.oracle import Answer, Oracle
from tests.transforms.jq.programs import cases

CASES = int(os.environ.get("JQ_CASES", "400"))
SEED = int(os.environ.get("JQ_SEED", "20261121"))

ULPS = 1e-14
"""Powers and roots come from another C library than libjq's: the last digits may differ."""


_ALTERNATIVE = "?//"
_BREAKS = re.compile(
    r"\b(break|limit|first|nth|isempty|any|all|IN|inside|skip|map_values|walk)\b|\|="
)
"""What ends early in jq by raising `break`; `|=` takes the first output so."""


def departs(program: str, answer: Answer, outcome: Outcome) -> str | None:
    """Return why our engine may answer otherwise; None when it may not."""
    wanted = [read(text) for text in answer.outputs]
    if (
        len(wanted) == len(outcome.outputs)
        and (answer.error is None) == (outcome.error is None)
        and all(map(same_but_digits, wanted, outcome.outputs))
    ):
        return "integers beyond 2^53 keep their digits"
    if _ALTERNATIVE in program and _BREAKS.search(program):
        # libjq's `?//` takes the `break` of a `first` around it for a failure of its own body, and
        # goes on with the next pattern although the program has left it.
        return "a break is no error that ?// may catch"
    return None


_EVERY_MATCH = re.compile(r"\b(splits|gsub|scan|split|match|capture|sub)\b")
_ASCII = str.maketrans({"é": "e", "😀": "s"})


def counts_bytes(program: str, text: str, oracle: Oracle) -> bool:
    """Whether the answers differ no more once all letters of a search are single bytes.

    Behind an empty match libjq goes on a byte further, and finds another one in front of the same é.
    """
    program = program.replace("\\u00e9", "é").replace("\\ud83d\\ude00", "😀")
    if not _EVERY_MATCH.search(program) or (program + text).isascii():
        return False
    program, text = program.translate(_ASCII), text.translate(_ASCII)
    answer = oracle.ask(program, text)
    return answer is not None and difference(answer, run(program, json.loads(text))) is None


def difference(answer: Answer, outcome: Outcome) -> str | None:
    """Return how our answer differs from libjq's; None when it does not."""
    wanted = [read(text) for text in answer.outputs]
    if outcome.error is not None and outcome.error.code != "jq_error":
        return f"{outcome.error.code}: {outcome.error}"
    if (answer.error is None) != (outcome.error is None):
        return "one fails"
    if not same(wanted, outcome.outputs, tolerance=ULPS):
        return "other outputs"
    if answer.error is not None and not same(read(answer.error), outcome.thrown, tolerance=ULPS):
        return "another error"
    return None


def test_generated_programs_give_what_libjq_gives():
    with Oracle() as oracle:

        @seed(SEED)
        @settings(
            max_examples=CASES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(cases())
        def agrees(case):
            program, value = case
            if "\0" in program:
                return  # libjq's texts end there
            answer = oracle.ask(program, json.dumps(value))
            if answer is None or not answer.complete:
                return  # libjq aborts, hangs or has no end: there is nothing to compare with
            assert answer.refused is None, f"libjq does not compile {program}: {answer.refused}"
            outcome = run(program, value)
            how = difference(answer, outcome)
            if how is None or departs(program, answer, outcome):
                return
            if counts_bytes(program, json.dumps(value, ensure_ascii=False), oracle):
                return
            note(f"JQ_SEED={SEED} JQ_CASES={CASES}")
            note(f"{how}\n  program: {program}\n  input:   {json.dumps(value)}")
            note(f"  libjq:   {answer}\n  ours:    {outcome}")
            raise AssertionError(how)

        agrees()
        assert oracle.deaths <= CASES // 100
