"""The number of dead letters is watched, and passing the threshold is told once."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from flows.runtime import depths
from flows.runtime.depths import DeadLetterDepths
from flows.state.letter_filter import LetterFilter
from flows.state.store import open_store
from tests.flows.state.samples import commit, letter, settlement


@pytest.fixture
def store(tmp_path):
    store = open_store(f"sqlite:///{tmp_path}/state.db")
    yield store
    store.close()


@pytest.fixture
def watched(monkeypatch):
    monkeypatch.setattr(depths, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(depths, "_SHARE", 1e9)
    pipelines = [
        SimpleNamespace(name=name, dead_letter=SimpleNamespace(alert_threshold=threshold))
        for name, threshold in (("enrich", 2), ("audit", None))
    ]
    return DeadLetterDepths(SimpleNamespace(name="shop"), pipelines)


def _add(store, *numbers, pipeline="enrich"):
    lease = store.acquire_lease("shop", "orders/0", "me", 60.0)
    commit(store, lease, [settlement(letters=[letter(n, pipeline=pipeline) for n in numbers])])


def _warnings(watched, store):
    with capture_logs() as logs:
        watched.look(store)
    return [(each["pipeline"], each["dead_letters"]) for each in logs]


def test_passing_the_threshold_upwards_is_told_once_and_again_only_after_it_fell(watched, store):
    _add(store, 1, 2)
    assert _warnings(watched, store) == []
    _add(store, 3)
    assert _warnings(watched, store) == [("enrich", 3)]
    _add(store, 4)
    assert _warnings(watched, store) == []
    ids = [each.id for each in store.letters.page(LetterFilter(flow="shop"), 10)]
    store.letters.remove("shop", ids[:2])
    assert _warnings(watched, store) == []
    _add(store, 5)
    assert _warnings(watched, store) == [("enrich", 3)]


def test_the_warning_says_what_to_do(watched, store):
    _add(store, 1, 2, 3)
    with capture_logs() as logs:
        watched.look(store)
    (warning,) = logs
    assert warning["log_level"] == "warning"
    assert warning["code"] == "dead_letters_waiting"
    assert "penstock dlq stats --pipeline enrich" in warning["hint"]


def test_the_depth_is_of_all_pipelines_and_without_a_threshold_nothing_is_told(watched, store):
    _add(store, *range(10, 20), pipeline="audit")
    assert _warnings(watched, store) == []
    assert watched.found == {"enrich": 0, "audit": 10}
