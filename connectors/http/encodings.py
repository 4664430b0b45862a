"""Bodies that come compressed (RFC 9110, 8.4). Pure.

What may be how long is the body as it is meant: one that is short on the wire and long after it is refused
before it takes the memory.
"""

from __future__ import annotations

import zlib

from connectors.http.requests import RefusedError

_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""Encoding → window size as zlib takes it: 15, and 16 more for gzip's header."""


def decoded(encoding: str, body: bytes, longest: int) -> bytes:
    """Return a body without its `Content-Encoding`, which is `encoding`. Raises RefusedError."""
    name = encoding.strip().lower()
    if name in {"", "identity"}:
        return body
    if name not in _WINDOWS:
        raise RefusedError(
            415,
            f"the body's encoding {name[:40]!r} is not understood.",
            code="content_encoding",
            hint="Send it as it is, or with gzip or deflate.",
        )
    parts: list[bytes] = []
    room = longest + 1
    while body:  # gzip may have several members
        stream = zlib.decompressobj(_WINDOWS[name])
        try:
            part = stream.decompress(body, room)
        except zlib.error:
            raise _broken() from None
        parts.append(part)
        room -= len(part)
        if not room:
            raise RefusedError(
                413,
                f"the body is larger than {longest} bytes when it is decompressed.",
                code="body_too_large",
                hint="Nothing was kept. The source's max_body says how much it takes.",
            )
        if not stream.eof:
            raise _broken()
        body = stream.unused_data
    if not parts:
        raise _broken()
    return b"".join(parts)


def _broken() -> RefusedError:
    return RefusedError(
        400,
        "the body is not what its Content-Encoding says.",
        code="content_encoding_broken",
        hint="Nothing was kept.",
    )
