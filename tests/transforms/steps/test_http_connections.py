"""How `step.http_call` connects: TLS, proxies, limits, timeouts, and the bytes both ways."""

from __future__ import annotations

import base64
import gzip
import socket
import ssl
import threading
import zlib

import pytest
from pydantic import ValidationError

from connectors.errors import FatalError, FlowFileError, PermanentError, RetryableError
from tests.transforms.steps.answering import Answer, as_json, serving
from tests.transforms.steps.calling import calling
from tests.transforms.steps.certificates import Authority
from tests.transforms.steps.proxying import proxying
from transforms.steps.http_call import HTTP_CALL


@pytest.fixture
def call(tmp_path):
    with calling(folder=tmp_path) as run:
        yield run


@pytest.fixture
def server():
    with serving() as found:
        yield found


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


def test_a_certificate_of_the_named_authority_is_trusted(call, authority, tmp_path):
    (tmp_path / "ours.pem").write_bytes(authority.ca.read_bytes())
    with serving(authority.server_context()) as server:
        server.answer = lambda seen: as_json("safe")

        found, _ = call({"url": server.url, "tls": {"ca": "ours.pem"}}, [{}])

        assert found == ["safe"]


def test_a_certificate_of_nobody_we_trust_stops_the_worker_unless_it_is_not_looked_at(
    call, authority
):
    with serving(authority.server_context()) as server:
        server.answer = lambda seen: as_json("unsafe")

        _, executions = call({"url": server.url}, [{}])
        found, _ = call({"url": server.url, "tls": {"verify": False}}, [{}])

        assert isinstance(executions.failures[0], FatalError)
        assert executions.failures[0].code == "http_tls"
        assert "tls.ca" in executions.failures[0].hint
        assert found == ["unsafe"]


def test_a_certificate_of_a_host_that_an_event_names_fails_that_event_alone(call, authority):
    with serving(authority.server_context()) as server:
        config = {"url": "https://{{ .data }}/", "allow_private": True}

        _, executions = call(config, [f"127.0.0.1:{server.port}"])

        assert isinstance(executions.failures[0], PermanentError)
        assert executions.failures[0].code == "http_tls"


def test_the_certificate_must_have_the_hosts_name_or_the_one_that_the_flow_names(call, authority):
    with serving(authority.server_context("DNS:shop.internal")) as server:
        server.answer = lambda seen: as_json("safe")
        tls = {"ca": str(authority.ca)}

        _, executions = call({"url": server.url, "tls": tls}, [{}])
        found, _ = call({"url": server.url, "tls": {**tls, "server_name": "shop.internal"}}, [{}])

        assert executions.failures[0].code == "http_tls"
        assert found == ["safe"]


@pytest.mark.parametrize("password", [None, "s3cret"])
def test_a_server_that_asks_who_we_are_is_shown_our_certificate(call, authority, password):
    certificate, key = authority.issue("client", "DNS:client", password)
    with serving(authority.server_context(asks=True)) as server:
        server.answer = lambda seen: as_json("known")
        ours = {"ca": str(authority.ca), "certificate": str(certificate), "key": str(key)}
        if password:
            ours["key_password"] = password

        found, _ = call({"url": server.url, "tls": ours}, [{}])
        _, executions = call({"url": server.url, "tls": {"ca": str(authority.ca)}}, [{}])

        assert found == ["known"]
        # TLS 1.3 tells after the handshake; the server's reset may then come first.
        assert executions.failures[0].code in {"http_tls", "http_unreachable"}
        assert server.seen[0].method == "GET"
        assert len(server.seen) == 1


def test_an_older_tls_than_the_least_is_not_spoken(call, authority):
    context = authority.server_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with serving(context) as server:
        server.answer = lambda seen: as_json("old")
        tls = {"ca": str(authority.ca)}

        _, executions = call({"url": server.url, "tls": {**tls, "min_version": "1.3"}}, [{}])
        found, _ = call({"url": server.url, "tls": tls}, [{}])

        assert executions.failures[0].code == "http_tls"
        assert found == ["old"]


@pytest.mark.parametrize("setting", ["ca", "certificate"])
def test_files_of_tls_that_cannot_be_used_are_named_before_anything_runs(call, tmp_path, setting):
    (tmp_path / "broken.pem").write_text("no certificate")

    for name in ("broken.pem", "missing.pem"):
        with pytest.raises(FlowFileError, match=f"tls.{setting} {name}"):
            call({"url": "https://127.0.0.1:1", "tls": {setting: name}}, [{}])


@pytest.mark.parametrize("credentials", [None, "ada:pa:ss"])
def test_calls_go_through_the_proxy_http_and_https(call, server, authority, credentials):
    server.answer = lambda seen: as_json("plain")
    with serving(authority.server_context()) as safe, proxying(credentials) as proxy:
        safe.answer = lambda seen: as_json("safe")
        user = "ada:pa%3Ass@" if credentials else ""
        config = {"proxy": f"http://{user}{proxy.address}", "tls": {"ca": str(authority.ca)}}

        assert call({"url": server.url + "/x", **config}, [{}])[0] == ["plain"]
        assert call({"url": safe.url + "/x", **config}, [{}])[0] == ["safe"]
        assert proxy.asked == [f"GET {server.url}/x", f"CONNECT 127.0.0.1:{safe.port}"]


def test_a_proxy_that_refuses_us_stops_the_worker_and_shows_no_password(call, authority):
    with serving(authority.server_context()) as safe, proxying("ada:right") as proxy:
        _, executions = call(
            {"url": safe.url, "proxy": f"http://ada:wr0ng-pass@{proxy.address}"}, [{}]
        )

        error = executions.failures[0]
        assert isinstance(error, FatalError)
        assert error.code == "http_proxy"
        assert "wr0ng-pass" not in f"{error} {error.context}"
        assert safe.connections == 0


def test_proxies_of_the_environment_are_not_asked(call, server, monkeypatch):
    server.answer = lambda seen: as_json("direct")
    with proxying() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://{proxy.address}")

        assert call({"url": server.url}, [{}])[0] == ["direct"]
        assert proxy.asked == []


def test_one_host_gets_no_more_calls_at_a_time_than_it_may(call, server):
    with serving() as other:
        together = threading.Barrier(4)

        def answer(seen):
            if int(seen.path[1:]) < 4:
                together.wait(20)  # two of each host, all four at the same time
            return as_json(seen.path)

        server.answer = other.answer = answer
        config = {
            "url": "{{ .data.at }}/{{ .data.n }}",
            "allow_private": True,
            "concurrency": 8,
            "connections": {"per_host": 2},
        }
        data = [{"at": (server if n % 2 else other).url, "n": n} for n in range(40)]

        found, executions = call(config, data)

        assert executions.failures == {}
        assert found == [f"/{n}" for n in range(40)]
        assert (server.most_under_way, other.most_under_way) == (2, 2)


def test_connections_are_kept_for_later_batches_as_long_as_the_flow_says(call, server):
    server.answer = lambda seen: as_json("fine")
    call({"url": server.url}, [{}])
    call({}, [{}], step=call.steps[0])
    assert server.connections == 1

    call({"url": server.url, "connections": {"keep_alive": 0, "idle": 0}}, [{}])
    call({}, [{}], step=call.steps[1])
    assert server.connections == 3


def test_a_connection_that_its_server_has_closed_is_not_used_again(call):
    closed = threading.Semaphore(0)

    def answer_once_each(listening):
        for _ in range(3):
            connection, _ = listening.accept()
            with connection:
                while not connection.recv(65536).endswith(b"\r\n\r\n"):
                    pass
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            closed.release()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer_once_each, args=[listening])
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        for number in range(3):
            step = call.steps[0] if number else None
            found, executions = call({"url": url, "method": "GET"}, [{}], step=step)
            assert (found, executions.failures) == ([{}], {})
            assert closed.acquire(timeout=20)
        thread.join(20)


def test_a_server_that_falls_silent_is_given_up_on_after_read_timeout(call, server):
    server.answer = lambda seen: Answer(wait=server.released)

    _, executions = call({"url": server.url, "read_timeout": "200ms", "timeout": "20s"}, [{}])

    assert isinstance(executions.failures[0], RetryableError)
    assert executions.failures[0].code == "http_timeout"
    assert "read_timeout" in executions.failures[0].message


def test_a_host_that_does_not_take_connections_is_given_up_on_after_connect_timeout(call):
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):  # the queue of a server that never accepts
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        config = {"url": f"http://127.0.0.1:{full.getsockname()[1]}", "connect_timeout": "200ms"}

        _, executions = call({**config, "timeout": "20s"}, [{}])

        assert executions.failures[0].code == "http_timeout"
        assert "Nothing was sent" in executions.failures[0].hint


@pytest.mark.parametrize(
    ("wanted", "value", "sent"),
    [
        ("json", "text", ("application/json", b'"text"')),
        ("text", {"a": 1}, ("text/plain; charset=utf-8", b'{"a":1}')),
        ("text", 7, ("text/plain; charset=utf-8", b"7")),
        ("base64", "AP/+", ("application/octet-stream", b"\x00\xff\xfe")),
    ],
)
@pytest.mark.parametrize("way", ["body", "body_from"])
def test_a_body_is_sent_in_the_format_that_the_flow_says(call, server, wanted, value, sent, way):  # noqa: PLR0917 - a table
    where = {"body": "{{ .data }}"} if way == "body" else {"body_from": "data"}
    config = {"url": server.url, "method": "POST", "body_format": wanted, **where}

    _, executions = call(config, [value])

    assert executions.failures == {}
    assert (server.seen[0].headers["content-type"], server.seen[0].body) == sent


@pytest.mark.parametrize("value", ["not base64!", {"a": 1}, "AP"])
def test_a_body_that_does_not_stand_for_bytes_fails_its_event(call, server, value):
    _, executions = call(
        {"url": server.url, "method": "POST", "body": "{{ .data }}", "body_format": "base64"},
        [value],
    )

    assert executions.failures[0].code == "http_request"
    assert server.seen == []


@pytest.mark.parametrize(
    ("wanted", "output"),
    [
        ("base64", base64.b64encode(b'{"a":1}').decode()),
        ("text", '{"a":1}'),
        ("json", {"a": 1}),
        ("auto", '{"a":1}'),
    ],
)
def test_the_output_is_in_the_format_that_the_flow_says(call, server, wanted, output):
    server.answer = lambda seen: Answer(200, b'{"a":1}', {"content-type": "text/plain"})

    assert call({"url": server.url, "response_format": wanted}, [{}])[0] == [output]


def test_an_answer_that_should_be_json_and_is_not_fails(call, server):
    server.answer = lambda seen: Answer(200, b"<html>", {"content-type": "text/html"})

    _, executions = call({"url": server.url, "response_format": "json"}, [{}])

    assert executions.failures[0].code == "http_response"


def bare(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("name", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", bare)]
)
def test_packed_answers_are_unpacked_to_the_limit_and_no_further(call, server, name, pack):
    headers = {"content-encoding": name, "content-type": "text/plain"}
    server.answer = lambda seen: Answer(200, pack(b"x" * 100_000), headers)

    found, _ = call({"url": server.url, "max_response": 100_000}, [{}])
    _, executions = call({"url": server.url, "max_response": 99_999}, [{}])

    assert found == ["x" * 100_000]
    assert executions.failures[0].code == "http_response_too_long"


@pytest.mark.parametrize(
    ("name", "body"),
    [("br", b"x"), ("gzip", b"not packed"), ("gzip", gzip.compress(b"x" * 999, mtime=0)[:-9])],
)
def test_an_answer_packed_in_another_way_or_broken_is_not_guessed_at(call, server, name, body):
    server.answer = lambda seen: Answer(200, body, {"content-encoding": name})

    _, executions = call({"url": server.url}, [{}])

    assert executions.failures[0].code == "http_response"
    assert isinstance(executions.failures[0], PermanentError)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"tls": {"key": "k.pem"}}, "certificate"),
        ({"tls": {"ca": "a.pem", "verify": False}}, "not both"),
        ({"tls": {"min_version": "1.0"}}, "1.2"),
        ({"connections": {"per_host": 0}}, "greater than"),
    ],
)
def test_settings_that_do_not_fit_are_refused(config, said):
    with pytest.raises(ValidationError, match=said):
        HTTP_CALL.settings.model_validate({"url": "https://x", **config})
