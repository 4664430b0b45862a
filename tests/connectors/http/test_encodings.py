"""Compressed bodies: what they hold, and everything that is refused."""

from __future__ import annotations

import gzip
import zlib

import pytest

from connectors.http.encodings import decoded
from connectors.http.requests import RefusedError

BODY = b'{"n":1}' * 100
LONGEST = len(BODY)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("", BODY),
        ("identity", BODY),
        ("gzip", gzip.compress(BODY)),
        (" GZip ", gzip.compress(BODY)),
        ("x-gzip", gzip.compress(BODY)),
        ("gzip", gzip.compress(BODY[:7]) + gzip.compress(BODY[7:])),
        ("deflate", zlib.compress(BODY)),
    ],
    ids=["none", "identity", "gzip", "in capitals", "x-gzip", "two members", "deflate"],
)
def test_a_body_is_what_was_compressed(encoding, body):
    assert decoded(encoding, body, LONGEST) == BODY


def test_a_body_may_be_empty():
    assert decoded("gzip", gzip.compress(b""), LONGEST) == b""


def refused(encoding, body, longest=LONGEST):
    with pytest.raises(RefusedError) as caught:
        decoded(encoding, body, longest)
    return caught.value.status, caught.value.code


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "none"])
def test_an_encoding_that_is_not_understood_is_named(encoding):
    assert refused(encoding, BODY) == (415, "content_encoding")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        BODY,
        zlib.compress(BODY),
        gzip.compress(BODY)[:-1],
        gzip.compress(BODY)[:20],
        gzip.compress(BODY) + b"more",
        gzip.compress(BODY)[:-8] + b"\0" * 8,
    ],
    ids=["empty", "plain", "deflate", "cut", "cut short", "more behind it", "checksum"],
)
def test_what_is_no_gzip_is_refused(body):
    assert refused("gzip", body) == (400, "content_encoding_broken")


def test_what_becomes_too_long_is_refused_before_it_takes_the_memory():
    bomb = gzip.compress(b"\0" * 50_000_000)
    assert len(bomb) < 100_000
    assert refused("gzip", bomb) == (413, "body_too_large")
    assert refused("gzip", gzip.compress(BODY), LONGEST - 1) == (413, "body_too_large")
    halves = gzip.compress(BODY[:350]) + gzip.compress(BODY[350:])
    assert refused("gzip", halves, LONGEST - 1) == (413, "body_too_large")
