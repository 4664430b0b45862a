"""OAuth 2.0 client credentials against a real token endpoint that counts, refuses and forgets."""

from __future__ import annotations

import base64
import itertools
import threading
from urllib.parse import parse_qs

import pytest
from pydantic import ValidationError

from connectors.errors import FatalError, PermanentError, RetryableError
from tests.transforms.steps.answering import Answer, as_json, serving
from tests.transforms.steps.calling import calling
from transforms.steps.http_call import HTTP_CALL


@pytest.fixture
def call():
    with calling() as run:
        yield run


@pytest.fixture
def login():
    """A token server: tokens t1, t2, … that hold for an hour."""
    numbers = itertools.count(1)
    with serving() as server:
        server.answer = lambda seen: as_json(
            {"access_token": f"t{next(numbers)}-s3cret", "token_type": "Bearer", "expires_in": 3600}
        )
        yield server


@pytest.fixture
def shop():
    with serving() as server:
        server.answer = lambda seen: as_json(seen.headers["authorization"])
        yield server


def config(shop, login, **auth):
    return {
        "url": shop.url + "/{{ .data }}",
        "auth": {
            "token_url": login.url + "/token",
            "client_id": "shop",
            "client_secret": "hush+hush",
            **auth,
        },
    }


def test_a_token_is_fetched_once_for_all_calls_that_wait_for_it(call, shop, login):
    found, executions = call(config(shop, login), list(range(50)))
    again, _ = call({}, [1], step=call.steps[0])

    assert executions.failures == {}
    assert found == ["Bearer t1-s3cret"] * 50
    assert again == ["Bearer t1-s3cret"]
    assert len(login.seen) == 1


@pytest.mark.parametrize("way", ["basic", "body"])
def test_the_client_says_who_it_is_and_what_it_asks_for(call, shop, login, way):
    call(
        config(
            shop,
            login,
            type="oauth2_client_credentials",
            client_auth=way,
            scopes=["read", "write"],
            params={"audience": "orders"},
        ),
        [1],
    )

    seen = login.seen[0]
    form = {name: values[0] for name, values in parse_qs(seen.body.decode()).items()}
    wanted = {"grant_type": "client_credentials", "scope": "read write", "audience": "orders"}
    if way == "body":
        wanted |= {"client_id": "shop", "client_secret": "hush+hush"}
        assert "authorization" not in seen.headers
    else:
        pair = base64.b64decode(seen.headers["authorization"].removeprefix("Basic "))
        assert pair == b"shop:hush%2Bhush"
    assert form == wanted
    assert seen.method == "POST"


def test_a_token_near_its_end_is_replaced_before_it_is_refused(call, shop, login):
    numbers = itertools.count(1)
    login.answer = lambda seen: as_json({"access_token": f"t{next(numbers)}", "expires_in": 0})

    found, _ = call(config(shop, login), [1, 2], keys=["a", "a"])

    assert found == ["Bearer t1", "Bearer t2"]


@pytest.mark.parametrize("lifetime", [{}, {"expires_in": None}, {"expires_in": "3600"}])
def test_a_token_without_a_lifetime_holds_until_it_is_refused(call, shop, login, lifetime):
    login.answer = lambda seen: as_json({"access_token": "t", **lifetime})

    found, _ = call(config(shop, login), [1, 2], keys=["a", "a"])

    assert found == ["Bearer t"] * 2
    assert len(login.seen) == 1


def test_a_refused_token_is_replaced_once_for_all_and_the_calls_made_again(call, shop, login):
    together = threading.Barrier(8)

    def answer(seen):
        if seen.headers["authorization"] == "Bearer t1-s3cret":
            together.wait(20)  # all eight have been sent with the old token
            return Answer(401)
        return as_json(seen.path)

    shop.answer = answer

    found, executions = call(config(shop, login), list(range(8)))

    assert executions.failures == {}
    assert found == [f"/{n}" for n in range(8)]
    assert len(login.seen) == 2
    assert len(shop.seen) == 16


def test_a_call_that_is_refused_with_a_new_token_too_fails_for_good(call, shop, login):
    shop.answer = lambda seen: Answer(401, seen.headers["authorization"].encode())

    _, executions = call(config(shop, login), [1])

    error = executions.failures[0]
    assert isinstance(error, PermanentError)
    assert error.context["status"] == 401
    assert "s3cret" not in f"{error} {error.context}"
    assert (len(login.seen), len(shop.seen)) == (2, 2)


def test_a_client_that_is_refused_stops_the_worker_and_its_secret_is_not_shown(call, shop, login):
    login.answer = lambda seen: as_json(
        {"error": "invalid_client", "error_description": "no hush+hush here"}, 401
    )

    _, executions = call(config(shop, login), [1, 2])

    for error in executions.failures.values():
        assert isinstance(error, FatalError)
        assert error.code == "http_oauth_refused"
        assert "invalid_client" in error.message
        assert "hush" not in f"{error} {error.context}"
    assert shop.seen == []


@pytest.mark.parametrize(
    "answer",
    [
        Answer(503),
        Answer(reset=True),
        Answer(200, b"<html>"),
        as_json({"no": "token"}),
        as_json({"access_token": "t", "token_type": "mac"}),
        as_json({"access_token": "a\nb"}),
        as_json(["list"]),
        Answer(200, b"x" * 1_000_001),
    ],
)
def test_a_token_server_that_has_no_token_now_is_retryable_and_tried_again(
    call, shop, login, answer
):
    good = login.answer
    login.answer = lambda seen: answer
    _, executions = call(config(shop, login), [1])
    login.answer = good

    found, _ = call({}, [1], step=call.steps[0])

    assert isinstance(executions.failures[0], RetryableError)
    assert executions.failures[0].code == "http_oauth_unavailable"
    assert found == ["Bearer t1-s3cret"]


def test_a_call_that_runs_out_of_time_leaves_the_token_to_the_others(call, shop, login):
    good, asked = login.answer, threading.Event()

    def slow(seen):
        asked.wait(20)
        return good(seen)

    login.answer = slow
    _, executions = call(config(shop, login) | {"timeout": "200ms"}, [1])
    asked.set()

    found, _ = call({}, [1], step=call.steps[0])

    assert executions.failures[0].code == "http_timeout"
    assert found == ["Bearer t1-s3cret"]
    assert len(login.seen) == 1


def test_events_can_name_any_host_of_the_internet_and_the_token_server_may_be_inside(
    call, shop, login
):
    wanted = config(shop, login) | {"url": "http://{{ .data }}/"}

    _, executions = call(wanted, [f"127.0.0.1:{login.port}"])

    assert executions.failures[0].code == "http_private_address"
    assert [seen.path for seen in login.seen] == ["/token"]


def test_parts_of_oauth_without_the_rest_are_refused():
    with pytest.raises(ValidationError, match="token_url, client_id and client_secret"):
        HTTP_CALL.settings.model_validate({"url": "http://x", "auth": {"params": {"a": "b"}}})
