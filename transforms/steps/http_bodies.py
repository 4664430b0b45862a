"""Reads the body of an answer, and no more of it than is allowed: packed or not."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

import httpx

ENCODINGS = b"gzip, deflate"
"""What we ask for: what can be unpacked to a limit."""

_GZIP_OR_ZLIB = 47
_BARE = -15


class BodyTooLongError(Exception):
    """The body is longer than the limit; the rest was not read."""


class BodyPackedError(Exception):
    """The body is packed in a way that we did not ask for, or not as its header says."""


async def read_body(response: httpx.Response, longest: int) -> bytes:
    """Return the body. Raises BodyTooLongError or BodyPackedError."""
    packed = response.headers.get("content-encoding", "").strip().lower()
    declared = response.headers.get("content-length", "")
    if not packed and declared.isdigit() and int(declared) > longest:
        raise BodyTooLongError
    parts: list[bytes] = []
    left = longest
    stream = response.aiter_raw()
    async for part in stream if packed in {"", "identity"} else _unpacked(stream, packed, longest):
        left -= len(part)
        if left < 0:
            raise BodyTooLongError
        parts.append(part)
    return b"".join(parts)


async def _unpacked(
    stream: AsyncIterator[bytes], packed: str, longest: int
) -> AsyncIterator[bytes]:
    if packed not in {"gzip", "x-gzip", "deflate"}:
        raise BodyPackedError(f"it is packed as {packed}")
    unpack = zlib.decompressobj(_GZIP_OR_ZLIB)
    first, empty = True, True
    try:
        async for part in stream:
            empty = empty and not part
            try:
                out = unpack.decompress(part, longest + 1)
            except zlib.error:
                if not first or packed != "deflate":
                    raise
                # Some servers mean deflate without the zlib wrapping that the standard says.
                unpack = zlib.decompressobj(_BARE)
                out = unpack.decompress(part, longest + 1)
            first = False
            if unpack.unconsumed_tail:
                raise BodyTooLongError
            yield out
    except zlib.error as error:
        raise BodyPackedError(f"it is not {packed}: {error}") from None
    if not unpack.eof and not empty:
        raise BodyPackedError("it ends before its end")
