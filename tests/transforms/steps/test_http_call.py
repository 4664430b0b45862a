"""`step.http_call` against a real server that is slow, wrong, resets, redirects and refuses."""

from __future__ import annotations

import socket
import threading
from collections import Counter

import orjson
import pytest
from pydantic import ValidationError

from connectors.batch import Batch
from connectors.errors import PermanentError, RetryableError
from tests.transforms.steps.answering import Answer, as_json, serving
from transforms.contracts import StepEnvironment
from transforms.executions import UNSET, Executions
from transforms.steps.http_call import HTTP_CALL


@pytest.fixture
def server():
    with serving() as found:
        yield found


@pytest.fixture
def call():
    """Run the step over events with these data; close it afterwards."""
    steps = []

    def run(config, data, *, keys=None, indexes=None, outputs=None):
        executions = executions_of(data, keys)
        executions.outputs.update(outputs or {})
        step = HTTP_CALL.make(
            HTTP_CALL.settings.model_validate(config),
            StepEnvironment(flow="shop", pipeline="orders", name="customer", number=0),
        )
        steps.append(step)
        found = step.run(executions, range(len(data)) if indexes is None else indexes)
        executions.outputs["customer"] = found
        return found, executions

    yield run
    for step in steps:
        step.close()


def executions_of(data, keys=None):
    size = len(data)
    columns = {
        "raw": [orjson.dumps(value) for value in data],
        "id": [f"e{number}" for number in range(size)],
        "source": ["/shop"] * size,
        "type": ["order"] * size,
    }
    if keys is not None:
        columns["key"] = keys
    return Executions(events=Batch(size, columns, after={}), pipeline="orders")


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "http-call"]


def test_output_is_the_answers_json_with_status_and_headers_beside_it(server, call):
    server.answer = lambda seen: as_json({"name": "Ada", "big": 9007199254740993}, etag="x")

    found, executions = call({"url": server.url + "/c/{{ .data.id }}"}, [{"id": 7}])

    assert found == [{"name": "Ada", "big": 9007199254740993}]
    beside = executions.steps_view(0)["customer"]
    assert beside["status"] == 200
    assert beside["headers"]["etag"] == "x"
    assert server.seen[0].path == "/c/7"
    assert server.seen[0].method == "GET"


@pytest.mark.parametrize(
    ("answer", "output"),
    [
        (Answer(204), None),
        (Answer(200, b'{"a":1}', {"content-type": "application/problem+json"}), {"a": 1}),
        (Answer(200, b"[1]"), [1]),
        (Answer(200, b"just text"), "just text"),
        (Answer(200, b'{"a":1}', {"content-type": "text/plain"}), '{"a":1}'),
        (Answer(200, "é".encode("latin-1"), {"content-type": "text/plain; charset=latin-1"}), "é"),
        (Answer(200, b"ok", {"content-type": "text/plain; charset=nonsense"}), "ok"),
    ],
)
def test_output_is_json_where_the_answer_is_and_text_where_not(server, call, answer, output):
    server.answer = lambda seen: answer

    found, executions = call({"url": server.url}, [{}])

    assert executions.failures == {}
    assert found == [output]


@pytest.mark.parametrize(
    ("config", "body", "content_type"),
    [
        (
            {"body": {"id": "{{ .data.id }}", "text": "order {{ .data.id }}", "fixed": [1, None]}},
            b'{"id":7,"text":"order 7","fixed":[1,null]}',
            "application/json",
        ),
        ({"body": {"fixed": True}}, b'{"fixed":true}', "application/json"),
        ({"body": "plain {{ .data.id }}"}, b"plain 7", "text/plain; charset=utf-8"),
        ({"body": "{{ .data }}"}, b'{"id":7,"n":null}', "application/json"),
        ({"body_from": "data"}, b'{"id":7,"n":null}', "application/json"),
        ({"body_from": ".trigger.data.id"}, b"7", "application/json"),
        ({"body_from": "steps.a-b.output"}, b'{"made":[1]}', "application/json"),
        (
            {"body": {}, "headers": {"Content-Type": "application/vnd.shop+json"}},
            b"{}",
            "application/vnd.shop+json",
        ),
    ],
)
def test_body_is_what_the_settings_say(server, call, config, body, content_type):
    _, executions = call(
        {"url": server.url, "method": "POST", **config},
        [{"id": 7, "n": None}],
        outputs={"a-b": [{"made": [1]}]},
    )

    assert executions.failures == {}
    assert server.seen[0].body == body
    assert server.seen[0].headers["content-type"] == content_type


def test_no_body_is_sent_when_none_is_written(server, call):
    call({"url": server.url, "method": "POST"}, [{"id": 7}])

    assert server.seen[0].body == b""
    assert "content-type" not in server.seen[0].headers


def test_a_body_from_a_step_that_did_not_run_fails_that_event_alone(server, call):
    found, executions = call(
        {"url": server.url, "method": "POST", "body_from": "steps.shape.output"},
        [{}, {}],
        outputs={"shape": [UNSET, {"a": 1}]},
    )

    assert executions.failures[0].code == "missing_value"
    assert found[0] is UNSET
    assert [seen.body for seen in server.seen] == [b'{"a":1}']


def test_query_is_encoded_and_joins_the_urls_own(server, call):
    call(
        {
            "url": server.url + "/find?fixed=1",
            "query": {
                "q": "{{ .data.q }}",
                "tag": ["a", "{{ .data.n }}"],
                "gone": "{{ .data.no }}",
            },
        },
        [{"q": "a b&c", "n": 2}],
    )

    assert server.seen[0].path == "/find?fixed=1&q=a+b%26c&tag=a&tag=2"


@pytest.mark.parametrize(
    ("auth", "header"),
    [
        ({"bearer": "s3cret"}, "Bearer s3cret"),
        ({"username": "ada", "password": "pä"}, "Basic YWRhOnDDpA=="),
    ],
)
def test_auth_says_who_we_are(server, call, auth, header):
    call({"url": server.url, "auth": auth, "headers": {"X-Trace": "t-{{ .id }}"}}, [{}])

    assert server.seen[0].headers["authorization"] == header
    assert server.seen[0].headers["x-trace"] == "t-e0"


def test_a_value_missing_in_the_url_fails_the_event_and_calls_nobody(server, call):
    found, executions = call({"url": server.url + "/c/{{ .data.id }}"}, [{"id": 1}, {}])

    assert executions.failures[1].code == "missing_value"
    assert ".data.id" in executions.failures[1].message
    assert found[1] is UNSET
    assert [seen.path for seen in server.seen] == ["/c/1"]


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"url": "{{ .data.url }}"}, "http_request"),
        ({"headers": {"X-A": "{{ .data.lines }}"}}, "http_request"),
        ({"headers": {"X-A": "{{ .data.snow }}"}}, "http_request"),
    ],
)
def test_a_request_that_cannot_be_made_fails_its_event(server, call, config, code):
    _, executions = call(
        {"url": server.url, **config}, [{"url": "ftp://x", "lines": "a\r\nb: c", "snow": "☃"}]
    )

    assert isinstance(executions.failures[0], PermanentError)
    assert executions.failures[0].code == code
    assert server.seen == []


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_statuses_that_may_pass_later_are_retryable(server, call, status):
    server.answer = lambda seen: Answer(status, b"try later", {"retry-after": "7"})

    found, executions = call({"url": server.url}, [{}])

    error = executions.failures[0]
    assert isinstance(error, RetryableError)
    assert error.retry_after == 7
    assert error.context["status"] == status
    assert f"answered {status}: try later" in error.message
    assert found == [UNSET]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422])
def test_other_client_errors_are_permanent(server, call, status):
    server.answer = lambda seen: as_json({"error": "no"}, status)

    _, executions = call({"url": server.url}, [{}])

    assert isinstance(executions.failures[0], PermanentError)
    assert executions.failures[0].context["status"] == status
    assert executions.details["customer"][0]["status"] == status


def test_without_error_on_status_every_answer_is_an_output(server, call):
    server.answer = lambda seen: as_json({"error": "no"}, 404)

    found, executions = call({"url": server.url, "error_on_status": False}, [{}])

    assert found == [{"error": "no"}]
    assert executions.steps_view(0)["customer"]["status"] == 404


def test_a_broken_json_answer_is_permanent_and_says_where(server, call):
    server.answer = lambda seen: Answer(200, b'{"a":', {"content-type": "application/json"})

    _, executions = call({"url": server.url}, [{}])

    assert executions.failures[0].code == "http_response"
    assert "at character" in executions.failures[0].message


def test_an_answer_that_is_too_long_is_refused(server, call):
    server.answer = lambda seen: Answer(200, b"x" * 5000)

    _, executions = call({"url": server.url, "max_response": 4999}, [{}])

    assert executions.failures[0].code == "http_response_too_long"


def test_a_server_that_does_not_answer_in_time_is_retryable_and_others_go_on(server, call):
    server.answer = lambda seen: (
        Answer(wait=server.released) if seen.path == "/1" else as_json(seen.path)
    )

    found, executions = call(
        {"url": server.url + "/{{ .data }}", "timeout": "300ms"}, [0, 1, 2], keys=["a", "b", "c"]
    )

    assert found == ["/0", UNSET, "/2"]
    assert executions.failures[1].code == "http_timeout"
    assert isinstance(executions.failures[1], RetryableError)
    assert "may have taken effect" in executions.failures[1].hint


def test_a_connection_that_is_reset_or_refused_is_retryable(server, call):
    server.answer = lambda seen: Answer(reset=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"

    _, executions = call({"url": "{{ .data }}", "allow_private": True}, [server.url, nobody])

    for error in executions.failures.values():
        assert isinstance(error, RetryableError)
        assert error.code == "http_unreachable"
    assert len(executions.failures) == 2


@pytest.mark.parametrize(("method", "status"), [("GET", 302), ("GET", 307), ("POST", 308)])
def test_redirects_on_the_same_host_are_followed_with_method_and_credentials(
    server, call, method, status
):
    server.answer = lambda seen: (
        Answer(status, headers={"location": "/new"}) if seen.path == "/old" else as_json("there")
    )

    found, _ = call(
        {"url": server.url + "/old", "method": method, "auth": {"bearer": "s3cret"}}, [{}]
    )

    assert found == ["there"]
    assert [seen.method for seen in server.seen] == [method, method]
    assert server.seen[1].headers["authorization"] == "Bearer s3cret"


def test_redirects_to_another_host_are_not_followed(server, call):
    with serving() as other:
        server.answer = lambda seen: Answer(307, headers={"location": other.url + "/steal"})

        _, executions = call({"url": server.url, "auth": {"bearer": "s3cret"}}, [{}])

        assert executions.failures[0].code == "http_redirect"
        assert other.seen == []


def test_a_redirect_that_would_turn_post_into_get_is_not_followed(server, call):
    server.answer = lambda seen: Answer(302, headers={"location": "/new"})

    _, executions = call({"url": server.url, "method": "POST", "body": {"a": 1}}, [{}])

    assert executions.failures[0].code == "http_redirect"
    assert len(server.seen) == 1


def test_redirects_in_a_circle_end(server, call):
    server.answer = lambda seen: Answer(302, headers={"location": "/again"})

    _, executions = call({"url": server.url}, [{}])

    assert executions.failures[0].code == "http_redirect"
    assert len(server.seen) < 10


def test_cookies_of_one_answer_do_not_travel_with_the_next_request(server, call):
    server.answer = lambda seen: Answer(headers={"set-cookie": "session=ada"})

    call({"url": server.url}, [{}, {}], keys=["a", "a"])

    assert all("cookie" not in seen.headers for seen in server.seen)


def test_calls_of_one_key_keep_their_order_and_never_overlap(server, call):
    under_way = Counter()
    overlapped = []

    def answer(seen):
        key = seen.path.split("/")[1]
        with server.lock:
            under_way[key] += 1
            if under_way[key] > 1:
                overlapped.append(key)
        try:
            return as_json(seen.path)
        finally:
            with server.lock:
                under_way[key] -= 1

    server.answer = answer
    keys = [f"k{number % 7}" for number in range(140)]

    found, executions = call(
        {"url": server.url + "/{{ .data.key }}/{{ .data.n }}", "concurrency": 16},
        [{"key": key, "n": number} for number, key in enumerate(keys)],
        keys=keys,
    )

    assert executions.failures == {}
    assert found == [f"/{key}/{number}" for number, key in enumerate(keys)]
    assert overlapped == []
    for key in set(keys):
        numbers = [int(s.path.split("/")[2]) for s in server.seen if s.path.startswith(f"/{key}/")]
        assert numbers == sorted(numbers)


def test_calls_run_side_by_side_as_far_as_concurrency_allows_over_kept_connections(server, call):
    """A thousand calls; the first 32 are only answered once all of them have arrived."""
    together = threading.Barrier(32)

    def answer(seen):
        if int(seen.path[1:]) < 32:
            together.wait(20)
        return as_json(seen.path)

    server.answer = answer

    found, executions = call(
        {"url": server.url + "/{{ .data }}", "concurrency": 32, "timeout": "60s"},
        list(range(1000)),
    )

    assert executions.failures == {}
    assert found == [f"/{number}" for number in range(1000)]
    assert server.most_under_way == 32
    assert server.connections < 100


def test_a_failed_event_does_not_hold_back_the_next_of_its_key(server, call):
    server.answer = lambda seen: Answer(500) if seen.path == "/0" else as_json("fine")

    found, executions = call({"url": server.url + "/{{ .data }}"}, [0, 1], keys=["a", "a"])

    assert found == [UNSET, "fine"]
    assert list(executions.failures) == [0]


def test_only_the_events_asked_for_are_called_for(server, call):
    server.answer = lambda seen: as_json(seen.path)

    found, executions = call({"url": server.url + "/{{ .data }}"}, [0, 1, 2, 3], indexes=[1, 3])

    assert found == ["/1", "/3"]
    assert [detail is not None for detail in executions.details["customer"]] == [
        False,
        True,
        False,
        True,
    ]


def test_errors_show_neither_credentials_nor_queries_nor_tokens_in_the_path(server, call):
    server.answer = lambda seen: Answer(400, b"bad token s3cret-token in h3ader-secret")
    host = server.url.removeprefix("http://")

    _, executions = call(
        {
            "url": f"http://user:pass-word@{host}/bot123456:ABCdefGHIjklMNOpqr/orders/42?key=hush",
            "headers": {"X-Key": "h3ader-secret"},
            "auth": {"bearer": "s3cret-token"},
        },
        [{}],
    )

    error = executions.failures[0]
    said = f"{error} {error.context}"
    for secret in ("s3cret-token", "h3ader-secret", "pass-word", "hush", "ABCdef"):
        assert secret not in said
    assert "/orders/42" in error.message


def test_steps_share_one_thread_and_the_last_one_ends_it(server):
    server.answer = lambda seen: as_json("fine")
    environment = StepEnvironment(flow="shop", pipeline="orders", name="customer", number=0)
    settings = HTTP_CALL.settings.model_validate({"url": server.url})
    first, second = HTTP_CALL.make(settings, environment), HTTP_CALL.make(settings, environment)
    assert len(threads()) == 1

    first.close()
    first.close()
    assert second.run(executions_of([{}]), [0]) == ["fine"]
    second.close()

    assert threads() == []


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"url": "example.com/x"}, "a URL such as"),
        ({"url": "ftp://{{ .data.host }}"}, "a URL such as"),
        ({"url": "http://x", "method": "get"}, "GET"),
        ({"url": "http://x", "headers": {"bad name": "x"}}, "headers"),
        ({"url": "http://x", "headers": {"Host": "x"}}, "made from the request"),
        ({"url": "http://x", "headers": {"X-A": "a\nb"}}, "one line"),
        ({"url": "http://x", "body": {"a": 1}, "body_from": "data"}, "not both"),
        ({"url": "http://x", "auth": {"username": "ada"}}, "username and password together"),
        ({"url": "http://x", "auth": {}}, "one of bearer"),
        ({"url": "http://x", "auth": {"type": "basic", "bearer": "t"}}, "the keys of basic"),
        (
            {"url": "http://x", "auth": {"bearer": "t"}, "headers": {"authorization": "t"}},
            "not both",
        ),
        ({"url": "http://x", "timeout": "0s"}, "greater than or equal"),
        ({"url": "http://x", "concurrency": 0}, "greater than or equal"),
        ({"url": "http://x", "verb": "GET"}, "verb"),
    ],
)
def test_settings_that_cannot_work_are_refused(config, said):
    with pytest.raises(ValidationError, match=said):
        HTTP_CALL.settings.model_validate(config)
