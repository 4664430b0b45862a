"""Every error is a problem (RFC 9457) with a code, whatever layer it comes from."""

from __future__ import annotations

import socket
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from penstock.api.app import LARGEST_BODY
from tests.penstock.api.served import problem, serving


@pytest.mark.parametrize(
    "path",
    ["/", "/api/v1", "/api/v1/", "/api/v1/flows/", "/nowhere", "/%00", "/a/../b", "/api/v2/x"],
)
def test_a_path_that_is_not_there_is_one(served, path):
    assert problem(served.client.get(path)) == (404, "not_found")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "ODD"])
def test_a_method_that_is_not_there_says_which_are(served, method):
    answer = served.client.request(method, "/api/v1/flows")
    assert problem(answer) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("limit=0", "query.limit"),
        ("limit=1001", "query.limit"),
        ("limit=many", "query.limit"),
        ("limit=1&limit=2", "query.limit"),
        ("piepline=enrich", "query.piepline"),
        ("cursor=a%00b", "query.cursor"),
    ],
)
def test_a_query_that_can_not_be_says_what_is_wrong_where(served, query, place):
    answer = served.client.get(f"/api/v1/parked?{query}")
    assert problem(answer) == (422, "request_invalid")
    assert [each["place"] for each in answer.json()["errors"]] == [place]
    assert "pydantic" not in answer.text


@pytest.mark.parametrize(
    ("path", "cursor"),
    [
        ("parked", "nonsense"),
        ("parked", "x,1,enrich,id"),
        ("parked", f"1.0,{'9' * 30},enrich,id"),
        ("dlq/pipelines/enrich", "nonsense"),
        ("dlq/pipelines/enrich", "x,1"),
    ],
)
def test_a_cursor_that_no_page_gave_is_one(served, path, cursor):
    answer = served.client.get(f"/api/v1/{path}", params={"cursor": cursor})
    assert problem(answer) == (422, "cursor_unknown")


def test_a_pipeline_that_is_not_there_names_the_one_that_was_meant(served):
    for path in ("/api/v1/pipelines/enrch", "/api/v1/dlq/pipelines/enrch"):
        answer = served.client.get(path)
        assert problem(answer) == (404, "unknown_pipeline")
        assert "enrich" in answer.json()["hint"]
    assert problem(served.client.get("/api/v1/parked?pipeline=x")) == (404, "unknown_pipeline")


@pytest.mark.parametrize(
    "name", ["019a0000-0000-7000-8000-000000000001", "019a", "%00", "x" * 9000]
)
def test_a_dead_letter_that_is_not_there_is_one(served, name):
    answer = served.client.get(f"/api/v1/dlq/pipelines/enrich/{name}")
    assert problem(answer) == (404, "dead_letter_unknown")


def test_a_state_store_that_is_not_there_yet_is_one_and_the_rest_is_answered(tmp_path):
    with serving(tmp_path, f"sqlite:///{tmp_path}/none.db") as served:
        for path in ("/api/v1/parked", "/api/v1/sources", "/api/v1/pipelines/enrich"):
            answer = served.client.get(path)
            assert problem(answer) == (503, "state_missing")
            assert answer.headers["retry-after"]
        for path in ("/api/v1/flows", "/api/v1/pipelines", "/api/v1/workers", "/healthz"):
            assert served.client.get(path).status_code == 200
        assert "workflow_state_store_up 0.0" in served.client.get("/metrics").text
        assert "workflow_dlq_depth{" not in served.client.get("/metrics").text
    assert not (tmp_path / "none.db").exists()


def test_a_defect_of_ours_is_one_and_the_next_call_is_answered(served, monkeypatch):
    def broken():
        raise ZeroDivisionError("the inside of it")

    monkeypatch.setattr(served.live, "error_rates", broken)
    answer = served.client.get("/api/v1/pipelines")
    assert problem(answer) == (500, "internal_error")
    assert "the inside of it" not in answer.text
    assert served.client.get("/api/v1/flows").status_code == 200


def test_a_head_is_answered_without_a_body(served):
    answer = served.client.head("/api/v1/flows")
    assert (answer.status_code, answer.content) == (200, b"")


def raw(served, request: bytes) -> bytes:
    """Send bytes as they are; return all that comes until the server ends it."""
    place = urlsplit(served.api.url)
    with socket.create_connection((place.hostname, place.port), timeout=30) as connection:
        connection.sendall(request)
        found = b""
        with suppress(ConnectionResetError):
            while chunk := connection.recv(65536):
                found += chunk
    return found


def test_what_is_no_http_is_refused_and_the_server_lives(served):
    assert raw(served, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert b" 200 " not in raw(served, b"GET / HTTP/1.1\r\nX: " + b"y" * 300_000 + b"\r\n\r\n")
    assert served.client.get("/healthz").status_code == 200


def test_more_connections_than_there_may_be_do_not_use_up_the_supervisors_files(served):
    assert served.client.get("/healthz").status_code == 200
    place = urlsplit(served.api.url)
    held = [socket.create_connection((place.hostname, place.port), timeout=30) for _ in range(200)]
    try:
        ended = 0
        for connection in held[150:]:
            try:
                ended += connection.recv(1) == b""
            except ConnectionResetError:
                ended += 1
        assert ended == 50
    finally:
        for connection in held:
            connection.close()


def test_the_size_of_a_body_is_bounded():
    assert LARGEST_BODY <= 1 << 20
