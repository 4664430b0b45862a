"""What is promised from a source to a sink."""

from __future__ import annotations

import pytest

from connectors.contracts import SinkTraits, SourceTraits
from flows.guarantees import after_crash, edge_guarantee, usable_workers


def source(**changes):
    traits = {"ordered": True, "replayable": True, "seek_by_time": False, "partitioned": False}
    return SourceTraits(**(traits | changes))


@pytest.mark.parametrize(
    ("delivery", "promise", "reason"),
    [
        ("at_least_once", "at least once", "delivered again, with the same event id"),
        ("effectively_once", "effectively once", "stored with the position"),
        ("exactly_once", "exactly once", "once its position is stored"),
    ],
)
def test_a_sink_decides_what_a_crash_repeats(delivery, promise, reason):
    edge = edge_guarantee(source(), SinkTraits(ordered=True, delivery=delivery))
    assert edge.promise == promise
    assert reason in edge.reason


@pytest.mark.parametrize(
    ("source_ordered", "sink_ordered", "ordered"),
    [(True, True, True), (True, False, False), (False, True, False), (False, False, False)],
)
def test_order_needs_both_ends(source_ordered, sink_ordered, ordered):
    sink = SinkTraits(ordered=sink_ordered, delivery="at_least_once")
    edge = edge_guarantee(source(ordered=source_ordered), sink)
    assert edge.ordered is ordered
    assert edge.order_reason.endswith(".")


def test_a_step_that_skips_what_the_sink_refuses_says_so():
    sink = SinkTraits(ordered=True, delivery="effectively_once")
    assert "on_error: skip" in edge_guarantee(source(), sink, skips=True).reason
    assert "skip" not in edge_guarantee(source(), sink).reason


def test_after_a_crash_only_effects_that_can_repeat_are_named():
    once = edge_guarantee(source(), SinkTraits(ordered=True, delivery="effectively_once"))
    again = edge_guarantee(source(), SinkTraits(ordered=True, delivery="at_least_once"))
    assert "nothing outside happens twice" in after_crash([], [("publish", once)])
    assert "charge, tell act a second time" in after_crash(
        ["charge"], [("publish", once), ("tell", again)]
    )
    assert "charge acts a second time" in after_crash(["charge"], [])


def test_a_pipeline_with_idempotency_publishes_once_per_key_and_says_what_a_crash_repeats():
    sink = SinkTraits(ordered=True, delivery="at_least_once")
    edge = edge_guarantee(source(), sink, keyed=True)
    assert (edge.promise, edge.repeats) == ("once per key", True)
    assert "is skipped" in edge.reason
    assert "delivered again, with the same event id" in edge.reason
    assert "publish acts a second time" in after_crash([], [("publish", edge)])
    file = SinkTraits(ordered=True, delivery="effectively_once")
    assert not edge_guarantee(source(), file, keyed=True).repeats


def test_after_a_crash_idempotent_steps_act_again_only_where_nothing_is_stored():
    said = after_crash(["tell"], [], ["charge", "refund"])
    assert "tell acts a second time" in said
    assert "charge, refund act again only where what was done is not stored yet" in said
    assert "second time" not in after_crash([], [], ["charge"])


def test_an_idempotent_publish_is_once_per_key_and_says_what_a_crash_repeats():
    sink = SinkTraits(ordered=True, delivery="at_least_once")
    edge = edge_guarantee(source(), sink, idempotent=True)
    assert edge.promise == "once per key"
    assert "only what a crash cut off before that was stored is" in edge.reason


def test_only_a_partitioned_source_uses_several_workers():
    assert usable_workers(source()).startswith("1:")
    assert usable_workers(source(partitioned=True)).startswith("as many as it has partitions")
