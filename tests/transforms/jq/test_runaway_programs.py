"""A program without an end, or with too much of everything, fails its event and nothing else.

Each runs in a process of its own whose address space is limited: one that is not bounded dies
there, and the test says so.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import time
from collections import deque
from itertools import count

import pytest

from transforms.jq import compile_program, limits
from transforms.jq.limits import OverLimit, bounded

pytestmark = [pytest.mark.slow]

ENDLESS = {
    "a function that calls itself": "def f: f; f",
    "one that calls itself twice": "def f: f | f; f",
    "one that grows": "def f: [.] | f; f",
    "deep recursion that is no tail call": "def f: 1 + f; f",
    "a range without end": "[range(1e12)]",
    "a range that nobody looks at": "reduce range(1e12) as $i (0; . + 1)",
    "repeat": "repeat(.)",
    "repeat within a limit": "[limit(1e9; repeat(1))] | length",
    "a text that grows": 'reduce range(1e9) as $i (""; . + "xxxxxxxx")',
    "a text that doubles": 'reduce range(1e9) as $i ("x"; . + .)',
    "an array that doubles": "reduce range(1e9) as $i ([1]; . + .)",
    "a text repeated": '"xxxxxxxx" * 1e8 | . + . | length',
    "recurse that nests": "[recurse([.])] | length",
    "recurse that stays": "last(recurse(.))",
    "until never": "until(false; . + 1)",
    "while always": "[while(true; . + 1)] | length",
    "an array filled far out": "[limit(1e9; range(1e9) | [range(1000)])] | length",
    "a regular expression that goes back and back": '"a" * 40 + "!" | test("^(a|a)*$")',
    "a pattern as long as the text": '"a" * 1e5 as $p | $p | test($p + "{1,1000}") | repeat(.)',
    "substitution that matches everywhere": '"x" * 1e7 | gsub(""; "yyyyyyyyyyyyyyyyyyyy") | length',
    "combinations": "[[range(100)] | combinations(8)] | length",
    "paths of all": "[range(1e7) as $i | [$i]] | [paths] | length",
    "errors caught for ever": "def f: try error(1) catch f; f",
    "a label broken for ever": "def f: label $l | (f, break $l); f",
    "too many outputs": "range(1e12)",
    "sorting more than fits": "[range(1e8)] | sort_by(-.) | length",
}
HEAVY = {
    "numbers that grow": "reduce range(1e6) as $i (3; . * .) | tojson | length",
    "a place far out": ".[1e9] = 1",
    "a nearer place": ".[5e6] = 1 | length",
    "nested repeats": '"a" * 5000 + "!" | [match("(a*)*b"; "g")] | length',
    "every letter of a long text": '"x" * 5e7 | split("") | length',
    "a long text as code points": '"x" * 5e7 | explode | implode | length',
    "every place of a letter": '"x" * 5e7 | indices("x") | length',
    "digits without end": '"9" * 1e6 | tonumber | tojson | length',
    "an array without itself": "[range(1e5)] | . - map(. + 0.5) | length",
    "many joined": '[range(1e6) | "aaaaaaaaaa"] | join(",") | length',
    "many groups": "[range(1e6)] | group_by(. % 1000) | length",
    "caught within": "try [range(1e12)] catch 1",
    "optional": "[range(1e12)]? // 1",
    "text of a deep value": "reduce range(1e5) as $i (1; [.]) | tojson | length",
    "equality of deep values": "(reduce range(1e5) as $i (1; [.])) as $x | $x == $x, ($x | sort)",
    "all paths of a deep value": "reduce range(1e4) as $i (1; [.]) | [paths] | length",
    "flattened": "reduce range(1e5) as $i (1; [.]) | flatten",
    "walked": "reduce range(1e5) as $i (1; [.]) | walk(.)",
    "JSON nested too deeply": '"[" * 1e6 | fromjson',
    "dates far away": "1e300 | todate",
    "a product of outputs": "[range(1e4) as $a | range(1e4) as $b | $a * $b] | length",
    "an expression of powers": "[range(1000) | pow(10; .)] | add | tojson | length",
    "bits without end": "reduce range(100) as $i (7; . * .) | . * . | length",
}
"""These may answer, or fail as jq fails: only what they take counts."""

_SCRIPT = """
import json, resource, sys
from connectors.errors import PermanentError
from transforms.jq import compile_program, limits

resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
program = sys.argv[1]
try:
    compile_program(program).outputs(None)
    said = None
except PermanentError as error:
    said = [error.code, error.message, error.hint]
after = compile_program(".a + 1").outputs({"a": 1})
again = compile_program("[.[] | select(. > 1)]").outputs([1, 2])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"said": said, "after": [after, again], "peak": peak}))
"""


def ran(program):
    """Run a program, then two others, in a process of its own; return what they gave."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout)
    assert answer["after"] == [[2], [[2]]]
    assert answer["peak"] < 1000, "MB"
    return answer["said"]


@pytest.mark.parametrize("program", ENDLESS.values(), ids=ENDLESS)
def test_a_runaway_program_fails_its_event_and_the_next_is_fine(program):
    code, message, hint = ran(program)

    assert code == "jq_limit"
    assert "the program was stopped" in message
    assert hint


@pytest.mark.slow
@pytest.mark.parametrize("program", HEAVY.values(), ids=HEAVY)
def test_a_heavy_program_answers_or_fails_its_event_and_the_next_is_fine(program):
    said = ran(program)

    assert said is None or said[0] in {"jq_error", "jq_limit"}


def test_a_machine_that_stalls_makes_no_program_a_runaway():
    # As a process that is stopped for a while: time goes by, and nothing is computed.
    assert bounded(lambda: time.sleep(0.5) or "through", 0.1) == "through"


# What is raised in a callback is reported as unraisable; later calls of this one may be hit, too.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("grace", [60, 0])
def test_a_program_ends_though_what_runs_within_it_swallows_exceptions(grace, monkeypatch):
    """So do finalizers and callbacks of the garbage collector: what is raised in them is printed."""
    monkeypatch.setattr(limits, "_GRACE", grace)
    swallowed = []

    def callback(phase, _info):
        if phase == "stop" or swallowed:
            return
        swallowed.append(False)
        end = time.thread_time() + (0.6 if grace else 30)
        try:
            while time.thread_time() < end:
                pass
        except limits.Overdue:
            swallowed.append(True)

    program = compile_program("[range(1e12) | [.]]")
    others, gc.callbacks[:] = gc.callbacks[:], [callback]  # other tests' tools have theirs
    try:
        with pytest.raises(OverLimit, match=r"longer than 0\.2 s"):
            bounded(lambda: program._run([], None), 0.2)
    finally:
        gc.callbacks[:] = others
    # It is waited for; and where that takes too long, the program is ended behind it.
    assert any(swallowed) == (grace == 0)


def test_a_run_that_computes_is_stopped_though_others_compute_beside_it():
    over = threading.Event()
    beside = threading.Thread(target=lambda: deque(iter(over.is_set, True), 0))
    beside.start()
    try:
        with pytest.raises(OverLimit, match=r"longer than 0\.1 s"):
            bounded(lambda: sum(1 for _ in count()), 0.1)
    finally:
        over.set()
        beside.join(20)
