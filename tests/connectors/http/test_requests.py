"""From a request to events: CloudEvents in each mode, what is none, and what is refused."""

from __future__ import annotations

import base64
import json

import pytest
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from pydantic import ValidationError

from connectors.http.requests import HttpRequest, RefusedError, RequestReader
from connectors.http.routes import Routes
from connectors.http.settings import HttpSourceSettings

ATTRIBUTES = {"id": "1", "source": "/shop", "type": "order.made", "subject": "o/1"}


def request(body=b"", content_type=None, *, method="POST", query="", headers=None, params=None):
    found = {name.lower(): value for name, value in (headers or {}).items()}
    if content_type is not None:
        found["content-type"] = content_type
    return HttpRequest(method, "/hooks", params or {}, query, found, body, 1_700_000_000.5)


def read(asked, **config):
    reader = RequestReader("hooks", HttpSourceSettings(path="/hooks", **config))
    return [(*json.loads(each.head), each) for each in reader.read(asked)]


def one(asked, **config):
    ((attributes, key, _at, event),) = read(asked, **config)
    return attributes, key, event


def refused(asked, **config):
    with pytest.raises(RefusedError) as caught:
        read(asked, **config)
    return caught.value.status, caught.value.code


@pytest.mark.parametrize("to_message", [to_binary_event, to_structured_event])
def test_what_the_official_sdk_sends_is_the_same_event(to_message):
    event = CloudEvent(
        {**ATTRIBUTES, "datacontenttype": "application/json", "partitionkey": "k1"},
        {"n": 1, "text": "ä"},
    )
    message = to_message(event, JSONFormat())
    asked = request(message.body, headers=dict(message.headers))
    attributes, key, kept = one(asked)
    assert {name: attributes[name] for name in ATTRIBUTES} == ATTRIBUTES
    assert key == "k1"
    assert json.loads(kept.raw) == {"n": 1, "text": "ä"}


def test_a_batch_is_each_of_its_events():
    batch = [{"specversion": "1.0", **ATTRIBUTES, "id": str(n), "data": n} for n in range(3)]
    found = read(request(json.dumps(batch).encode(), "application/cloudevents-batch+json"))
    assert [attributes["id"] for attributes, *_ in found] == ["0", "1", "2"]
    assert [json.loads(event.raw) for *_, event in found] == [0, 1, 2]
    assert len({event.digest for *_, event in found}) == 3
    assert read(request(b"[]", "application/cloudevents-batch+json")) == []


def test_the_same_id_of_another_source_is_another_event():
    bodies = [
        json.dumps({"specversion": "1.0", **ATTRIBUTES, "source": source, "data": 1}).encode()
        for source in ("/a", "/b", "/a")
    ]
    digests = [one(request(body, "application/cloudevents+json"))[2].digest for body in bodies]
    assert digests[0] == digests[2] != digests[1]


def test_json_text_form_and_bytes_go_by_their_content_type():
    def data(*asked):
        return json.loads(one(request(*asked))[2].raw)

    assert data(b'{"n":12345678901234567890123}', "application/json") == {
        "n": 12345678901234567890123
    }
    assert data(b"[1]", "application/vnd.api+json; charset=utf-8") == [1]
    assert data(b"a=1&b=x+y&b=%C3%A4", "application/x-www-form-urlencoded") == {
        "a": "1",
        "b": ["x y", "ä"],
    }
    assert data("grüß".encode("latin-1"), "text/plain; charset=latin-1") == "grüß"
    assert data(b"\x00\xff", "image/png") == base64.b64encode(b"\x00\xff").decode()


def test_what_is_no_cloudevent_is_given_attributes():
    attributes, key, event = one(request(b"{}", "application/json"), type="push")
    assert (attributes["source"], attributes["type"], key) == ("/http/hooks", "push", None)
    assert attributes["time"] == "2023-11-14T22:13:20.500000Z"
    assert event.digest is None
    assert one(request(b"{}"))[0]["id"] != attributes["id"]


def test_a_delivery_id_makes_the_same_delivery_the_same_event():
    signature = {"scheme": "github", "secret": "s"}
    asked = request(b"{}", headers={"X-GitHub-Delivery": "d-1"})
    (first, _, event), (second, _, again) = (one(asked, signature=signature) for _ in range(2))
    assert first["id"] == second["id"] == "d-1"
    assert event.digest == again.digest is not None


def test_a_whole_request_holds_everything_but_who_sends_it():
    asked = request(
        b'{"n":1}',
        "application/json",
        method="PUT",
        query="a=1&a=2&b=",
        headers={"Authorization": "Bearer x", "X-Id": "7"},
        params={"id": "17"},
    )
    assert json.loads(one(asked, format="request")[2].raw) == {
        "method": "PUT",
        "path": "/hooks",
        "path_params": {"id": "17"},
        "query": {"a": ["1", "2"], "b": ""},
        "headers": {"x-id": "7", "content-type": "application/json"},
        "body": {"n": 1},
    }


def test_a_request_without_a_body_is_the_whole_request():
    found = json.loads(one(request(method="GET", query="n=1"))[2].raw)
    assert (found["query"], found["body"]) == ({"n": "1"}, None)


@pytest.mark.parametrize(
    ("asked", "config", "expected"),
    [
        (request(b"{", "application/json"), {}, (400, "json_invalid")),
        (request(b"{", "text/plain"), {"format": "json"}, (400, "json_invalid")),
        (request(b"\xff", "text/plain"), {}, (400, "cloudevents_data")),
        (request(b"\xff", "application/x-www-form-urlencoded"), {}, (400, "form_invalid")),
        (
            request(b"{}", "application/json"),
            {"format": "cloudevents"},
            (415, "cloudevents_missing"),
        ),
        (request(b"<a/>", "application/cloudevents+xml"), {}, (415, "cloudevents_format")),
        (request(b"[1]", "application/cloudevents+json"), {}, (400, "cloudevents_not_json")),
        (request(b"{}", "application/cloudevents-batch+json"), {}, (400, "cloudevents_not_json")),
        (request(b"{}", headers={"ce-specversion": "0.3"}), {}, (400, "cloudevents_version")),
        (request(b"{}", headers={"ce-specversion": "1.0"}), {}, (400, "cloudevents_attribute")),
        (
            request(
                b"{",
                "application/json",
                headers={"ce-specversion": "1.0", **{f"ce-{k}": v for k, v in ATTRIBUTES.items()}},
            ),
            {},
            (400, "json_invalid"),
        ),
    ],
)
def test_what_can_not_be_read_is_refused_with_its_status(asked, config, expected):
    assert refused(asked, **config) == expected


def test_the_longest_path_of_its_own_wins_and_a_slash_at_the_end_makes_no_difference():
    routes = Routes(
        [
            ("/orders/{id}", ["GET"], "one"),
            ("/orders/{order}", ["POST"], "change"),
            ("/orders/new", ["GET"], "new"),
            ("/{a}/{b}", ["GET"], "any"),
        ]
    )
    assert routes.find("/orders/17/").methods == {"GET": "one", "POST": "change"}
    assert dict(routes.find("/orders/17").parameters) == {"id": "17"}
    assert routes.find("/orders/new").methods == {"GET": "new"}
    assert routes.find("/x/y").methods == {"GET": "any"}
    assert routes.find("/orders") is None
    assert routes.find("/orders/a/b") is None


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"path": "hooks"}, "a path that starts with /"),
        ({"path": "/a//b"}, "a path that starts with /"),
        ({"path": "/api/v1/x"}, "is one of the server's"),
        ({"path": "/subjects"}, "is one of the server's"),
        ({"path": "/{a}/{a}"}, "different names"),
        ({"methods": ["FETCH"]}, "'GET', 'POST'"),
        ({"signature": {"scheme": "hmac_sha256", "secret": "s"}}, "header, which"),
        ({"auth": {"username": "u"}}, "username and password together"),
        (
            {"auth": {"bearer": "t"}, "signature": {"scheme": "github", "secret": "s"}},
            "either auth or signature",
        ),
    ],
)
def test_a_wrong_configuration_is_refused_with_what_is_expected(config, expected):
    with pytest.raises(ValidationError, match=expected):
        HttpSourceSettings.model_validate({"path": "/hooks", **config})
