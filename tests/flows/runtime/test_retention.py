"""What is forgotten with time: archived events, and copies of dead letters that have no sink any more."""

from __future__ import annotations

import json
import time

import pytest
from structlog.testing import capture_logs

from flows.plan import load_flow
from flows.runtime.retention import COPIES_FORGOTTEN, pruner
from flows.state.copies import letter_copy
from flows.state.copy_store import CopyCounts
from flows.state.store import open_store
from tests.flows.archive.archiving import Archived, events
from tests.flows.runtime.running import file_sink, pipeline, publish
from tests.flows.state.samples import commit, letter, settlement

DAY = 86_400.0


@pytest.fixture
def store(tmp_path):
    store = open_store(f"sqlite:///{tmp_path}/state.db")
    yield store
    store.close()


def plan_of(tmp_path, archive=None, **dead_letter):
    source = {"brokers": "127.0.0.1:1", "topics": ["orders"]}
    kept = {} if archive is None else {"archive": archive}
    flow = {
        "name": "shop",
        "modules": [
            {"name": "orders", "type": "source.kafka", "config": source, **kept},
            file_sink(tmp_path),
            file_sink(tmp_path, "letters"),
        ],
        "pipelines": {"enrich": pipeline("orders", publish("out"), dead_letter=dead_letter)},
    }
    path = tmp_path / "flow.json"
    path.write_text(json.dumps(flow))
    return load_flow([path])


def keep(store, *, days_ago, pipeline="enrich"):
    """Store the copies of dead letters that failed so many days ago."""
    settled = settlement(pipeline=pipeline)
    for number, days in enumerate(days_ago):
        failed = letter(number + len(pipeline), pipeline=pipeline)
        copy = letter_copy(failed, None, acting="step.jq", error=None)
        at = time.time() - days * DAY
        settled.copies.append(type(copy)(copy.letter, pipeline, at, copy.body))
    lease = store.acquire_lease("shop", "orders/0", "me", 60.0)
    commit(store, lease, [settled])


def pruned(store, plan):
    """Prune, and return what was said of copies: pipeline and number."""
    with capture_logs() as logs:
        pruner(plan)(store)
    return [(each["pipeline"], each["copies"]) for each in logs if each["code"] == COPIES_FORGOTTEN]


def test_copies_whose_sink_has_left_the_flow_are_forgotten_with_the_letters_retention(
    store, tmp_path
):
    keep(store, days_ago=[0, 2, 4, 30])
    assert pruned(store, plan_of(tmp_path, retention="3d")) == [("enrich", 2)]
    assert store.copies.counts("shop") == {"enrich": CopyCounts(waiting=2)}
    assert pruned(store, plan_of(tmp_path, retention="3d")) == []


def test_copies_of_a_pipeline_that_is_gone_are_kept_for_the_default_time(store, tmp_path):
    keep(store, days_ago=[6, 8], pipeline="former")
    assert pruned(store, plan_of(tmp_path, retention="1d")) == [("former", 1)]
    assert store.copies.counts("shop") == {"former": CopyCounts(waiting=1)}


def test_copies_that_have_a_sink_are_kept_however_long_it_is_away(store, tmp_path):
    keep(store, days_ago=[0, 400])
    assert pruned(store, plan_of(tmp_path, retention="1d", sink="letters")) == []
    assert store.copies.counts("shop") == {"enrich": CopyCounts(waiting=2)}


def test_archived_events_are_forgotten_as_their_source_says_and_others_are_kept(store, tmp_path):
    archived = Archived(store, store.acquire_lease("shop", "orders/0", "me", 60.0))
    for days in (30, 3, 0):
        for source in ("orders", "former"):
            archived.add(events(days), source=source, now=time.time() - days * DAY)
    pruned(store, plan_of(tmp_path))
    assert archived.numbers() == [30, 3, 0]
    pruned(store, plan_of(tmp_path, archive={"retention": "7d"}))
    assert archived.numbers() == [3, 0]
    pruned(store, plan_of(tmp_path, archive={"retention": 0, "max_size": 1}))
    assert archived.numbers() == []
    (former,) = store.archive.totals("shop", "former")
    assert former.events == 3
