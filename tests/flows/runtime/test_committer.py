"""The committer on a real SQLite file: what it hands out as acknowledgeable, and when it waits."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing

import pytest
import zstandard

from connectors.errors import RetryableError
from flows.runtime import committer as committing
from flows.runtime.committer import LEASE_TTL, Committer
from flows.runtime.exchange import Marks
from flows.runtime.halt import Halt
from flows.runtime.intake import BATCH
from flows.state.records import Answered, Counts, Settlement
from flows.state.store import open_store
from tests.flows.archive.archiving import events
from tests.flows.state.samples import chunk


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/state.db"


@pytest.fixture
def lease(url):
    store = open_store(url)
    lease = store.acquire_lease("flow", "rows/0", "me", LEASE_TTL)
    store.close()
    return lease


def _committer(url, lease, halt, **options):
    committer = Committer(
        lambda: open_store(url),
        lease,
        "rows",
        halt,
        **{"lags": dict, "prune": lambda store: None, **options},
    )
    committer.start()
    return committer


def _eventually(look, seconds=15):
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "did not come about"
        time.sleep(0.005)
    return found


def _stored(url):
    store = open_store(url)
    try:
        return store.checkpoints("flow", "rows"), {t.pipeline: t.done for t in store.totals("flow")}
    finally:
        store.close()


def test_a_position_can_be_acknowledged_only_once_it_is_stored(url, lease):
    committer = _committer(url, lease, Halt())
    committer.settle(Settlement("orders", Counts(done=3)))
    assert committer.take() is None
    committer.checkpoint({"a": "01"})
    assert _eventually(committer.take) == {"a": "01"}
    assert _stored(url) == ({"a": "01"}, {"orders": 3})
    assert committer.take() is None
    committer.close()


def test_what_was_settled_but_not_checkpointed_is_not_stored(url, lease):
    committer = _committer(url, lease, Halt())
    committer.settle(Settlement("orders", Counts(done=3)))
    committer.close()
    assert _stored(url) == ({}, {})


def _recorded(text):
    settled = Settlement("orders", Counts(done=1), history=chunk(b""))
    settled.history_pieces = [text]
    return settled


def test_history_is_compressed_when_it_is_stored_and_at_once_where_it_waits_for_a_transaction(
    url, lease
):
    text = b'{"version":1}\n' * 500
    committer = _committer(url, lease, Halt())
    settled = _recorded(text)
    committer.settle(settled)
    assert (settled.history_pieces, settled.history.body) == ([text], b"")
    committer.checkpoint({"a": "01"})
    _eventually(committer.take)
    assert (settled.history_pieces, zstandard.decompress(settled.history.body)) == ([], text)
    committer.close()
    committer = _committer(url, lease, Halt(), in_transactions=True)
    settled = _recorded(text)
    committer.settle(settled)
    assert (settled.history_pieces, zstandard.decompress(settled.history.body)) == ([], text)
    committer.close()


def _marks(url, name):
    store = open_store(url)
    try:
        return store.marks.of("flow", "rows").get(f"rows@{name}", {})
    finally:
        store.close()


def test_what_another_process_will_checkpoint_is_stored_at_once_with_the_marks_of_every_pipeline(
    url, lease
):
    """Pipelines may share a file, whose length is of all of them; so all of them are stored, or none."""
    spread = Marks("rows@spread:0/2:aa", {}, {})
    other = Marks("rows@orders:0/1:00", {}, {})
    committer = _committer(url, lease, Halt(), marks=[spread, other], begins={})
    other.passed({"a": "01"})
    committer.settle(Settlement("orders", Counts(done=1)))
    spread.passed({"b": "07"})
    committer.settle(Settlement("spread", Counts(done=2)))
    before = committer.stored
    committer.flush()
    assert _stored(url) == ({}, {"spread": 2, "orders": 1})
    assert _marks(url, "spread:0/2:aa") == {"b": "07"}
    assert _marks(url, "orders:0/1:00") == {"a": "01"}
    assert committer.stored == before  # the batch in flight is still to come
    committer.checkpoint({"a": "01"})
    assert _eventually(committer.take) == {"a": "01"}
    assert _stored(url) == ({"a": "01"}, {"spread": 2, "orders": 1})
    committer.close()


def test_what_marks_say_of_a_partition_that_has_gone_back_is_forgotten_and_of_others_kept(
    url, lease
):
    """A topic that was made anew counts from the start: an old mark would hide its events."""
    here, there = Marks("rows@spread:0/2:aa", {}, {}), Marks("rows@spread:1/2:aa", {}, {})
    committer = _committer(url, lease, Halt(), marks=[here, there], begins={"a": "50"})
    there.passed({"a": "70", "b": "70"})
    committer.flush()
    committer.checkpoint({"a": "80"})
    here.passed({"a": "80"})
    committer.checkpoint({"a": "10"})
    assert _marks(url, "spread:1/2:aa") == {"b": "70"}
    here.passed({"c": "02"})
    committer.flush()
    assert _marks(url, "spread:0/2:aa") == {"c": "02"}, "what was passed before is not marked later"
    committer.close()


class _Slow:
    """A committer that would wait an hour for more, with its first transaction behind it."""

    def __init__(self, url, lease, monkeypatch, **options):
        monkeypatch.setattr(committing, "GATHERING", 3600.0)
        self.transactions = []
        self.committer = _committer(url, lease, Halt(), lags=self._counted, **options)
        self.settle("00")
        _eventually(self.committer.take)
        assert len(self.transactions) == 1

    def _counted(self):
        self.transactions.append(1)
        return {}

    def settle(self, position, done=1, **more):
        self.committer.settle(Settlement("orders", Counts(done=done), **more))
        self.committer.checkpoint({"a": position})


@pytest.fixture
def slow(url, lease, monkeypatch):
    slow = _Slow(url, lease, monkeypatch)
    yield slow
    slow.committer.close()


def test_what_is_settled_in_quick_succession_shares_a_transaction(slow, url):
    for position in ("01", "02", "03"):
        slow.settle(position)
    slow.settle("04", done=committing.OUTSTANDING_EVENTS)
    assert _eventually(slow.committer.take) == {"a": "04"}
    assert len(slow.transactions) == 2
    assert _stored(url)[1] == {"orders": 4 + committing.OUTSTANDING_EVENTS}


def test_three_full_batches_are_stored_without_waiting_for_more(slow):
    assert committing.OUTSTANDING_EVENTS == 3 * BATCH
    for position in ("01", "02", "03"):
        slow.settle(position, done=BATCH)
    assert _eventually(slow.committer.take) == {"a": "03"}


def test_two_full_batches_with_history_are_stored_without_waiting_for_more(slow):
    """So the dataflow goes on with a third while they are compressed and written."""
    for position in ("01", "02"):
        slow.settle(position, done=BATCH, history=chunk(b""), history_pieces=[b"executions"])
    assert _eventually(slow.committer.take) == {"a": "02"}


def test_an_answer_that_somebody_waits_for_is_stored_at_once(slow):
    slow.settle("01")
    slow.settle("02", answers=[Answered("rows", 1, "orders", "done")])
    assert _eventually(slow.committer.take) == {"a": "02"}


def test_what_is_flushed_or_closed_is_stored_at_once(slow, url):
    slow.settle("01")
    slow.committer.flush()
    assert _stored(url) == ({"a": "01"}, {"orders": 2})
    slow.settle("02")
    slow.committer.close()
    assert _stored(url) == ({"a": "02"}, {"orders": 3})


def test_a_store_that_stalls_holds_up_no_trickle_of_events(url, lease, tmp_path):
    """A disk may take a moment for an fsync; a thousand rows a second come in some 400 batches."""
    committer = _committer(url, lease, Halt())
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        def trickle():
            for number in range(200):
                committer.settle(Settlement("orders", Counts(done=1)))
                committer.checkpoint({"a": f"{number:03}"})

        going = threading.Thread(target=trickle)
        going.start()
        going.join(5)
        held_up = going.is_alive()
        other.execute("ROLLBACK")
    going.join()
    assert not held_up
    committer.close()
    assert _stored(url) == ({"a": "199"}, {"orders": 200})


def test_closing_stores_what_is_queued(url, lease):
    committer = _committer(url, lease, Halt())
    for k in range(20):
        committer.settle(Settlement("orders", Counts(done=1)))
        committer.checkpoint({"a": f"{k:02}"})
    committer.close()
    assert committer.take() == {"a": "19"}
    assert _stored(url) == ({"a": "19"}, {"orders": 20})


@pytest.mark.slow
def test_a_state_store_that_is_away_is_waited_for_and_shown(url, lease, tmp_path):
    halt = Halt()
    committer = _committer(url, lease, halt)
    blocker = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    committer.settle(Settlement("orders", Counts(done=1)))
    committer.checkpoint({"a": "01"})
    assert "state store" in _eventually(lambda: committer.status, 30)
    assert committer.take() is None
    blocker.execute("ROLLBACK")
    blocker.close()
    assert _eventually(committer.take) == {"a": "01"}
    assert committer.status == ""
    assert halt.error is None
    committer.close()
    assert _stored(url) == ({"a": "01"}, {"orders": 1})


def test_a_worker_whose_lease_was_taken_over_stores_nothing_and_stops(url, lease):
    store = open_store(url)
    store.release_lease(lease)
    assert store.acquire_lease("flow", "rows/0", "another", LEASE_TTL) is not None
    store.close()
    halt = Halt()
    committer = _committer(url, lease, halt)
    committer.settle(Settlement("orders", Counts(done=1)))
    committer.checkpoint({"a": "01"})
    error = _eventually(lambda: halt.error)
    assert error.code == "lease_lost"
    committer.close()
    assert committer.take() is None
    assert _stored(url) == ({}, {})


def test_closing_gives_the_lease_back(url, lease):
    committer = _committer(url, lease, Halt())
    committer.close()
    store = open_store(url)
    assert store.acquire_lease("flow", "rows/0", "another", LEASE_TTL) is not None
    store.close()


def _settled(committer, number, body=b""):
    history = chunk(body, flow="flow", pipeline="orders") if body else None
    committer.settle(Settlement("orders", Counts(done=1), history=history))
    committer.checkpoint({"a": f"{number:06}"})


@pytest.mark.slow
def test_a_flow_that_never_idles_prunes_all_the_same(url, lease):
    pruned = []
    committer = _committer(
        url, lease, Halt(), prune=lambda store: pruned.append(True), prune_every=0.0
    )
    number = 0

    def looked():
        nonlocal number
        for _ in range(5):
            number += 1
            _settled(committer, number)
        return len(pruned) > 3

    _eventually(looked)
    committer.close()
    assert _stored(url)[1] == {"orders": number}


def test_history_is_pruned_when_much_of_it_was_recorded(url, lease):
    pruned = []
    committer = _committer(
        url, lease, Halt(), prune=lambda store: pruned.append(True), prune_after=100
    )
    _settled(committer, 1, b"x" * 60)
    _eventually(committer.take)
    assert not pruned
    _settled(committer, 2, b"x" * 60)
    _eventually(lambda: pruned)
    committer.close()


def test_an_archive_is_pruned_when_much_was_archived(url, lease):
    pruned = []
    committer = _committer(
        url, lease, Halt(), prune=lambda store: pruned.append(True), archive_prune_after=400
    )
    for number in range(2):
        assert not pruned
        committer.archive(events(number))
        committer.settle(Settlement("orders", Counts(done=1)))
        committer.checkpoint({"a": f"{number:02}"})
        _eventually(committer.take)
    _eventually(lambda: pruned)
    committer.close()


def test_a_store_that_is_away_just_when_it_is_opened_is_waited_for(url, lease):
    answers = iter([RetryableError("away", code="state_unreachable")] * 2)

    def opened():
        for error in answers:
            raise error
        return open_store(url)

    halt = Halt()
    committer = Committer(opened, lease, "rows", halt, lags=dict, prune=lambda store: None)
    committer.start()
    committer.checkpoint({"a": "01"})
    assert _eventually(committer.take) == {"a": "01"}
    committer.close()
    assert not halt.asked()


def test_a_defect_in_storing_stops_the_worker_and_says_where(url, lease):
    def broken(store):
        raise ZeroDivisionError("by nought")

    halt = Halt()
    committer = _committer(url, lease, halt, prune=broken, prune_after=0)
    committer.checkpoint({"a": "01"})
    _eventually(halt.asked)
    committer.close()
    assert halt.error.code == "internal_error"
    assert "ZeroDivisionError: by nought" in str(halt.error)
    assert "test_committer.py" in str(halt.error)
