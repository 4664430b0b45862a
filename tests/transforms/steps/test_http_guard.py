"""Which addresses an event may make `step.http_call` connect to."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest
from pydantic import ValidationError

from connectors.errors import PermanentError
from tests.transforms.steps.answering import Answer, as_json, serving
from tests.transforms.steps.calling import calling
from transforms.steps.http_call import HTTP_CALL
from transforms.steps.http_guard import Allowed, fixed_host, inside


@pytest.fixture
def call():
    with calling() as run:
        yield run


@pytest.fixture
def server():
    with serving() as found:
        yield found


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "10.0.0.5", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
        *("169.254.169.254", "100.100.100.200", "192.0.0.192", "168.63.129.16", "0.0.0.0"),
        *("0.1.2.3", "224.0.0.1", "255.255.255.255", "198.18.0.1", "203.0.113.9"),
        *("::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.5", "::127.0.0.1", "64:ff9b::10.0.0.5"),
        *("2002:7f00:1::", "2001::1", "2001:db8::1", "4000::1"),
    ],
)
def test_addresses_that_are_not_the_internets_are_told(address):
    assert inside(ip_address(address))
    with pytest.raises(PermanentError, match="address"):
        Allowed(allow_private=False).check("named", [address])


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "8.8.8.8", "172.15.0.1", "172.32.0.1", "169.253.0.1", "168.63.129.17"),
        *("2606:4700::1111", "2a00:1450::1", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8"),
    ],
)
def test_addresses_of_the_internet_pass(address):
    assert inside(ip_address(address)) is None
    Allowed(allow_private=False).check("named", [address])


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://example.com/{{ .data.id }}", "example.com"),
        ("https://u:p@Example.com:8443/{{ .data.id }}", "example.com"),
        ("http://[::1]:80?x={{ .data.id }}", "::1"),
        ("http://example.com", "example.com"),
        ("{{ .data.url }}", None),
        ("http://{{ .data.host }}/x", None),
        ("http://example.com{{ .data.path }}", None),
        ("http://example.com:{{ .data.port }}/", None),
        ("http://user:{{ .data.password }}@example.com/", None),
        ("http://example.com\\{{ .data.path }}/", None),
    ],
)
def test_a_host_is_the_flows_own_only_where_no_expression_stands_before_the_path(url, host):
    assert fixed_host(url) == host


@pytest.mark.parametrize(
    "spelling",
    [
        *("127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0"),
        *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0x7f.1"),
    ],
)
def test_an_event_that_names_this_machine_calls_nobody_however_it_spells_it(server, call, spelling):
    found, executions = call(
        {"url": "http://{{ .data }}/x"}, [f"{spelling}:{server.port}"], name="step"
    )

    assert server.connections == 0
    assert executions.failures[0].code in {"http_private_address", "http_request"}
    assert isinstance(executions.failures[0], PermanentError)
    assert "allow_private" in executions.failures[0].hint or "url" in executions.failures[0].hint
    assert len(found) == 1


def test_a_host_that_the_flow_itself_names_may_be_anywhere(server, call):
    server.answer = lambda seen: as_json("fine")

    assert call({"url": server.url + "/{{ .data }}"}, ["x"])[0] == ["fine"]


@pytest.mark.parametrize(
    ("allowed", "host"),
    [
        (True, "localhost"),
        (["127.0.0.0/8"], "127.0.0.1"),
        (["127.0.0.1"], "127.0.0.1"),
        (["10.0.0.0/8", "localhost"], "localhost"),
    ],
)
def test_the_flow_may_allow_addresses_networks_and_hosts(server, call, allowed, host):
    server.answer = lambda seen: as_json("fine")

    found, _ = call(
        {"url": "http://{{ .data }}/", "allow_private": allowed}, [f"{host}:{server.port}"]
    )

    assert found == ["fine"]


def test_a_star_allows_the_hosts_below_a_name_and_not_the_name():
    allowed = Allowed(["*.Internal"])

    assert allowed.name("shop.internal")
    assert allowed.name("a.shop.internal.")
    assert not allowed.name("internal")
    assert not allowed.name("shop.internal.example")
    assert not allowed.name("notinternal")


def test_what_is_allowed_is_not_more_than_what_is_listed(server, call):
    _, executions = call(
        {"url": "http://{{ .data }}/", "allow_private": ["10.0.0.0/8", "*.internal", "host"]},
        [f"127.0.0.1:{server.port}", f"localhost:{server.port}"],
    )

    assert [executions.failures[k].code for k in (0, 1)] == ["http_private_address"] * 2
    assert server.connections == 0


def test_the_address_that_was_checked_is_the_one_connected_to(server, call, monkeypatch):
    """A name that resolves to the internet first and to this machine a moment later."""
    server.answer = lambda seen: as_json("inside")
    real, asked = socket.getaddrinfo, []

    def rebinding(host, port, *args, **kwargs):
        if host not in {"rebind.example", b"rebind.example"}:
            return real(host, port, *args, **kwargs)
        asked.append(host)
        address = "192.0.2.1" if len(asked) > 1 else "127.0.0.1"
        return real(address, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    config = {"url": "http://{{ .data }}/", "allow_private": ["127.0.0.1"]}

    found, executions = call(config, [f"rebind.example:{server.port}"])

    assert executions.failures == {}
    assert found == ["inside"]
    assert len(asked) == 1
    assert server.seen[0].headers["host"] == f"rebind.example:{server.port}"


def test_one_refused_address_of_a_name_refuses_the_name(server, call, monkeypatch):
    real = socket.getaddrinfo

    def two(host, port, *args, **kwargs):
        if host not in {"two.example", b"two.example"}:
            return real(host, port, *args, **kwargs)
        return real("1.1.1.1", port, *args, **kwargs) + real("10.0.0.5", port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", two)

    _, executions = call({"url": "http://{{ .data }}/"}, [f"two.example:{server.port}"])

    assert executions.failures[0].code == "http_private_address"
    assert executions.failures[0].context["address"] == "10.0.0.5"


def test_redirects_elsewhere_are_followed_where_allowed_without_our_credentials(server, call):
    with serving() as other:
        other.answer = lambda seen: as_json("there")
        server.answer = lambda seen: Answer(307, headers={"location": other.url + "/x"})
        config = {
            "url": server.url,
            "method": "POST",
            "body": {"a": 1},
            "redirects": "any",
            "headers": {"X-Key": "s3cret"},
            "auth": {"bearer": "s3cret"},
            "allow_private": ["127.0.0.1"],
        }

        found, _ = call(config, [{}])

        assert found == ["there"]
        assert other.seen[0].body == b'{"a":1}'
        assert not {"authorization", "x-key"} & set(other.seen[0].headers)


def test_a_redirect_to_an_address_inside_is_refused(server, call):
    with serving() as other:
        server.answer = lambda seen: Answer(
            302, headers={"location": f"http://localhost:{other.port}/metadata"}
        )

        _, executions = call({"url": server.url, "redirects": "any"}, [{}])

        assert executions.failures[0].code == "http_private_address"
        assert other.connections == 0


def test_without_redirects_none_is_followed(server, call):
    server.answer = lambda seen: Answer(302, headers={"location": "/new"})

    _, executions = call({"url": server.url, "redirects": "none"}, [{}])

    assert executions.failures[0].code == "http_redirect"
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"url": "{{ .data.url }}", "proxy": "http://proxy:3128"}, "behind a proxy"),
        ({"url": "http://x", "redirects": "any", "proxy": "http://proxy:3128"}, "behind a proxy"),
        ({"url": "http://x", "allow_private": ["10.0.0.0/99"]}, "networks such as"),
        ({"url": "http://x", "allow_private": ["http://x"]}, "hosts such as"),
        ({"url": "http://x", "proxy": "socks5://x:1"}, "a URL such as"),
    ],
)
def test_what_could_not_be_held_to_is_refused_at_load(config, said):
    with pytest.raises(ValidationError, match=said):
        HTTP_CALL.settings.model_validate(config)
