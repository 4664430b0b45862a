"""`step.foreach`: a pass of its steps for each item, many events' items at once."""

from __future__ import annotations

import threading

import pytest

from connectors.errors import FatalError, PermanentError, RetryableError
from tests.transforms.steps.answering import Answer, as_json, serving
from tests.transforms.steps.inside import Kept, foreach, jq, places, step


@pytest.fixture
def server():
    with serving() as found:
        yield found


def call(server, name="call", path="{{ .item }}", **config):
    return step(name, "http_call", {"url": f"{server.url}/{path}", "method": "POST", **config})


def results(executions, name="lines"):
    return [output["results"] for output in executions.outputs[name]]


def asked(server):
    return [seen.path.removeprefix("/") for seen in server.seen]


# --- what the steps see, and what comes out -----------------------------------------------------


def test_each_item_runs_the_steps_and_the_results_stand_in_the_order_of_the_items(
    steps, executions
):
    run = steps(
        jq("rate", ".data.rate"),
        foreach(
            jq("net", ".item * 2"),
            jq("gross", "{n: .index, net: .steps.net.output, rate: .steps.rate.output, id: .id}"),
        ),
        jq("after", ".steps.lines.output.count"),
    )
    found = run.run(
        executions(
            {"id": 7, "rate": 3, "items": [10, 20]},
            {"id": 8, "rate": 4, "items": []},
            {"id": 9, "rate": 5, "items": [30]},
        )
    )
    assert found.outputs["lines"] == [
        {
            "results": [
                {"n": 0, "net": 20, "rate": 3, "id": 7},
                {"n": 1, "net": 40, "rate": 3, "id": 7},
            ],
            "count": 2,
        },
        {"results": [], "count": 0},
        {"results": [{"n": 0, "net": 60, "rate": 5, "id": 9}], "count": 1},
    ]
    assert found.outputs["after"] == [2, 0, 1]
    assert list(found.outputs) == ["rate", "lines", "after"]


def test_a_step_of_the_loop_hides_an_outer_one_of_its_name_even_where_it_did_not_run(
    steps, executions
):
    seen = {"first": "{{ .steps.first.output.net }}", "net": "{{ .steps.net.output }}"}
    run = steps(
        jq("net", '"outer"'),
        foreach(
            step("first", "set", {"values": {"net": '{{ .steps | has("net") }}'}}),
            jq("net", '"inner"', **{"if": ".item == 1"}),
            step("see", "set", {"values": seen}),
        ),
    )
    found = run.run(executions({"items": [1, 2]}))
    assert results(found) == [[{"first": False, "net": "inner"}, {"first": False, "net": None}]]
    assert found.outputs["net"] == ["outer"]


def test_item_and_index_have_the_names_they_are_given_and_hide_fields_of_the_event(
    steps, executions
):
    run = steps(
        foreach(
            jq("all", "[.line, .n, .data.line, .trigger.line, .trigger.data.line]"),
            step("also", "set", {"values": {"is": "{{ .n }}: {{ .line }}, {{ .trigger.line }}"}}),
            jq("both", "[.steps.all.output, .steps.also.output.is]"),
            # This one is too much for a path, and is given the parts of the context that it reads.
            jq(
                "last",
                '[.steps.both.output[], ([.line, .trigger.line] | map(tostring) | join("+"))]',
            ),
            item_key="line",
            index_key="n",
        )
    )
    found = run.run(executions({"line": "own", "items": ["a"]}))
    assert results(found) == [[[["a", 0, "own", "own", "own"], "0: a, own", "a+own"]]]


def test_the_whole_context_has_item_and_index_too(steps, executions):
    run = steps(foreach(jq("keys", 'with_entries(select(.key | test("^i")))')))
    found = run.run(executions({"items": ["a"]}))
    assert results(found) == [[{"id": "event-0", "index": 0, "item": "a", "items": ["a"]}]]


def test_a_loop_in_a_loop_sees_both_items(steps, executions):
    inner = foreach(
        jq("pair", "[.order.id, .part, .index, .number]"),
        name="parts",
        collection="order.parts",
        item_var="part",
        index_key="number",
    )
    run = steps(foreach(inner, item_var="order", name="orders"))
    found = run.run(
        executions({"items": [{"id": 1, "parts": ["a", "b"]}, {"id": 2, "parts": ["c"]}]})
    )
    parts = [one["results"] for one in results(found, "orders")[0]]
    assert parts == [[[1, "a", 0, 0], [1, "b", 0, 1]], [[2, "c", 1, 0]]]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"items": None}, "data.items is nothing, and no list"),
        ({}, "data.items is nothing, and no list"),
        ({"items": {"a": 1}}, "of type object, and no list"),
        ({"items": "ab"}, "of type string, and no list"),
    ],
)
def test_what_is_no_list_fails_its_event_and_no_other(steps, executions, data, said):
    run = steps(foreach(jq("same", ".item")))
    found = run.run(executions({"items": [1]}, data, {"items": [2]}))
    assert places(found) == {1: ("lines", "not_a_list")}
    assert said in found.ended[1].error.message
    assert [found.outputs["lines"][k]["results"] for k in (0, 2)] == [[1], [2]]


def test_a_hundred_thousand_items_are_worked_on_in_pieces(steps, executions, tmp_path):
    (tmp_path / "sizes_of_batches.py").write_text(
        "def size(values):\n    return [len(values)] * len(values)\n"
    )
    sizes = {"function": "sizes_of_batches:size", "batch": True, "input_from": "item"}
    run = steps(foreach(step("size", "python", sizes)))
    found = run.run(executions({"items": list(range(100_000))}, {"items": [5]}))
    sizes = results(found)[0]
    assert len(sizes) == 100_000
    assert max(sizes) <= 1000
    assert len(results(found)[1]) == 1


# --- failures -----------------------------------------------------------------------------------


def test_the_first_item_that_fails_fails_the_event_and_names_item_and_step(steps, executions):
    run = steps(foreach(jq("good", ".item"), jq("bad", ".steps.good.output / 2")))
    found = run.run(executions({"items": [2, "x", "y"]}, {"items": [4]}))
    assert places(found) == {0: ("lines[1].bad", "jq_error")}
    assert found.outputs["lines"][1] == {"results": [2], "count": 1}


def test_collected_errors_stand_beside_the_results(steps, executions):
    run = steps(foreach(jq("half", ".item / 2"), error_strategy="collect_errors"))
    found = run.run(executions({"items": [2, "x", 6, None]}, {"items": [4]}))
    assert found.ended == {}
    output = found.outputs["lines"][0]
    assert output["results"] == [1, None, 3, None]
    assert (output["count"], output["error_count"]) == (4, 2)
    assert [(e["index"], e["step"], e["code"]) for e in output["errors"]] == [
        (1, "half", "jq_error"),
        (3, "half", "jq_error"),
    ]
    assert '"x"' in output["errors"][0]["message"]
    assert found.outputs["lines"][1] == {
        "results": [2],
        "count": 1,
        "errors": [],
        "error_count": 0,
    }


def test_a_failure_in_an_inner_loop_says_where_in_both(steps, executions):
    inner = foreach(jq("half", ".part / 2"), name="parts", collection="item", item_var="part")
    found = steps(foreach(inner)).run(executions({"items": [[2], [4, 6, "x"]]}))
    assert places(found) == {0: ("lines[1].parts[2].half", "jq_error")}


def test_an_item_whose_step_is_skipped_on_error_goes_on_and_the_error_is_kept(steps, executions):
    run = steps(foreach(jq("half", ".item / 2", on_error="skip"), jq("seen", "[.item]")))
    found = run.run(executions({"items": [2, "x"]}))
    assert results(found) == [[[2], ["x"]]]
    assert {
        name: {index: error.code for index, error in kept.items()}
        for name, kept in found.passed_over.items()
    } == {"lines[1].half": {0: "jq_error"}}


def test_the_loop_itself_may_be_skipped_on_error(steps, executions):
    run = steps(foreach(jq("half", ".item / 2")) | {"on_error": "skip"}, jq("after", "1"))
    found = run.run(executions({"items": ["x"]}))
    assert found.ended == {}
    assert found.passed_over["lines"][0].code == "jq_error"
    assert found.outputs["after"] == [1]


def test_steps_jump_to_later_ones_of_their_loop(steps, executions):
    run = steps(
        foreach(
            step("route", "conditional", {"condition": ".item > 1", "then": "big"}),
            jq("small", '"small"'),
            jq("big", '.steps.small.output // "big"'),
        )
    )
    assert results(run.run(executions({"items": [1, 2]}))) == [["small", "big"]]


def test_unnamed_steps_are_called_by_their_place(steps, executions):
    run = steps(
        foreach(
            {"type": "step.jq", "config": {"expression": ".item + 1"}},
            {"type": "step.jq", "config": {"expression": '.steps["step-1"].output / 2'}},
            error_strategy="collect_errors",
        )
    )
    output = run.run(executions({"items": [1, "x"]})).outputs["lines"][0]
    assert output["results"] == [1, None]
    assert output["errors"][0]["step"] == "step-1"


# --- reaching out -------------------------------------------------------------------------------


def test_one_after_another_an_item_is_called_for_once_the_one_before_is_through(
    steps, executions, server
):
    server.answer = lambda seen: as_json(seen.path)
    run = steps(
        foreach(call(server, "one", "one/{{ .item }}"), call(server, "two", "two/{{ .item }}"))
    )
    found = run.run(executions({"items": ["a", "b"]}))
    assert asked(server) == ["one/a", "two/a", "one/b", "two/b"]
    assert results(found) == [["/two/a", "/two/b"]]


def test_after_a_failure_no_further_item_is_called_for(steps, executions, server):
    server.answer = lambda seen: Answer(400 if seen.path == "/b" else 200)
    found = steps(foreach(call(server))).run(executions({"items": ["a", "b", "c", "d"]}))
    assert asked(server) == ["a", "b"]
    assert places(found) == {0: ("lines[1].call", "http_status")}


def test_collecting_errors_all_items_are_called_for(steps, executions, server):
    server.answer = lambda seen: Answer(400 if seen.path == "/b" else 204)
    run = steps(foreach(call(server), error_strategy="collect_errors"))
    found = run.run(executions({"items": ["a", "b", "c"]}))
    assert asked(server) == ["a", "b", "c"]
    assert [e["index"] for e in found.outputs["lines"][0]["errors"]] == [1]


def test_concurrency_is_how_many_items_of_an_event_are_under_way(steps, executions, server):
    reached = threading.Event()

    def answer(seen):
        if server.under_way >= 3:
            reached.set()
        reached.wait(10)
        return as_json(seen.path)

    server.answer = answer
    run = steps(foreach(call(server), concurrency=3))
    found = run.run(executions({"items": list("abcdefg")}))
    assert results(found) == [[f"/{one}" for one in "abcdefg"]]
    assert server.most_under_way == 3


def test_items_of_other_events_are_under_way_beside(steps, executions, server):
    reached = threading.Event()

    def answer(seen):
        if server.under_way >= 4:
            reached.set()
        assert reached.wait(10)
        return as_json(seen.path)

    server.answer = answer
    found = steps(foreach(call(server))).run(executions(*[{"items": ["a"]} for _ in range(4)]))
    assert results(found) == [["/a"]] * 4


def test_events_of_one_key_take_turns(steps, executions, server):
    run = steps(foreach(call(server, path="{{ .name }}{{ .item }}"), concurrency=2))
    lists = [{"name": name, "items": [1, 2, 3]} for name in "abc"]
    run.run(executions(*lists, key=["k", "k", None]))
    order = asked(server)
    assert len(order) == 9
    first, second = ([one for one in order if one.startswith(name)] for name in "ab")
    assert order.index(second[0]) > max(order.index(one) for one in first)
    assert sorted(first) == ["a1", "a2", "a3"]


def test_what_is_published_comes_item_by_item_with_an_id_of_its_own(steps, executions):
    sink = Kept()
    run = steps(
        foreach(jq("shape", "{sku: .item, n: .index}"), step("send", "publish")),
        sinks={"out": sink},
    )
    for _ in range(2):
        run.run(executions({"items": ["a", "b"]}, {"items": ["c"]}, key=["k", "k"]))
    half = len(sink.deliveries) // 2
    assert sink.values[:3] == [{"sku": "a", "n": 0}, {"sku": "b", "n": 1}, {"sku": "c", "n": 0}]
    once = [one for ids in sink.ids[:half] for one in ids]
    again = [one for ids in sink.ids[half:] for one in ids]
    assert len(set(once)) == 3
    assert once == again


def test_a_published_item_keeps_its_events_key(steps, executions):
    sink = Kept()
    keys = []
    deliver = sink.deliver
    sink.deliver = lambda events: keys.extend(events.keys) or deliver(events)
    steps(foreach(step("send", "publish"), concurrency=5), sinks={"out": sink}).run(
        executions({"items": [1, 2]}, key=["k"])
    )
    assert keys == ["k", "k"]


def test_a_sink_that_is_away_is_waited_for_inside_a_loop(steps, executions, monkeypatch):
    monkeypatch.setattr("flows.runtime.stepping.FIRST_DELAY", 0.01)
    away = {0: RetryableError("the sink is away.", code="gone")}
    sink = Kept([away, away])
    waits = []
    run = steps(
        foreach(jq("shape", ".item"), step("send", "publish"), concurrency=9), sinks={"out": sink}
    )
    deliver = sink.deliver
    sink.deliver = lambda events: waits.append(run.runners[0].status) or deliver(events)
    found = run.run(executions({"items": ["a", "b"]}))
    assert found.ended == {}
    assert sink.deliveries == [["a", "b"], ["a"], ["a"]]
    assert waits == ["", "lines.send: the sink is away.", "lines.send: the sink is away."]
    assert run.runners[0].status == ""


def test_what_a_sink_refuses_names_the_item(steps, executions):
    sink = Kept([{1: PermanentError("too long.", code="too_long")}])
    run = steps(
        foreach(jq("shape", ".item"), step("send", "publish"), concurrency=9), sinks={"out": sink}
    )
    assert places(run.run(executions({"items": ["a", "b"]}))) == {0: ("lines[1].send", "too_long")}


def test_a_fatal_error_inside_stops_the_worker_and_nothing_more_is_done(steps, executions):
    sink = Kept([{0: FatalError("no rights.", code="sink_rights")}])
    run = steps(foreach(jq("shape", ".item"), step("send", "publish")), sinks={"out": sink})
    run.run(executions({"items": ["a", "b", "c"]}))
    assert run.halt.error.code == "sink_rights"
    assert sink.deliveries == [["a"]]
