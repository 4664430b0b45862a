"""How quickly a circuit breaker of `step.http_call` acts (`python -m benchmarks.breaker --rounds 3`).

A step with a static fallback and otherwise the settings it has by default (5 failures open it for 30 s, 3
successes close it), called for one event after another, some fifty a second, against a real server on this
machine: it works, fails for a random time, and works again.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from typing import NamedTuple

from connectors.batch import Batch
from tests.transforms.steps.answering import Answer, Seen, serving
from transforms.contracts import Step, StepEnvironment
from transforms.executions import Executions
from transforms.steps.http_call import HTTP_CALL

PAUSE = 0.02
FAILING = (1.0, 31.0)
"""Seconds that the server fails: at random, so that it recovers at any moment of the circuit's 30 s."""


class Round(NamedTuple):
    """Seconds, on the wall's clock."""

    opens: float
    """From the server's fifth failure to the first event that gets the fallback."""
    calls: int
    """Calls that reached the server between the two."""
    fallbacks: list[float]
    """How long the step took for each event that got it."""
    computed: list[float]
    """Processor time of that, where the machine had other work meanwhile."""
    closes: float
    """From the server's recovery to the third success, with which the circuit is closed."""


def call(step: Step, url: str) -> bool:
    """Run the step over one event; return whether it got the fallback."""
    columns = {
        "data": [{"url": url}],
        "id": ["1"],
        "source": ["/bench"],
        "type": ["order"],
        "partition": ["0"],
    }
    executions = Executions(Batch(1, columns, after={}), "bench")
    step.run(executions, range(1))
    details = executions.details.get("call") or [None]
    return bool(details[0] and details[0].get("fallback"))


def measure(rng: random.Random) -> Round:
    """Go once from a closed circuit to a closed one."""
    failures: list[float] = []
    successes: list[float] = []
    fails = False

    def answer(_seen: Seen) -> Answer:
        (failures if fails else successes).append(time.monotonic())
        return Answer(503 if fails else 204)

    with serving() as server:
        server.answer = answer
        fallback = {"type": "static", "response": {"body": {"instead": True}}}
        config = {"url": server.url, "circuit_breaker": {"fallback": fallback}}
        step = HTTP_CALL.make(
            HTTP_CALL.settings.model_validate(config),
            StepEnvironment(flow="bench", pipeline="bench", name="call", number=0, folder=Path()),
        )
        try:
            for _ in range(20):
                call(step, server.url)
            fails, fallbacks, computed = True, [], []
            recovers = time.monotonic() + rng.uniform(*FAILING)
            opened, calls = 0.0, 0
            while len(successes) < 23:
                began, worked = time.monotonic(), time.process_time()
                if fails and began >= recovers:
                    fails, recovers = False, began
                if call(step, server.url):
                    now = time.monotonic()
                    if not opened:
                        opened, calls = now - failures[4], len(failures) - 5
                    fallbacks.append(now - began)
                    computed.append(time.process_time() - worked)
                time.sleep(PAUSE)
        finally:
            step.close()
    return Round(opened, calls, fallbacks, computed, successes[22] - recovers)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.breaker")
    parser.add_argument("--rounds", type=int, default=3)
    rng = random.Random(1)
    rounds = [measure(rng) for _ in range(parser.parse_args().rounds)]
    waits = sorted(each for one in rounds for each in one.fallbacks)
    print("| | median | 99 % | slowest |\n|---|---|---|---|")
    for name, unit, found in (
        ("opens after the fifth failure, ms", 1000, sorted(one.opens for one in rounds)),
        ("fallback answers, ms", 1000, waits),
        ("its processor time, ms", 1000, sorted(each for one in rounds for each in one.computed)),
        ("closes after recovery, s", 1, sorted(one.closes for one in rounds)),
    ):
        numbers = (found[int(len(found) * part)] * unit for part in (0.5, 0.99))
        print(f"| {name} | {' | '.join(f'{n:.1f}' for n in numbers)} | {found[-1] * unit:.1f} |")
    print(
        f"calls after the fifth failure: {sum(one.calls for one in rounds)}; {len(waits)} fallbacks"
    )


if __name__ == "__main__":
    main()
