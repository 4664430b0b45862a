"""What the routes answer, and that the OpenAPI document says so."""

from __future__ import annotations

import re

import jsonschema_rs
import openapi_spec_validator
import pytest

from connectors.batch import Batch
from connectors.contracts import Lag
from dlq.replay import Request, ask
from dlq.selection import Selection
from flows.runtime.measures import Histogram, Measures, PipelineMeasures, StepMeasures
from flows.runtime.reports import PipelineCounts, Report
from flows.runtime.supervisor import WorkerView
from flows.state.bodies import encode_each
from flows.state.letter_filter import LetterFilter
from flows.state.store import open_store
from penstock.api.routes import ROUTES, described
from tests.flows.state.samples import commit, letter, parked, settlement
from tests.penstock.api.served import problem, serving
from transforms.executions import Executions

LETTER = "019a0000-0000-7000-8000-000000000001"


def worker(shard=0, *, state="running", status="", pid=1, **report):
    view = WorkerView("orders", shard, 2, pid=pid)
    view.report = Report(state, status=status, **report)
    return view


def body():
    """Return an execution as it is kept while it waits."""
    columns = {"raw": [b'{"n":1}'], "id": ["e"], "source": ["/s"], "type": ["t"]}
    columns |= {"partition": ["orders/0"], "position": ["1"]}
    made = Executions(Batch(1, columns, after={}), "enrich", outputs={"charge": [{"n": 1}]})
    return encode_each(made, [0])[0]


def filled(store, lease):
    """Store one of everything."""
    letters = [
        letter(
            1,
            outputs='{"n":12345678901234567890.10}',
            change='{"operation":"INSERT"}',
            compensation="[]",
        ),
        letter(2, wire=b"\xff\x00", context="{}"),
    ]
    done = settlement(3, letters=letters, failed=2)
    done.parked.append(parked(1, body=body()))
    done.parked.append(
        parked(2, attempts=0, error_code="", error_message="", step=None, body=body())
    )
    commit(store, lease, [done], {"orders/0": "42"}, {"orders/0": Lag(events=7, seconds=1.5)})
    selection = Selection(LetterFilter(flow="shop", ids=(LETTER[:-1] + "2",)))
    ask(store, Request(selection, by="me", edit="{n: 1}"))
    store.backfills.add(
        flow="shop",
        pipeline="enrich",
        source="orders",
        mode="shadow",
        since=0,
        until=1000,
        request={"filter": {"event_type": "order.*"}},
        by="me",
        expected=None,
    )


@pytest.fixture
def full(served, store, lease):
    filled(store, lease)
    steps = {"charge": StepMeasures(5, 2, 1, 3, Histogram()), "write": StepMeasures(3)}
    served.live.see(
        [
            worker(
                0,
                pipelines={"enrich": PipelineCounts(5, 3, 2, 0)},
                parked={"enrich": 2},
                active={"enrich": 4},
                lags={"orders/0": Lag(events=7)},
                connectors={"orders": "", "out": ""},
                measures=Measures({"enrich": PipelineMeasures(steps=steps)}, 1.5),
            ),
            worker(1, pipelines={"enrich": PipelineCounts(1, 1, 0, 0)}, connectors={"orders": ""}),
        ]
    )
    return served


def filled_in(path):
    path = path.replace("{pipeline}", "enrich").replace("{id}", LETTER)
    path = path.replace("{execution}", LETTER)
    if path.endswith("/diff"):
        path += f"?left={LETTER}&right={LETTER[:-1]}2"
    return path.replace("{replay}", "1").replace("{backfill}", "1")


def test_the_document_is_valid_openapi_and_describes_everything(served):
    document = served.client.get("/api/v1/openapi.json").json()
    assert document == described()
    openapi_spec_validator.validate(document)
    operations = [each for methods in document["paths"].values() for each in methods.values()]
    assert len(operations) == len(ROUTES)
    for operation in operations:
        assert operation["summary"].endswith(".")
        assert all(each["description"] for each in operation.get("parameters", ()))
    for name, schema in document["components"]["schemas"].items():
        assert schema["description"], name
        for field, part in schema["properties"].items():
            assert part.get("description") or "items" in part or name == "Problem", (name, field)


READS = [route for route in ROUTES if route.method == "GET" and route.answer is not None]


@pytest.mark.parametrize("route", READS, ids=lambda route: route.path)
def test_what_a_route_answers_is_what_the_document_says(full, route):
    answer = full.client.get(filled_in(route.path))
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    document = described()
    schema = {
        "$ref": f"#/components/schemas/{route.answer.__name__}",
        "components": document["components"],
    }
    jsonschema_rs.validate(schema, answer.json())


def test_a_pipeline_shows_its_plan_what_its_steps_did_and_its_totals(full):
    shown = full.client.get("/api/v1/pipelines/enrich").json()
    assert shown["counts"] == {"received": 6, "done": 4, "failed": 2, "skipped": 0}
    assert (shown["active"], shown["parked"], shown["lag"]["events"]) == (4, 2, 7)
    assert shown["totals"] == {
        "done": 3,
        "failed": 2,
        "skipped": 0,
        "dead_letters": 2,
        "parked": 2,
    }
    charge, write = shown["plan"]["steps"]
    assert (charge["name"], charge["type"], charge["if"]) == (
        "charge",
        "step.jq",
        ".data.total > 0",
    )
    assert (charge["completed"], charge["failed"], charge["skipped"], charge["retries"]) == (
        *(5, 2, 1),
        3,
    )
    assert charge["retry"]["max_attempts"] == 5
    assert write["acts"] is True


def test_a_source_shows_positions_lag_and_its_workers(full):
    (source,) = full.client.get("/api/v1/sources").json()["sources"]
    assert source["pipelines"] == ["enrich", "audit"]
    (partition,) = source["partitions"]
    assert (partition["partition"], partition["position"]) == ("orders/0", "42")
    assert partition["lag"] == {"events": 7, "bytes": None, "seconds": 1.5}
    assert [each["shard"] for each in source["workers"]] == [0, 1]


def test_what_waits_is_shown_with_why(full):
    first, second = full.client.get("/api/v1/parked").json()["parked"]
    assert (first["step"], first["attempts"], first["key"]) == ("charge", 1, "k")
    assert first["error"]["code"] == "http_status"
    assert (second["step"], second["error"]) == (None, None)


def test_a_dead_letter_is_shown_digit_for_digit_and_byte_for_byte(full):
    text = full.client.get(f"/api/v1/dlq/pipelines/enrich/{LETTER}").text
    assert '"outputs":{"n":12345678901234567890.10}' in text
    assert '"data":{"total":10.50}' in text
    other = full.client.get(f"/api/v1/dlq/pipelines/enrich/{LETTER[:-1]}2").json()
    assert other["wire_base64"] == "/wA="


def test_a_dead_letter_of_another_pipeline_is_not_found(full):
    answer = full.client.get(f"/api/v1/dlq/pipelines/audit/{LETTER}")
    assert problem(answer) == (404, "dead_letter_unknown")


def pages(client, path, key, limit):
    """Follow the cursor to the end; return the pages."""
    found, cursor = [], None
    while True:
        query = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        page = client.get(path, params=query).json()
        found.append(page[key])
        cursor = page["cursor"]
        if cursor is None:
            return found


@pytest.mark.parametrize("limit", [1, 3, 7, 20])
def test_pages_of_dead_letters_miss_and_repeat_none_although_many_failed_at_once(
    served, store, lease, limit
):
    letters = [letter(n, last_failed_at=1000.0 + n // 8 / 3) for n in range(20)]
    commit(store, lease, [settlement(letters=letters, failed=20)])
    found = pages(served.client, "/api/v1/dlq/pipelines/enrich", "dead_letters", limit)
    ids = [each["id"] for page in found for each in page]
    expected = sorted(letters, key=lambda each: (each.last_failed_at, each.id), reverse=True)
    assert ids == [each.id for each in expected]
    assert all(len(page) == limit for page in found[:-1])


@pytest.mark.parametrize("limit", [1, 3, 7, 20])
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def test_pages_of_what_waits_miss_and_repeat_none_although_many_are_due_at_once(
    kind, request, tmp_path, limit
):
    url = request.getfixturevalue("sqlite_url" if kind == "sqlite" else "database")
    store = open_store(url)
    try:
        lease = store.acquire_lease("shop", "orders/0", "me", 60.0)
        done = settlement(0)
        done.parked += [parked(turn, due_at=1000.0 + turn // 8 / 3) for turn in range(20)]
        commit(store, lease, [done])
    finally:
        store.close()
    with serving(tmp_path, url) as served:
        found = pages(served.client, "/api/v1/parked", "parked", limit)
    ids = [each["id"] for page in found for each in page]
    assert ids == [each.place.id for each in done.parked]
    assert all(len(page) == limit for page in found[:-1])


def test_ready_means_every_worker_runs_or_stands_by_and_the_state_answers(served):
    def checks(*workers):
        served.live.see(workers)
        answer = served.client.get("/readyz")
        shown = answer.json()
        assert answer.status_code == (200 if shown["ready"] else 503)
        return {each["name"]: each["detail"] for each in shown["checks"] if not each["ok"]}

    assert served.client.get("/readyz").status_code == 503
    assert checks(worker(0), worker(1, state="standby")) == {}
    assert checks(worker(0), worker(1, state="starting")) == {"orders/1": "it is starting"}
    assert checks(worker(0), worker(1, state="draining")) == {"orders/1": "it is draining"}
    (detail,) = checks(worker(0, pid=None)).values()
    assert detail == "its process has ended and is started again"
    silent = worker(0)
    silent.reported -= 60
    assert re.fullmatch(r"it has not reported for 6\d s", checks(silent)["orders/0"])
    ended = worker(0, state="stopped", pid=None)
    ended.done = True
    assert checks(ended) == {}


PLANTED = ("planted-kafka", "planted-state", "planted-token-reader", "planted-token-writer")


LIVE = "/api/v1/executions/live"
"""Its answer ends with the server alone. It shows what history has, which is redacted before."""


def called(served, headers=None):
    """Return the whole answers of every route, and of calls that go wrong."""
    answers = [
        served.client.request(route.method, filled_in(route.path), headers=headers)
        for route in ROUTES
        if route.path != LIVE
    ]
    answers += [
        served.client.get(path.format(planted, planted), headers=headers)
        for planted in PLANTED
        for path in ("/nowhere/{}", "/api/v1/pipelines/{}", "/api/v1/parked?cursor={}&{}=1")
    ]
    return [f"{answer.headers}{answer.text}" for answer in answers]


def test_no_answer_holds_a_secret(full):
    full.live.see(
        [worker(0, status="broker said planted-kafka", connectors={"orders": "planted-kafka"})]
    )
    assert not [text for text in called(full) if "planted-kafka" in text]


def test_nor_one_of_a_state_that_is_away_or_of_the_tokens(tmp_path):
    url = "postgresql://app:planted-state@127.0.0.1:1/shop"
    tokens = r'server: {tokens: "a:planted-token-reader\nb:planted-token-writer:write"}'
    with serving(tmp_path, url, tokens) as served:
        for token in (None, "planted-token-reader", "planted-token-writer", "wrong-token-0123456"):
            headers = {"Authorization": f"Bearer {token}"} if token else None
            answers = called(served, headers)
            assert len(answers) >= len(ROUTES)
            for planted in PLANTED:
                assert not [text for text in answers if planted in text], planted
