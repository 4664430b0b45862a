"""What is handed to a sink together, and what waits behind a row that it does not take."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from connectors.errors import RetryableError
from flows.runtime.outbox_order import LONGEST_DELAY, MOST_HELD, SINGLE, Pacing, groups_of
from transforms.steps.outbox_table import WaitingRow

BUSY = RetryableError("busy.", code="busy")


def row(seq, *, turn=1, key="k", topic=None, sink="events"):
    said = json.dumps({"topic": topic, "key": key})
    return WaitingRow(seq, "orders", sink, turn, said, b"{}", b"")


def grouped(rows, ordered=True):
    return [
        (topic, [each.seq for each, _ in mine])
        for _, topic, mine in groups_of(rows, {"events": ordered})
    ]


def test_rows_with_the_key_of_their_turn_go_together():
    rows = [row(1), row(2), row(3, turn=2, key="l"), row(4)]
    assert grouped(rows) == [(None, [1, 2, 3, 4])]


def test_rows_of_a_turn_go_one_by_one_where_the_sink_can_not_keep_their_order():
    assert grouped([row(1), row(2)], ordered=False) == [(None, [1]), (None, [2])]
    assert grouped([row(1, key=None), row(2, key=None)]) == [(None, [1]), (None, [2])]
    assert grouped([row(1, key="a"), row(2, key="b")]) == [(None, [1]), (None, [2])]
    assert grouped([row(1, topic="a"), row(2, topic="b")]) == [("a", [1]), ("b", [2])]


rows_of_any_kind = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from(["a", "b", None]), st.sampled_from(["x", "y"]))
)


@given(rows_of_any_kind, st.booleans())
def test_no_row_is_handed_over_before_an_earlier_one_of_its_turn_or_of_its_key(found, ordered):
    rows = [row(n, turn=turn, key=k, topic=t) for n, (turn, k, t) in enumerate(found)]
    groups = groups_of(rows, {"events": ordered})
    handed = [each for _, _, mine in groups for each in mine]
    assert sorted(each.seq for each, _ in handed) == list(range(len(rows)))
    for about in (
        lambda each, said: each.turn,
        lambda each, said: (said["topic"], said["key"]) if said["key"] else each.seq,
    ):
        seen = {}
        for each, said in handed:
            assert seen.get(about(each, said), -1) < each.seq
            seen[about(each, said)] = each.seq
    for _, _, mine in groups:  # what goes together, the sink itself keeps in order
        keys = {}
        for each, said in mine:
            keys.setdefault(each.turn, []).append(said["key"])
        for found_keys in keys.values():
            assert len(found_keys) == 1 or (ordered and len(set(found_keys)) == 1)


class TestPacing:
    def test_a_turn_that_fails_is_held_longer_each_time_and_no_other(self):
        pacing = Pacing(["events"])
        pacing.tell("events", [1, 2], {1: BUSY}, 100.0, answered=True)
        assert pacing.held(100.0) == [("events", 1)]
        first = pacing.next_due(100.0)
        assert pacing.held(100.0 + first) == []
        pacing.tell("events", [1], {1: BUSY}, 101.0, answered=False)
        assert pacing.next_due(101.0) > first
        assert pacing.asked(101.0) == ["events"]
        pacing.tell("events", [1], {}, 200.0, answered=True)
        assert (pacing.held(200.0), pacing.next_due(200.0), pacing.waits()) == ([], None, {})

    def test_a_server_that_names_a_time_is_not_asked_before(self):
        pacing = Pacing(["events"])
        asked = RetryableError("busy.", code="busy", retry_after=30.0)
        pacing.tell("events", [1], {1: asked}, 100.0, answered=False)
        assert pacing.next_due(100.0) == 30.0

    def test_a_sink_that_takes_nothing_for_many_turns_is_paused_and_asked_anew_as_a_whole(self):
        pacing = Pacing(["events", "others"])
        failed = dict.fromkeys(range(SINGLE + 1), BUSY)
        pacing.tell("events", failed, failed, 100.0, answered=False)
        assert pacing.asked(100.0) == ["others"]
        assert pacing.away() == {"events": "busy."}
        until = 100.0 + pacing.next_due(100.0)
        assert (pacing.asked(until), pacing.held(until)) == (["events", "others"], [])
        pacing.tell("events", failed, {}, until, answered=True)
        assert (pacing.away(), pacing.waits()) == ({}, {})

    def test_a_sink_that_takes_others_is_neither_paused_nor_away(self):
        pacing = Pacing(["events"])
        failed = dict.fromkeys(range(SINGLE * 2), BUSY)
        pacing.tell("events", [*failed, 999], failed, 100.0, answered=True)
        assert (pacing.asked(100.0), pacing.away()) == (["events"], {})
        assert pacing.waits() == {"events": "busy."}

    def test_what_is_held_has_a_bound(self):
        pacing = Pacing(["events"])
        failed = dict.fromkeys(range(MOST_HELD + 1), BUSY)
        pacing.tell("events", failed, failed, 100.0, answered=True)
        assert (pacing.asked(100.0), pacing.held(100.0)) == ([], [])

    def test_what_another_worker_has_published_is_forgotten(self):
        pacing = Pacing(["events"])
        pacing.tell("events", [1], {1: BUSY}, 100.0, answered=False)
        assert pacing.asked(101.0 + 2 * LONGEST_DELAY) == ["events"]
        assert (pacing.waits(), pacing.away()) == ({}, {})
