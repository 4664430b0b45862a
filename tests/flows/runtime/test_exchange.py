"""What crosses between the processes of a cluster, and what is left out when it comes again."""

from __future__ import annotations

from connectors.batch import Batch
from flows.runtime.exchange import Marks, Splitter
from transforms.executions import Executions
from transforms.expressions import compile_jq


def executions(numbers, of=""):
    """Return executions whose checkpoint says that the partition is `of` this."""
    columns = {
        "data": [{"id": number} for number in numbers],
        "key": [str(number) for number in numbers],
        "partition": ["p"] * len(numbers),
        "position": [f"{number:04}" for number in numbers],
        "id": [f"e{number}" for number in numbers],
        "source": ["/s"] * len(numbers),
        "type": ["t"] * len(numbers),
    }
    after = {"p": f"{numbers[-1]:04}{of}"}
    return Executions(events=Batch(len(numbers), columns, after=after), pipeline="spread")


def sent(numbers, own=0, of=2, anew=""):
    """Return the part that goes to the other of two processes, as bytes."""
    parts = dict(Splitter(compile_jq(".data.id"), own, of)(executions(numbers, anew)))
    return parts[str(1 - own)]


def test_each_event_goes_to_one_process_and_always_the_same():
    split = Splitter(compile_jq(".data.id"), 0, 3)
    shares = []
    for _ in range(2):
        parts = dict(split(executions(range(1, 50))))
        own = parts.pop("0")
        others = {to: Marks("", {}, {}).received(part) for to, part in parts.items()}
        shares.append(
            {"0": own.events.column("id")}
            | {to: part.events.column("id") for to, part in others.items()}
        )
    assert shares[0] == shares[1]
    told = [event for share in shares[0].values() for event in share]
    assert sorted(told) == sorted(f"e{n}" for n in range(1, 50))


def test_what_crosses_arrives_whole_and_in_order():
    part = Marks("", {}, {}).received(sent(range(1, 30)))
    data = part.events.column("data")
    assert [row["id"] for row in data] == sorted(row["id"] for row in data)
    assert part.events.column("key") == [str(row["id"]) for row in data]
    assert part.events.after == {"p": "0029"}


def test_what_was_settled_here_before_is_left_out_when_it_comes_again():
    settled = Marks("owner", {}, {}).received(sent(range(1, 20))).events.after
    again = Marks("owner", settled, {"p": "0009"}).received(sent(range(10, 40)))
    numbers = [row["id"] for row in again.events.column("data")]
    assert numbers
    assert min(numbers) > 19
    assert again.events.after == {"p": "0039"}


def test_our_own_part_leaves_out_what_was_settled_with_what_others_sent():
    """Each process of a Kafka flow reads some partitions, and is sent events of the others."""
    split = Splitter(compile_jq(".data.id"), 0, 2)
    own = dict(split(executions(range(1, 40))))["0"]
    marks = Marks("owner", {"p": "0019"}, {"p": "0000"})
    fresh = marks.fresh(own)
    numbers = [row["id"] for row in own.events.column("data")]
    assert [row["id"] for row in fresh.events.column("data")] == [n for n in numbers if n > 19]
    marks.passed(fresh.events.after)
    assert marks.unsaved == {"p": "0039"}
    assert Marks("owner", {}, {}).fresh(own) is own


def test_a_batch_that_ends_before_what_was_settled_here_does_not_take_the_mark_back():
    """Else a second crash, before the rest has come again, would repeat that rest."""
    settled = {"p": "0019"}
    marks = Marks("owner", settled, {"p": "0004"})
    again = marks.received(sent(range(5, 12)))
    assert (again.events.size, again.events.after) == (0, settled)
    later = marks.received(sent(range(12, 40)))
    assert later.events.after == {"p": "0039"}


def test_a_source_that_begins_again_is_not_taken_for_one_that_repeats():
    """A topic that was made anew counts from the start: its offsets mean other events."""
    marks = Marks("owner", {"p": "0500"}, {"p": "0400"})
    part = marks.received(sent(range(1, 30)))
    assert part.events.size == len(
        Marks("", {}, {}).received(sent(range(1, 30))).events.column("id")
    )


def test_a_partition_that_is_another_one_by_now_hides_nothing_behind_the_old_ones_mark():
    """Not either where the process gets its first event of it between checkpoint and mark."""
    whole = Marks("", {}, {}).received(sent(range(15, 40))).events.column("id")
    for begins in ({"p": "0010@old"}, {"p": "0000@new"}, {"p": "0010"}):
        marks = Marks("owner", {"p": "0019@old"}, begins)
        part = marks.received(sent(range(15, 40), anew="@new"))
        assert part.events.column("id") == whole
        assert part.events.after == {"p": "0039@new"}
    own = dict(Splitter(compile_jq(".data.id"), 0, 2)(executions(range(15, 40), "@new")))["0"]
    marks = Marks("owner", {"p": "0019@old"}, {"p": "0010@old"})
    assert marks.fresh(own).events.column("id") == own.events.column("id")


def test_what_was_settled_of_the_new_partition_is_left_out_though_the_checkpoint_is_of_the_old_one():
    """The process was faster than the checkpoint, and the source begins anew once more."""
    marks = Marks("owner", {"p": "0019@new"}, {"p": "0050@old"})
    part = marks.received(sent(range(1, 40), anew="@new"))
    numbers = [row["id"] for row in part.events.column("data")]
    assert numbers
    assert min(numbers) > 19


def test_a_mark_from_before_partitions_said_what_they_are_holds():
    marks = Marks("owner", {"p": "0019"}, {"p": "0009@now"})
    part = marks.received(sent(range(10, 40), anew="@now"))
    assert min(row["id"] for row in part.events.column("data")) > 19


def test_an_event_whose_key_can_not_be_read_stays_and_fails():
    split = Splitter(compile_jq(".data.id.x"), 0, 2)
    ((to, part),) = split(executions(range(1, 4)))
    assert to == "0"
    assert {end.outcome for end in part.ended.values()} == {"failed"}
    assert {end.error.code for end in part.ended.values()} == {"jq_error"}
