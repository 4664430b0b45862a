"""Which connections of `http_call` are kept, used again and closed."""

from __future__ import annotations

import threading

import pytest

from tests.transforms.steps.answering import Answer, serving
from tests.transforms.steps.calling import calling


@pytest.fixture
def call(tmp_path):
    with calling(folder=tmp_path) as run:
        yield run


@pytest.fixture
def server():
    with serving() as found:
        yield found


def test_one_connection_serves_what_comes_one_after_another(call, server):
    config = {"url": server.url, "concurrency": 1}

    call(config, [{}] * 20)

    assert len(server.seen) == 20
    assert server.connections == 1


def test_as_many_are_opened_as_calls_are_under_way_and_kept_for_the_next_batch(call, server):
    together = threading.Barrier(4)

    def answer(_seen):
        together.wait(30)
        return Answer(204)

    server.answer = answer
    config = {"url": server.url, "concurrency": 4}

    call(config, [{}] * 8)
    call(config, [{}] * 4, step=call.steps[0])

    assert server.connections == 4


def test_no_more_are_kept_than_the_flow_allows(call, server):
    together = threading.Barrier(4)

    def answer(_seen):
        together.wait(30)
        return Answer(204)

    server.answer = answer
    config = {"url": server.url, "concurrency": 4, "connections": {"idle": 1}}

    call(config, [{}] * 4)
    call(config, [{}] * 4, step=call.steps[0])

    assert server.connections == 4 + 3


def test_user_and_password_of_the_url_are_sent(call, server):
    call({"url": server.url.replace("://", "://ada:pa%3Ass@") + "/x"}, [{}])

    (seen,) = server.seen
    assert seen.headers["authorization"] == "Basic YWRhOnBhOnNz"
    assert seen.path == "/x"
