"""What crosses between the processes of a cluster, and what is left out when it comes again."""

from __future__ import annotations

from connectors.batch import Batch
from flows.runtime.exchange import Marks, Splitter
from transforms.executions import Executions
from transforms.expressions import compile_jq


def executions(numbers):
    columns = {
        "data": [{"id": number} for number in numbers],
        "key": [str(number) for number in numbers],
        "partition": ["p"] * len(numbers),
        "position": [f"{number:04}" for number in numbers],
        "id": [f"e{number}" for number in numbers],
        "source": ["/s"] * len(numbers),
        "type": ["t"] * len(numbers),
    }
    after = {"p": f"{numbers[-1]:04}"}
    return Executions(events=Batch(len(numbers), columns, after=after), pipeline="spread")


def sent(numbers, own=0, of=2):
    """Return the part that goes to the other of two processes, as bytes."""
    parts = dict(Splitter(compile_jq(".data.id"), own, of)(executions(numbers)))
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
    assert marks.since_start == {"p": "0039"}
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


def test_an_event_whose_key_can_not_be_read_stays_and_fails():
    split = Splitter(compile_jq(".data.id.x"), 0, 2)
    ((to, part),) = split(executions(range(1, 4)))
    assert to == "0"
    assert {end.outcome for end in part.ended.values()} == {"failed"}
    assert {end.error.code for end in part.ended.values()} == {"jq_error"}
