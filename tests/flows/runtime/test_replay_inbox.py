"""What a worker takes out of the inbox, and what it gives back with a reason."""

from __future__ import annotations

import pytest

from flows.plan import load_flow
from flows.runtime.halt import Halt
from flows.runtime.replay_inbox import ReplayInbox
from flows.state.replays import Chosen
from flows.state.sagas import Saga
from flows.state.store import open_store
from tests.flows.runtime.running import wait_for
from tests.flows.state.samples import commit, letter, settlement

FLOW = """\
name: shop
modules:
  - { name: orders, type: source.kafka, config: { brokers: "b:1", topics: [t] } }
pipelines:
  enrich:
    trigger: { type: event, source: orders }
    steps: [{ name: kept, type: step.set, config: { values: { a: 1 } } }]
  closed:
    trigger: { type: event, source: orders }
    dead_letter: { replayable: false }
    steps: [{ name: kept, type: step.set, config: { values: { a: 1 } } }]
  booked:
    trigger: { type: event, source: orders }
    saga: { enabled: true }
    steps: [{ name: kept, type: step.set, config: { values: { a: 1 } } }]
"""


class Committer:
    stored = 0


@pytest.fixture
def store(tmp_path):
    opened = open_store(f"sqlite:///{tmp_path}/state.db")
    yield opened
    opened.close()


@pytest.fixture
def replay(store):
    """Ask for a replay of these dead letters."""
    lease = store.acquire_lease("shop", "orders/0", "me", 60.0)

    def ask(*letters, **options):
        commit(store, lease, [settlement(letters=letters)])
        number = store.replays.begin("shop", by="ann", selection="{}", **options)
        store.replays.add(store.replays.get(number), [Chosen(each) for each in letters], None)
        store.replays.start(number)
        return number

    return ask


@pytest.fixture
def inbox(tmp_path):
    """Open an inbox of the flow's only worker."""
    path = tmp_path / "flow.yaml"
    path.write_text(FLOW)
    plan = load_flow([path], {})
    opened = []

    def start(**options):
        made = ReplayInbox(
            "shop",
            "orders",
            {pipeline.name: pipeline for pipeline in plan.pipelines},
            **{
                "clustered": [],
                "by": "w1",
                "owns": lambda partition: True,
                "open_store": lambda: open_store(f"sqlite:///{tmp_path}/state.db"),
                "committer": Committer(),
                "halt": Halt(),
                **options,
            },
        )
        opened.append(made)
        made.start()
        return made

    yield start
    for each in opened:
        each.close()


def reasons(store, number):
    wait_for(lambda: store.replays.get(number).is_over, "the end")
    return [(each.status, each.error_code) for each in store.replays.entries(number, 9)]


def test_what_can_be_replayed_here_comes(store, replay, inbox):
    replay(letter(1), letter(2))
    opened = inbox()
    wait_for(lambda: opened.has_come, "entries")
    assert [each.letter.event_id for each in opened.take()] == ["event-1", "event-2"]
    assert not opened.is_empty


def test_what_can_not_is_given_back_with_the_reason(store, replay, inbox):
    number = replay(letter(1, pipeline="closed"), letter(2, pipeline="gone"))
    inbox()
    assert reasons(store, number) == [("returned", "not_replayable"), ("returned", "pipeline_gone")]
    page = store.dead_letters("shop", pipeline=None, limit=9, after=None)
    assert [each.status for each in page] == ["waiting", "waiting"]


def test_one_whose_saga_is_half_undone_is_not_run_again(store, replay, inbox):
    lease = store.acquire_lease("shop", "orders/1", "me", 60.0)
    failed = Saga(
        id=letter(1).id,
        pipeline="booked",
        source="orders",
        partition="orders/0",
        lane=None,
        event_id="e",
        event_type="t",
        started_at=1.0,
        deadline=None,
        status="compensation_failed",
        updated_at=1.0,
    )
    store.sagas.save(lease, [failed])
    number = replay(letter(1, pipeline="booked"), letter(2, pipeline="booked"))
    opened = inbox()
    wait_for(lambda: opened.has_come, "the other")
    assert [each.letter.event_id for each in opened.take()] == ["event-2"]
    assert store.replays.entries(number, 1)[0].error_code == "saga_unfinished"


def test_a_pipeline_that_is_spread_over_a_cluster_replays_nothing(store, replay, inbox):
    number = replay(letter(1))
    inbox(clustered=["enrich"])
    assert reasons(store, number) == [("returned", "replay_clustered")]


def test_what_was_cancelled_after_it_was_taken_by_a_worker_that_is_gone_is_given_back(
    store, replay, inbox
):
    number = replay(letter(1))
    assert len(store.replays.take("shop", "orders", "gone", lambda _: True, 9)) == 1
    store.replays.cancel(number)
    assert store.replays.get(number).status == "cancelling"
    inbox()
    assert reasons(store, number) == [("returned", "replay_cancelled")]


def test_nothing_more_comes_before_the_last_is_stored(store, replay, inbox):
    committer = Committer()
    replay(letter(1))
    opened = inbox(committer=committer)
    wait_for(lambda: opened.has_come, "the first")
    second = replay(letter(2))
    opened.parked(7)
    assert not opened.has_come
    assert store.replays.get(second).ended == 0
    committer.stored = 7
    wait_for(lambda: opened.has_come, "the second")
