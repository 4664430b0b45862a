"""What may be written for Redis Streams, and what is refused with what is expected."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from connectors.registry import connector_type

SOURCE = {"url": "redis://127.0.0.1:6379/0", "streams": ["s"], "group": "shop"}


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("source.redis_stream", SOURCE),
        ("source.redis_stream", SOURCE | {"start": "2026-11-01T00:00:00+01:00"}),
        (
            "source.redis_stream",
            SOURCE | {"sentinel": {"service": "main", "addresses": ["a:26379", "[::1]:26379"]}},
        ),
        ("source.redis_stream", SOURCE | {"cluster": {}}),
        (
            "sink.redis",
            {"url": "redis://cache", "cluster": {"addresses": ["cache-2:6379", "[::1]:6380"]}},
        ),
        ("sink.redis_stream", {"url": "rediss://u:p@cache:6380", "stream": "out"}),
        ("sink.redis", {"url": "redis://cache", "max_length": 1000}),
    ],
)
def test_a_configuration_is_valid_and_its_connector_is_made(name, config):
    kind = connector_type(name)
    settings = kind.settings.model_validate(config)
    assert (kind.source or kind.sink)("m", settings)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"url": "http://h"}, "a URL such as redis://"),
        ({"url": "rediz://u:hunter2@h"}, "a URL such as redis://"),
        ({"start": "latest"}, "an entry id, or a time"),
        ({"start": "2026-11-01"}, "an entry id, or a time"),
        ({"streams": []}, "at least 1 item"),
        ({"claim_after": "10ms"}, "greater than or equal to 1"),
        ({"sentinel": {"service": "main", "addresses": ["a"]}}, "host:port"),
        ({"consumr": "x"}, "Extra inputs"),
    ],
)
def test_a_wrong_configuration_is_refused_with_what_is_expected(changes, expected):
    with pytest.raises(ValidationError) as caught:
        connector_type("source.redis_stream").settings.model_validate(SOURCE | changes)
    (error,) = caught.value.errors()
    assert expected in error["msg"]
    assert "hunter2" not in error["msg"]


@pytest.mark.parametrize(
    ("name", "config"),
    [("source.redis_stream", SOURCE), ("sink.redis_stream", {"url": "redis://h", "stream": "s"})],
)
def test_a_cluster_has_no_sentinels(name, config):
    both = {"sentinel": {"service": "main", "addresses": ["s:1"]}, "cluster": {}}
    with pytest.raises(ValidationError, match="sentinel or cluster"):
        connector_type(name).settings.model_validate(config | both)
