"""What was settled by shares that are others now is left out when it comes again, and nothing else."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from connectors.batch import Batch
from connectors.errors import FatalError
from flows.runtime.build import Cluster
from flows.runtime.exchange import OpenMarks, share_of
from flows.runtime.settled_before import (
    Claim,
    SettledBefore,
    marks_of,
    settled_before,
    share_name,
)
from flows.state.marks import owner_name
from transforms.executions import Executions
from transforms.expressions import compile_jq

ALONE = Cluster(0, 0)


def executions(numbers, partition="p"):
    columns = {
        "data": [{"id": number} for number in numbers],
        "partition": [partition] * len(numbers),
        "position": [f"{number:04}" for number in numbers],
    }
    after = {partition: f"{numbers[-1]:04}"}
    return Executions(events=Batch(len(numbers), columns, after=after), pipeline="spread")


def left(look, numbers, partition="p"):
    """Return the numbers that are not left out."""
    batch = executions(numbers, partition)
    if look:
        look(batch)
    assert {ended.outcome for ended in batch.ended.values()} <= {"not_triggered"}
    return [number for place, number in enumerate(numbers) if place not in batch.ended]


def plan(partition_by=".data.id"):
    pipeline = SimpleNamespace(name="spread", partition_by=partition_by)
    return SimpleNamespace(name="orders", pipelines=[pipeline])


def owner(process, of, partition_by=".data.id"):
    (pipeline,) = plan(partition_by).pipelines
    return owner_name("orders", "spread", share_name(pipeline, Cluster(process, of)))


def look_at(found, at=ALONE, begins=None, partition_by=".data.id", formerly=()):
    found = settled_before(plan(partition_by), found, at, begins or {}, lambda _name: formerly)
    return found.get("spread")


def test_what_a_share_had_settled_is_left_out_up_to_its_mark_and_no_event_of_another_share():
    look = look_at({owner(1, 2): {"p": "0019"}}, begins={"p": "0009"})
    wanted = [n for n in range(10, 30) if n > 19 or share_of(n, 2) == 0]
    assert left(look, range(10, 15)) + left(look, range(15, 30)) == wanted
    assert not look, "the source has passed the mark: nothing is looked at any more"


def test_marks_of_several_crashes_count_together():
    look = look_at({owner(1, 2): {"p": "0019"}, owner(0, 3): {"p": "0012", "q": "0012"}})
    assert left(look, range(1, 30)) == [
        n
        for n in range(1, 30)
        if not (n <= 19 and share_of(n, 2) == 1) and not (n <= 12 and share_of(n, 3) == 0)
    ]
    assert look
    assert left(look, range(1, 13), "q") == [n for n in range(1, 13) if share_of(n, 3)]


def test_each_process_of_the_same_cluster_goes_by_its_own_marks():
    found = {owner(1, 2): {"p": "0019"}}
    assert look_at(found, Cluster(0, 2)) is None
    assert look_at(found, Cluster(0, 3)) is not None
    assert marks_of(plan(), found, Cluster(1, 2), {})["spread"].owner == owner(1, 2)


def test_one_that_is_not_spread_is_looked_at_whatever_process_reads():
    found = {owner(0, 2, None): {"p": "0019"}}
    assert owner(0, 2, None) == owner(1, 3, None)
    look = look_at(found, Cluster(1, 2), partition_by=None)
    assert left(look, range(10, 30)) == list(range(20, 30))


def test_marks_that_the_checkpoint_has_passed_hide_nothing():
    assert look_at({owner(1, 2): {"p": "0019"}}, begins={"p": "0019"}) is None


def test_a_source_that_begins_again_is_not_taken_for_one_that_repeats():
    look = SettledBefore([Claim(OpenMarks({"p": "0500"}, {"p": "0400"}))])
    assert left(look, range(1, 10)) == list(range(1, 10))
    assert not look


def test_a_partition_that_is_another_one_by_now_hides_nothing_behind_the_old_ones_mark():
    look = look_at({owner(1, 2): {"p": "0019@old"}}, begins={"p": "0003@old"})
    batch = executions(range(10, 30))
    batch.events.after["p"] = "0029@new"
    look(batch)
    assert not batch.ended
    assert not look
    again = look_at({owner(1, 2): {"p": "0019@new"}}, begins={"p": "0400@old"})
    assert left(again, range(1, 20)) == [n for n in range(1, 20) if share_of(n, 2) == 0]


@pytest.mark.parametrize("now", [".data.id + 1", None], ids=["changed", "taken out"])
def test_what_a_former_partition_by_shared_out_is_known_by_it(now):
    found = {owner(1, 2): {"p": "0019"}}
    look = look_at(found, partition_by=now, formerly=[".data.other", ".data.id"])
    assert left(look, range(1, 20)) == [n for n in range(1, 20) if share_of(n, 2) == 0]


def test_a_former_partition_by_that_nobody_knows_is_refused():
    with pytest.raises(FatalError) as caught:
        look_at({owner(1, 2): {"p": "0019"}}, partition_by=".data.new")
    assert caught.value.code == "partition_by_unknown"
    assert "as they were" in caught.value.hint


def test_what_failed_before_its_share_was_known_fails_again():
    look = SettledBefore([Claim(OpenMarks({"p": "0500"}, {}), 1, 2, compile_jq(".data.id.x"))])
    assert left(look, range(1, 10)) == list(range(1, 10))
