"""An execution is found by its id, wherever it is kept."""

from __future__ import annotations

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from connectors.errors import FlowFileError
from flows.history.finding import find_execution
from flows.state.bodies import encode_each
from tests.flows.state.samples import parked
from transforms.executions import UNSET


def test_an_id_finds_its_execution_among_those_of_many_batches(recording):
    made = [recording.done(*range(n, n + 5), at=10.0 * n) for n in range(1, 200, 5)]
    for each in made:
        recording.settle(each)
    for batch in (made[0], made[17], made[-1]):
        for index, execution in enumerate(recording.ids(batch)):
            found = find_execution(recording.store, "shop", execution)
            assert found.id == execution
            assert found.attribute("id") == batch.events.column("id")[index]
            assert found.status == "completed"
            assert found.tenant == f"shop-{found.attribute('data')['n'] % 2}"
            outputs = found.executions.outputs
            assert outputs["charge"] == [batch.outputs["charge"][index]]


@pytest.mark.parametrize("years", [0.0, 0.001, 0.5, 40.0])
def test_a_batch_whose_events_are_far_apart_is_found_by_each_of_them(recording, years):
    wide = recording.done(1, 2, 3)
    wide.events.columns["timestamp"] = [1.0, 1e9, 1e9 + years * 31_557_600]
    recording.settle(wide)
    recording.settle(recording.done(*range(10, 20), at=1e9))
    for execution in recording.ids(wide):
        assert find_execution(recording.store, "shop", execution).id == execution


def test_the_start_of_an_id_is_enough_while_it_fits_one(recording):
    one = recording.done(1)
    recording.settle(one)
    (execution,) = recording.ids(one)
    for shown in (execution[:13], execution[:18].upper(), f" {execution} "):
        assert find_execution(recording.store, "shop", shown).id == execution


def test_a_start_that_fits_several_names_them(recording):
    many = recording.done(1, 2, 3)
    recording.settle(many)
    with pytest.raises(FlowFileError, match="fits several") as caught:
        find_execution(recording.store, "shop", recording.ids(many)[0][:8])
    assert caught.value.code == "execution_ambiguous"
    assert recording.ids(many)[2] in caught.value.message


@pytest.mark.parametrize("given", ["", "0199", "zzzzzzzz", "0199f2a1-", "flow.yaml", "0" * 36])
def test_what_is_no_ones_id_is_told(recording, given):
    recording.settle(recording.done(1))
    with pytest.raises(FlowFileError) as caught:
        find_execution(recording.store, "shop", given)
    assert caught.value.code == "execution_unknown"
    assert caught.value.hint


def test_of_an_execution_recorded_twice_the_last_is_shown(recording):
    first, again = recording.done(1), recording.done(1)
    again.outputs["charge"] = [{"charged": "again"}]
    recording.settle(first)
    recording.settle(again)
    found = find_execution(recording.store, "shop", recording.ids(first)[0])
    assert found.executions.outputs["charge"] == [{"charged": "again"}]


def test_an_event_without_a_time_is_found_too(recording):
    one = recording.done(1, 2)
    one.events.columns["timestamp"] = [None, None]
    recording.settle(one)
    recording.settle(recording.done(3))
    for execution in recording.ids(one):
        assert find_execution(recording.store, "shop", execution).id == execution


def test_what_failed_while_history_was_off_is_told_from_its_dead_letter(recording):
    made = recording.failed(5)
    recording.settle(made, record="off")
    found = find_execution(recording.store, "shop", recording.ids(made)[0])
    assert (found.status, found.step, found.error.code) == ("failed", "charge", "http_status")
    assert found.letter == found.id
    assert found.attribute("data")["n"] == 5
    assert found.executions.outputs["check"] == [{"ok": True}]


def test_what_was_recorded_and_is_a_dead_letter_knows_both(recording):
    made = recording.failed(5)
    recording.settle(made)
    found = find_execution(recording.store, "shop", recording.ids(made)[0])
    assert found.letter == found.id
    assert found.ended_at is not None
    assert [each["code"] for each in found.tries] == ["http_status"]


def test_what_waits_is_found_with_the_step_it_waits_for(recording):
    made = recording.batch(5)
    made.outputs["check"] = [{"ok": True}]
    made.outputs["later"] = [UNSET]
    (body,) = encode_each(made, [0])
    (execution,) = recording.ids(made)
    waiting = parked(1, body=body)
    place = type(waiting.place)(execution, "ship", "orders", "orders/0", "k", 1, 2, 10.0)
    settlement = recording.settle(recording.done(1))
    settlement.history = None
    settlement.parked.append(type(waiting)(place, *_rest(waiting)))
    recording.store.commit(recording.lease, "orders", [settlement], {}, {})
    found = find_execution(recording.store, "shop", execution)
    assert (found.status, found.step, found.parked.place.attempts) == ("waiting", "charge", 2)
    assert found.executions.outputs["check"] == [{"ok": True}]


def _rest(waiting):
    return [getattr(waiting, name) for name in waiting.__slots__[1:]]


def test_executions_of_another_flow_are_not_found(recording):
    one = recording.done(1)
    recording.settle(one)
    with pytest.raises(FlowFileError, match="no execution"):
        find_execution(recording.store, "bank", recording.ids(one)[0])


def test_a_version_of_the_flow_that_is_known_is_not_written_again(recording):
    chunks = recording.store.chunks
    version = recording.plan.version_hash
    document = chunks.version("shop", version)
    chunks.save_version("shop", version, document, 5.0)
    assert _recorded_at(recording) == {version: 1.0}
    chunks.save_version("shop", "other", document, 6.0)
    chunks.save_version("shop", version, document, 7.0)
    assert _recorded_at(recording) == {version: 7.0, "other": 6.0}
    assert chunks.newest_version("shop") == version


def _recorded_at(recording):
    query = "SELECT version, recorded_at FROM penstock_flow_versions"
    rows = recording.store._database.run(lambda c: c.exec_driver_sql(query).all())
    return dict(tuple(row) for row in rows)


def test_of_a_usual_execution_the_store_is_asked_little(recording):
    # Each statement is a round trip: under load, that is what a timeline takes its time for.
    for n in range(1, 30):
        recording.settle(recording.done(n, n + 100, at=float(n)))
    one = recording.done(1000, at=7.0)
    recording.settle(one)
    (execution,) = recording.ids(one)
    asked = []

    def count(_connection, _cursor, statement, *_):
        asked.append(statement)

    event.listen(Engine, "before_cursor_execute", count)
    try:
        assert find_execution(recording.store, "shop", execution).id == execution
    finally:
        event.remove(Engine, "before_cursor_execute", count)
    assert len(asked) <= 5, asked
