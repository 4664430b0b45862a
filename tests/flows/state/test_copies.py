"""Copies of dead letters: stored with them, there until they are confirmed, as they were."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from connectors.batch import Arrival
from connectors.errors import FatalError, PermanentError, RetryableError
from flows.state import copy_store, migrations, tables
from flows.state.copies import letter_copy, pack_arrival, read_copy, unpack_arrival
from flows.state.copy_store import CopyCounts, CopyStatus, RefusedCopy
from flows.state.prepared import Prepared, encoded
from tests.flows.state.samples import commit, letter, settlement

ARRIVAL = Arrival("t", 3, 7, b"\xff", b"\x00{", (("a", b"\xfe"), ("a", None)))


def copied(number, arrival=ARRIVAL, **changes):
    error = RetryableError("no", code="c")
    return letter_copy(letter(number, **changes), arrival, acting="step.jq", error=error)


def settled(*numbers, **changes):
    made = settlement(letters=[letter(number, **changes) for number in numbers])
    made.copies = [copied(number, **changes) for number in numbers]
    return made


def numbers(waiting):
    return [int(read_copy(each.body).letter.id[-12:]) for each in waiting]


def test_a_copy_has_the_letter_and_the_message_byte_for_byte():
    found = read_copy(copied(1, wire=b"\xffraw").body)
    assert found.letter == letter(1, wire=b"\xffraw")
    assert found.arrival == ARRIVAL
    assert (found.acting, found.failure) == ("step.jq", "connectors.errors.RetryableError")


def test_a_copy_of_an_event_from_elsewhere_has_no_message():
    assert read_copy(copied(1, arrival=None).body).arrival is None
    assert unpack_arrival(pack_arrival(ARRIVAL)) == ARRIVAL
    assert unpack_arrival(pack_arrival(None)) is None


def test_an_error_without_a_cause_and_text_that_no_database_holds_can_be_copied():
    made = letter_copy(letter(1, event_id="a\x00\ud800"), None, acting="x", error=None)
    found = read_copy(made.body)
    assert found.letter.event_id == "a␀�"
    assert found.failure == "connectors.errors.PermanentError"


def test_copies_wait_in_the_order_of_their_settling_until_they_are_confirmed(store, lease):
    commit(store, lease, [settled(3, 1), settled(2)])
    commit(store, lease, [settled(4, pipeline="other")])
    waiting = store.copies.waiting("shop", ["enrich"])
    assert numbers(waiting) == [3, 1, 2]
    assert {each.shard for each in waiting} == {"orders/0"}
    store.copies.settle(lease, [waiting[0].number, waiting[2].number], {}, "dead", None)
    assert numbers(store.copies.waiting("shop", ["enrich"])) == [1]
    assert numbers(store.copies.waiting("shop", ["enrich", "other"])) == [1, 4]
    assert store.copies.waiting("bank", ["enrich"]) == []


def test_few_large_copies_are_handed_out_at_once_but_always_one(store, lease, monkeypatch):
    commit(store, lease, [settled(1, 2, 3)])
    monkeypatch.setattr(copy_store, "LARGEST", 1)
    assert numbers(store.copies.waiting("shop", ["enrich"])) == [1]


def test_what_is_refused_is_kept_with_the_reason_and_waits_again_when_asked(store, lease):
    commit(store, lease, [settled(1, 2)])
    first, _ = store.copies.waiting("shop", ["enrich"])
    reason = RefusedCopy("message_too_large", "too \x00 large")
    store.copies.settle(lease, [], {first.number: reason}, "dead", None)
    assert numbers(store.copies.waiting("shop", ["enrich"])) == [2]
    assert store.copies.counts("shop") == {"enrich": CopyCounts(waiting=1, refused=1)}
    of_letter = store.copies.of_letter
    assert of_letter("shop", letter(1).id) == CopyStatus(
        "refused", "message_too_large", "too ␀ large"
    )
    assert of_letter("shop", letter(2).id) == CopyStatus("waiting", "", "")
    assert of_letter("shop", letter(3).id) is None
    assert store.copies.try_refused_again("shop", ["enrich"]) == 1
    assert numbers(store.copies.waiting("shop", ["enrich"])) == [1, 2]
    assert of_letter("shop", letter(1).id) == CopyStatus("waiting", "", "")


def test_a_letter_that_is_settled_over_itself_has_one_copy_the_newest(store, lease):
    commit(store, lease, [settled(1)])
    commit(store, lease, [settled(1, error_message="later")])
    (waiting,) = store.copies.waiting("shop", ["enrich"])
    assert read_copy(waiting.body).letter.error_message == "later"


def test_discarding_a_letter_leaves_its_copy(store, lease):
    commit(store, lease, [settled(1)])
    assert store.letters.remove("shop", [letter(1).id])
    assert numbers(store.copies.waiting("shop", ["enrich"])) == [1]


def test_the_sinks_state_is_stored_with_what_it_has_confirmed(store, lease):
    commit(store, lease, [settled(1)])
    (waiting,) = store.copies.waiting("shop", ["enrich"])
    store.copies.settle(lease, [waiting.number], {}, "dead", {"length": "7"})
    assert store.sink_states("shop", "orders/0") == {"dead": {"length": "7"}}


def test_one_who_was_taken_over_from_forgets_nothing(store, lease):
    commit(store, lease, [settled(1)])
    (waiting,) = store.copies.waiting("shop", ["enrich"])
    store.release_lease(lease)
    assert store.acquire_lease("shop", "orders/0", "other", 60.0)
    with pytest.raises(FatalError, match="taken over"):
        store.copies.settle(lease, [waiting.number], {}, "dead", {"length": "7"})
    assert numbers(store.copies.waiting("shop", ["enrich"])) == [1]
    assert store.sink_states("shop", "orders/0") == {}


def test_copies_of_a_prepared_outcome_are_kept_with_it():
    made = settled(1)
    prepared = Prepared("orders/0", "orders", "l", "t", {}, encoded([made]))
    assert prepared.settlements()[0].copies == made.copies


def test_a_state_store_from_before_there_were_copies_gets_their_table(url, opening):
    older = opening()
    version = migrations.FIRST_VERSION + migrations.STEPS.index(migrations._add_letter_copies)

    def go_back(connection):
        tables.letter_copies.drop(connection)
        connection.execute(update(tables.schema_version).values(version=version))

    older._database.run(go_back)
    store = opening()
    lease = store.acquire_lease("shop", "orders/0", "me", 60.0)
    commit(store, lease, [settled(1)])
    assert numbers(store.copies.waiting("shop", ["enrich"])) == [1]


def test_an_error_that_is_permanent_is_named_so():
    made = letter_copy(letter(1), None, acting="x", error=PermanentError("no", code="c"))
    assert read_copy(made.body).failure == "connectors.errors.PermanentError"
