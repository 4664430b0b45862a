"""Processes that die in the middle, and processes that come at once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from flows.state import migrations
from tests.flows.state.samples import chunks

ROOT = Path(__file__).parents[3]
KILLS = min(40, int(os.environ.get("PENSTOCK_CHAOS_KILLS", "4")))

COMMITTING = """
import sys
from flows.state.store import open_store
from tests.flows.state.samples import chunk, commit, letter, settlement
store = open_store(sys.argv[1])
lease = store.acquire_lease("shop", "orders/0", "me", 60.0)
first = int(store.checkpoints("shop", "orders").get("orders/0", "0"))
print(first, flush=True)
for number in range(first + 1, first + 100_000):
    batch = [
        settlement(1, letters=[letter(number)], history=chunk(b"x" * 20_000)),
        settlement(2, pipeline="audit"),
    ]
    commit(store, lease, batch, {"orders/0": f"{number:06}"})
    print(number, flush=True)
"""

OPENING = """
import sys
from flows.state.store import open_store
print("ready", flush=True)
sys.stdin.readline()
store = open_store(sys.argv[1])
store.acquire_lease("shop", sys.argv[2], "me", 60.0)
store.close()
"""


def _start(code, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.chaos
def test_a_process_killed_at_any_moment_leaves_whole_commits_and_all_it_was_told_of(url, opening):
    chance = random.Random(3)
    told = 0
    for _ in range(KILLS):
        with _start(COMMITTING, url) as process:
            started = int(process.stdout.readline())
            assert started >= told  # what a commit returned for is there
            for _ in range(chance.randrange(1, 30)):
                told = int(process.stdout.readline())
            process.kill()
            process.communicate(timeout=30)
        store = opening()
        # Waits for a commit that the server is still at, and lets none come after.
        store.acquire_lease("shop", "orders/0", "me", 60.0)
        stored = int(store.checkpoints("shop", "orders")["orders/0"])
        assert stored >= told
        counts = {total.pipeline: total for total in store.totals("shop")}
        assert counts["enrich"].done == stored
        assert counts["audit"].done == 2 * stored
        assert counts["enrich"].dead_letters == stored
        assert len(chunks(store)) == stored


@pytest.mark.slow
def test_of_processes_that_make_the_tables_at_once_one_does_and_all_go_on(url, opening):
    with ExitStack() as stack:
        processes = [
            stack.enter_context(_start(OPENING, url, f"orders/{n}", stdin=subprocess.PIPE))
            for n in range(4)
        ]
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 0, errors
    store = opening(create=False)
    assert store._database.run(migrations.version_of) == migrations.current_version()
    taken = store._database.run(
        lambda c: c.exec_driver_sql("SELECT count(*) FROM penstock_leases").scalar()
    )
    assert taken == 4
