"""sink.elasticsearch against a real OpenSearch; what that can't be made to say, a server of ours says."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from connectors.contracts import Outgoing, SinkOpening
from connectors.elasticsearch import SINK_ELASTICSEARCH
from connectors.errors import FatalError, PermanentError, RetryableError
from connectors.testing import SinkConformance
from tests.connectors.templates import compile_template
from tests.transforms.steps.answering import Answer, as_json, serving


def events(*values, **attributes):
    shared = {"id": [str(n) for n in range(len(values))], "source": "/s", "type": "t", **attributes}
    encoded = [v if v is None or isinstance(v, bytes) else json.dumps(v).encode() for v in values]
    return Outgoing(encoded, [None] * len(values), lambda: shared)


@pytest.fixture
def opened():
    sinks = []

    def open_sink(**config):
        made = SINK_ELASTICSEARCH.sink("docs", SINK_ELASTICSEARCH.settings(**config))
        made.open(SinkOpening({}, compile_template=compile_template))
        sinks.append(made)
        return made

    yield open_sink
    for sink in sinks:
        sink.close()


class IndexUnderTest:
    """Documents by the event's id, in the order of writing."""

    def __init__(self, search, proxy):
        self.search, self.index = search, search.create_index()
        self.proxy = proxy
        self.settings = SINK_ELASTICSEARCH.settings(
            urls=[search.url], index=self.index, id="{{ .id }}", batch_size=40
        )

    def make(self, **changes):
        settings = self.settings.model_copy(update=changes)
        sink = SINK_ELASTICSEARCH.sink("docs", settings)
        opening = sink.open
        sink.open = lambda given: opening(
            SinkOpening(given.state, compile_template=compile_template)
        )
        return sink

    def make_proxied(self, **changes):
        return self.make(urls=[f"http://{self.proxy.address}"], **changes)

    def make_impatient(self):
        return self.make_proxied(timeout=1.0)

    def arrived(self):
        return list(self.search.documents(self.index).values())

    def refuse(self, numbers):
        return False


class TestIndex(SinkConformance):
    @pytest.fixture
    def subject(self, search, proxies):
        return IndexUnderTest(search, proxies(f"127.0.0.1:{search.port}"))


def test_a_document_that_does_not_fit_the_mapping_fails_alone(search, opened):
    index = search.create_index({"n": {"type": "integer"}})
    sink = opened(urls=[search.url], index=index)
    failures = sink.deliver(events({"n": 1}, {"n": "many"}, 5, {"n": 2}, None))
    assert {place: (type(e), e.code) for place, e in failures.items()} == dict.fromkeys(
        (1, 2, 4), (PermanentError, "elasticsearch_document")
    )
    assert "mapper_parsing_exception" in failures[1].message
    assert set(search.documents(index)) == {"0", "3"}


def test_a_call_that_is_too_large_is_parted_and_a_document_that_is_fails_alone(search, opened):
    index = search.create_index()
    sink = opened(urls=[search.url], index=index)
    large, too_large = {"x": "a" * 60_000}, {"x": "a" * 250_000}
    failures = sink.deliver(events(large, large, large, too_large, large, large))
    assert (list(failures), failures[3].code) == ([3], "elasticsearch_document")
    assert len(search.documents(index)) == 5


def test_a_redelivery_writes_no_second_document(search, opened):
    for operation in ("index", "create", "upsert", "merge"):
        index = search.create_index()
        sink = opened(urls=[search.url], index=index, operation=operation)
        for _ in range(2):
            assert sink.deliver(events({"n": 1}, {"n": 2})) == {}
        assert search.documents(index) == {"0": {"n": 1}, "1": {"n": 2}}


def test_events_of_one_document_take_effect_in_their_order(search, opened):
    index = search.create_index()
    sink = opened(urls=[search.url], index=index, id="{{ .data.id }}", operation="merge")
    changes = [({"id": "a", "v": 1}, "INSERT"), ({"id": "b", "v": 1}, "INSERT")]
    changes += [({"id": "a", "v": 2}, "UPDATE"), ({"id": "b"}, "DELETE"), ({"id": "c"}, "DELETE")]
    operations = [operation for _, operation in changes]
    assert sink.deliver(events(*(row for row, _ in changes), operation=operations)) == {}
    assert search.documents(index) == {"a": {"id": "a", "v": 2}}
    partial = opened(urls=[search.url], index=index, id="{{ .data.id }}", operation="upsert")
    assert partial.deliver(events({"id": "a", "w": 1}, {"id": "a", "x": 2}, {"id": "d"})) == {}
    assert search.documents(index) == {
        "a": {"id": "a", "v": 2, "w": 1, "x": 2},
        "d": {"id": "d"},
    }


def test_where_the_last_of_a_document_is_refused_the_one_before_it_is_written(search, opened):
    index = search.create_index({"v": {"type": "integer"}})
    sink = opened(urls=[search.url], index=index, id="{{ .data.id }}")
    failures = sink.deliver(events({"id": "a", "v": 1}, {"id": "a", "v": 2}, {"id": "a", "v": "x"}))
    assert list(failures) == [2]
    assert search.documents(index) == {"a": {"id": "a", "v": 2}}


def test_an_older_event_does_not_replace_a_newer_document(search, opened):
    index = search.create_index()
    sink = opened(
        urls=[search.url], index=index, id="{{ .data.id }}", operation="merge", keep_newer=True
    )
    early, late = "2026-11-21T05:00:00.000001Z", "2026-11-21T05:00:00.000002Z"
    assert sink.deliver(events({"id": "a", "v": "live"}, time=late)) == {}
    assert sink.deliver(events({"id": "a", "v": "old"}, time=early)) == {}
    assert sink.deliver(events({"id": "a"}, time=early, operation="DELETE")) == {}
    assert search.documents(index) == {"a": {"id": "a", "v": "live"}}
    assert sink.deliver(events({"id": "a", "v": "again"}, time=late)) == {}
    assert search.documents(index) == {"a": {"id": "a", "v": "again"}}
    assert sink.deliver(events({"id": "a"}))[0].code == "elasticsearch_document"


def test_the_index_is_rendered_and_an_envelope_may_be_the_document(search, opened):
    index = search.create_index()
    sink = opened(urls=[search.url], index="{{ .type }}", format="cloudevents_json")
    failures = sink.deliver(events({"n": 1}, {"n": 2}, type=[index, "Not/An Index"]))
    assert (list(failures), type(failures[1])) == ([1], PermanentError)
    (document,) = search.documents(index).values()
    assert (document["type"], document["data"]) == (index, {"n": 1})


def test_a_preflight_says_what_the_nodes_are_and_whether_the_index_is_there(search):
    index = search.create_index()
    settings = SINK_ELASTICSEARCH.settings(urls=[search.url, "http://127.0.0.1:1"], index=index)
    checks = list(SINK_ELASTICSEARCH.sink("docs", settings).preflight([]))
    assert [(check.ok, check.found) for check in checks[::2]] == [
        (True, "opensearch 2.19.1"),
        (True, "there"),
    ]
    assert checks[1].unreachable


def bulk(*items, **more):
    return as_json({"errors": True, "items": list(items)} | more)


HELLO = as_json({"version": {"number": "8.0.0"}})


def test_a_document_that_is_not_taken_yet_is_not_overtaken_by_a_later_one(opened):
    with serving() as server:
        full = {"update": {"status": 429, "error": {"type": "es_rejected_execution_exception"}}}
        fine = {"update": {"status": 200}}
        server.answer = lambda seen: HELLO if seen.method == "GET" else bulk(full, fine)
        sink = opened(urls=[server.url], index="i", id="{{ .data.id }}", operation="upsert")
        failures = sink.deliver(events({"id": "a"}, {"id": "a"}, {"id": "b"}, {"id": "a"}))
        assert sorted(failures) == [0, 1, 3]
        assert all(isinstance(error, RetryableError) for error in failures.values())
        assert len([seen for seen in server.seen if seen.method == "POST"]) == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(429, b"", {"Retry-After": "7"}), RetryableError),
        (Answer(503), RetryableError),
        (Answer(200, b"<html>"), RetryableError),
        (Answer(reset=True), RetryableError),
        (Answer(401), FatalError),
        (Answer(403), FatalError),
    ],
)
def test_what_concerns_the_whole_call_concerns_all_its_events(opened, answer, kind):
    with serving() as server:
        server.answer = lambda seen: HELLO if seen.method == "GET" else answer
        sink = opened(urls=[server.url], index="i", username="u", password="p")
        failures = sink.deliver(events({"n": 1}, {"n": 2}))
        assert [type(failures[place]) for place in range(2)] == [kind, kind]
        if answer.headers:
            assert failures[0].retry_after == 7.0
        assert server.seen[-1].headers["authorization"].startswith("Basic ")


def test_another_node_is_asked_when_one_does_not_answer(search, opened):
    index = search.create_index()
    with serving() as server:
        server.answer = lambda seen: HELLO if seen.method == "GET" else Answer(reset=True)
        sink = opened(urls=[server.url, search.url], index=index)
        assert sink.deliver(events({"n": 1})) == {}
    assert len(search.documents(index)) == 1


def test_a_cluster_that_does_not_answer_is_said_to_be_away(opened):
    with pytest.raises(FatalError) as caught:
        opened(urls=["http://127.0.0.1:1"], index="i")
    assert caught.value.unreachable


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"username": "u"}, "username and password together"),
        ({"id": None, "operation": "update"}, "an id, which"),
        ({"keep_newer": True, "operation": "upsert"}, "no keep_newer with"),
        ({"keep_newer": True, "id": None}, "an id, which keep_newer"),
    ],
)
def test_a_wrong_configuration_is_refused_with_what_is_expected(config, expected):
    settings = {"urls": ["http://127.0.0.1:9200"], "index": "orders", **config}
    with pytest.raises(ValidationError, match=expected):
        SINK_ELASTICSEARCH.settings.model_validate(settings)
