"""CloudEvents 1.0 at the edges: the JSON format, and the Kafka and HTTP bindings' headers.

Encoding works on a whole `Outgoing` at once: what is the same for all events is joined once,
what differs is escaped a column at a time. A caller takes one of

    structured(outgoing)               one JSON document per event
    binary_headers(outgoing, prefix)   headers per event, beside the bodies of bodies(outgoing)

and decoding finds the mode of a message by its headers (`content_mode`), then

    decode_structured(body)            attributes, data
    decode_binary(headers, prefix)     attributes
    data_of_body(body, content_type)   the body as JSON text

Inside Penstock an event's data is JSON. Data of another content type is a JSON string: the text
itself where the media type is textual, base64 where it is not; so a media type alone says how to
get the bytes back. Specifications: github.com/cloudevents/spec, v1.0.2: spec.md,
formats/json-format.md, bindings/kafka-protocol-binding.md, bindings/http-protocol-binding.md.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import repeat
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, unquote_to_bytes

import orjson

from connectors.contracts import Attribute, Outgoing
from connectors.errors import PermanentError

KAFKA_PREFIX = "ce_"
HTTP_PREFIX = "ce-"
STRUCTURED_TYPE = "application/cloudevents+json"
JSON_TYPE = "application/json"

Scalar = str | int | bool
ContentMode = Literal["structured", "batched", "binary"]
_SCALARS = {str, int, bool}
Headers = Collection[tuple[str, "bytes | str | None"]]

# The HTTP binding, 3.1.3.2: all printable ASCII but space, double quote and percent stands as it is.
_HTTP_PLAIN = re.compile(r"[!#$&-~]*")
_HTTP_SAFE = "".join(c for c in map(chr, range(0x21, 0x7F)) if c not in '"%')


# --- encoding ---------------------------------------------------------------------------------


def structured(outgoing: Outgoing) -> list[bytes]:
    """Return each event as a JSON document; an event without a value has no `data` member."""
    attributes = outgoing.attributes()
    constant = b'{"specversion":"1.0"'
    columns: list[tuple[str, Sequence[Scalar | None]]] = []
    for name, value in attributes.items():
        if name == "specversion":
            continue
        if isinstance(value, list):
            columns.append((name, value))
        elif value is not None:
            constant += b"," + _text(name) + b":" + _text(value)
    count = len(outgoing)
    parts: list[Iterable[bytes]] = []
    for name, column in columns:
        opening = b"," + _text(name) + b":"
        strings = _escaped_strings(column)
        if strings is not None:
            parts += (repeat(constant + opening + b'"', count), strings)
            constant = b'"'
        else:
            parts += (repeat(constant, count), _members(opening, column))
            constant = b""
    parts += _data_parts(outgoing, attributes, constant)
    return list(map(b"".join, zip(*parts, strict=True)))


def binary_headers(outgoing: Outgoing, prefix: str) -> list[list[tuple[str, bytes]]]:
    """Return each event's headers; `prefix` is KAFKA_PREFIX or HTTP_PREFIX.

    `datacontenttype` becomes `content-type`, JSON where the event does not say. HTTP values are
    percent-encoded, Kafka's are UTF-8, as their bindings ask.
    """
    count = len(outgoing)
    attributes = dict(outgoing.attributes())
    encode = _http_value if prefix == HTTP_PREFIX else str.encode
    rows: list[Iterable[tuple[str, bytes] | None]] = [
        repeat((prefix + "specversion", b"1.0"), count)
    ]
    content_type = attributes.pop("datacontenttype", None) or JSON_TYPE
    if isinstance(content_type, list):
        content_type = [entry or JSON_TYPE for entry in content_type]
    named: list[tuple[str, Attribute]] = [("content-type", content_type)]
    named += ((prefix + name, value) for name, value in attributes.items() if name != "specversion")
    sparse = False
    for header, value in named:
        to_bytes = str.encode if header == "content-type" else encode
        if not isinstance(value, list):
            if value is not None:
                rows.append(repeat((header, to_bytes(_whole(_string(value)))), count))
            continue
        try:
            rows.append(zip(repeat(header), [to_bytes(v) for v in value], strict=False))
        except (TypeError, UnicodeEncodeError):  # not only strings, or a lone surrogate
            sparse = True
            rows.append(
                [None if v is None else (header, to_bytes(_whole(_string(v)))) for v in value]
            )
    if sparse:
        return [[h for h in row if h is not None] for row in zip(*rows, strict=True)]
    return list(map(list, zip(*rows, strict=True)))


def bodies(outgoing: Outgoing) -> Sequence[bytes | None]:
    """Return the message bodies of binary mode: the values, or what they hold if not JSON."""
    content_types = outgoing.attributes().get("datacontenttype")
    if _all_json(content_types):
        return outgoing.values
    per_event = content_types if isinstance(content_types, list) else repeat(content_types)
    return [
        value if value is None or is_json_type(content_type) else _unwrapped(value, content_type)
        for value, content_type in zip(outgoing.values, per_event, strict=False)
    ]


def _text(value: Scalar) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # a lone surrogate, or an integer past 64 bits
        return orjson.dumps(_whole(_string(value)))


def _whole(text: str) -> str:
    """Return the text with U+FFFD for each lone surrogate, which UTF-8 can't hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _string(value: Scalar) -> str:
    """Return the canonical string of an attribute, spec.md 3.1 (Type System)."""
    if value is True:
        return "true"
    if value is False:
        return "false"
    return str(value)


def _escaped_strings(column: Sequence[Scalar | None]) -> list[bytes] | None:
    """Return the JSON text of each string without its quotes; None if not all are strings.

    One call for the column: inside JSON text a quote follows a backslash, so `","` is only ever
    the end of one string and the start of the next.
    """
    try:
        encoded = orjson.dumps(column)
    except orjson.JSONEncodeError:
        return None
    if encoded[:2] == b'["' and encoded[-2:] == b'"]':
        pieces = encoded[2:-2].split(b'","')
        if len(pieces) == len(column):
            return pieces
    return None


def _members(opening: bytes, column: Sequence[Scalar | None]) -> Iterator[bytes]:
    return (b"" if value is None else opening + _text(value) for value in column)


def _data_parts(
    outgoing: Outgoing, attributes: Mapping[str, Attribute], constant: bytes
) -> list[Iterable[bytes]]:
    """Return the parts that close the documents: `constant`, the data member, the brace."""
    values, count = outgoing.values, len(outgoing)
    content_types = attributes.get("datacontenttype")
    if _all_json(content_types):
        if None not in values:
            return [repeat(constant + b',"data":', count), values, repeat(b"}", count)]  # type: ignore[list-item] # no None
        return [[constant + (b"}" if v is None else b',"data":' + v + b"}") for v in values]]
    per_event = content_types if isinstance(content_types, list) else repeat(content_types)
    closings = []
    for value, content_type in zip(values, per_event, strict=False):
        name = b',"data":'
        if value is None:
            closings.append(constant + b"}")
            continue
        if _kind(content_type) == "bytes" and _from_base64(value) is not None:
            name = b',"data_base64":'
        closings.append(constant + name + value + b"}")
    return [closings]


def _all_json(content_types: Attribute | None) -> bool:
    if isinstance(content_types, list):
        return all(map(is_json_type, set(content_types)))
    return is_json_type(content_types)


def _unwrapped(value: bytes, content_type: Any) -> bytes:
    """Return the bytes that a JSON string stands for; anything else stays JSON text."""
    if _kind(content_type) == "bytes":
        content = _from_base64(value)
        return value if content is None else content
    decoded = orjson.loads(value)
    return decoded.encode(_charset(content_type), "replace") if isinstance(decoded, str) else value


def _from_base64(value: bytes) -> bytes | None:
    try:
        return base64.b64decode(orjson.loads(value), validate=True)
    except (binascii.Error, TypeError, ValueError):
        return None


def _http_value(value: str) -> bytes:
    if _HTTP_PLAIN.fullmatch(value):
        return value.encode("ascii")
    return quote(value, safe=_HTTP_SAFE).encode("ascii")


# --- content types ----------------------------------------------------------------------------


def is_json_type(content_type: Any) -> bool:
    """Whether data of that media type is JSON; without one it is, as the JSON format says."""
    return content_type is None or content_type == JSON_TYPE or _kind(content_type) == "json"


def _kind(content_type: Any) -> Literal["json", "text", "bytes"]:
    if content_type is None:
        return "json"
    media_type = str(content_type).partition(";")[0].strip().lower()
    subtype = media_type.partition("/")[2]
    if subtype == "json" or subtype.endswith("+json"):
        return "json"
    if media_type.startswith("text/") or subtype in {"xml", "yaml", "x-yaml", "javascript"}:
        return "text"
    return "text" if subtype.endswith(("+xml", "+yaml")) else "bytes"


def _charset(content_type: Any) -> str:
    """Return the charset parameter where Python knows it, else UTF-8."""
    match = re.search(r"charset\s*=\s*\"?([\w.:-]+)", str(content_type), re.IGNORECASE)
    try:
        return "utf-8" if match is None else codecs.lookup(match[1]).name
    except LookupError:
        return "utf-8"


# --- decoding ---------------------------------------------------------------------------------


class Decoded(NamedTuple):
    """A decoded document: attributes without `data`, and the data as JSON text and as a value.

    `raw` is None where the document has no data.
    """

    attributes: dict[str, Scalar]
    raw: bytes | None
    data: Any


def content_mode(headers: Headers, prefix: str) -> ContentMode | None:
    """Return how the message carries a CloudEvent; None when it carries none.

    Raises PermanentError for a CloudEvents format other than JSON.
    """
    binary = False
    for name, value in headers:
        lower = name.lower()
        if lower == "content-type" and value is not None:
            text = value.decode("latin-1") if isinstance(value, bytes) else value
            media_type = text.partition(";")[0].strip().lower()
            if media_type == STRUCTURED_TYPE:
                return "structured"
            if media_type == "application/cloudevents-batch+json":
                return "batched"
            if media_type.startswith("application/cloudevents"):
                raise PermanentError(
                    f"the event is in the format {media_type}.",
                    code="cloudevents_format",
                    hint=f"Only JSON is read: send {STRUCTURED_TYPE}, or use binary mode.",
                )
        elif lower == prefix + "specversion":
            binary = True
    return "binary" if binary else None


def decode_structured(body: bytes) -> Decoded:
    """Decode one JSON document. Raises PermanentError (`cloudevents_*`) when it is not an event."""
    document, raw = _split_data(body)
    if not isinstance(document, dict):
        raise PermanentError(
            f"the CloudEvent is {_json_name(document)}, not a JSON object.",
            code="cloudevents_not_json",
            hint="Its bytes are kept with the dead letter.",
        )
    data = document.pop("data", None)
    encoded = document.pop("data_base64", None)
    attributes = _checked(document)
    if encoded is not None:
        if raw is not None and raw != b"null":
            raise PermanentError(
                "the CloudEvent has both data and data_base64.",
                code="cloudevents_data",
                hint="The JSON format allows one of them.",
            )
        content = _base64_member(encoded)
        raw = data_of_body(content, attributes.get("datacontenttype"))
        data = orjson.loads(raw)
    return Decoded(attributes, raw, data)


def split_structured(body: bytes) -> tuple[dict[str, Any], bytes | None]:
    """Return the members of a CloudEvent we wrote, without `data`, and the JSON text of that.

    Unlike `decode_structured` it asks for nothing: a dead letter may lack what could not be read.
    """
    document, raw = _split_data(body)
    document.pop("data", None)
    return document, raw


def decode_binary(headers: Headers, prefix: str) -> dict[str, Scalar]:
    """Return the attributes that the headers hold; `content-type` is `datacontenttype`.

    Other headers are left alone. Raises PermanentError (`cloudevents_*`) when one can't be read or
    a required attribute is missing.
    """
    found = None if prefix == HTTP_PREFIX else _plain_headers(headers, prefix)
    if found is None:
        found = {}
        for name, value in headers:
            attribute = _attribute_of(name, prefix)
            if attribute is not None and value is not None:
                found[attribute] = _header_text(name, value, attribute, prefix)
    return _checked(found)


@lru_cache(maxsize=1024)
def _attribute_of(name: str, prefix: str) -> str | None:
    lower = name.lower()
    if lower.startswith(prefix):
        return lower[len(prefix) :]
    return "datacontenttype" if lower == "content-type" else None


def _plain_headers(headers: Headers, prefix: str) -> dict[str, Any] | None:
    """Return the attributes where every value is UTF-8 bytes; None where one is not."""
    try:
        return {
            attribute: bytes.decode(value)  # type: ignore[arg-type] # a TypeError is caught
            for name, value in headers
            if (attribute := _attribute_of(name, prefix)) is not None
        }
    except (TypeError, UnicodeDecodeError):
        return None


def _header_text(name: str, value: bytes | str, attribute: str, prefix: str) -> str:
    try:
        text = value if isinstance(value, str) else value.decode()
        if prefix == HTTP_PREFIX and attribute != "datacontenttype":
            text = _http_text(text)
    except UnicodeDecodeError as error:
        raise PermanentError(
            f"the header {name} is not UTF-8.",
            code="cloudevents_attribute",
            hint="The CloudEvents bindings ask for UTF-8 in attribute values.",
        ) from error
    return text


def data_of_body(body: bytes, content_type: Any) -> bytes:
    """Return a message body as JSON text: as it is, or as a JSON string (see the module).

    JSON is not parsed here. Raises PermanentError for text that is not in its charset.
    """
    kind = _kind(content_type)
    if kind == "json":
        return body
    if kind == "bytes":
        return b'"' + base64.b64encode(body) + b'"'
    try:
        return orjson.dumps(body.decode(_charset(content_type)))
    except (UnicodeDecodeError, orjson.JSONEncodeError) as error:
        raise PermanentError(
            f"the event's data is not text in the charset of its type {content_type}.",
            code="cloudevents_data",
            hint="Its bytes are kept with the dead letter.",
        ) from error


def _split_data(body: bytes) -> tuple[Any, bytes | None]:
    """Return the document and the JSON text of its data member.

    Where data is the last member (as every encoder we know writes it) its text is cut out as it
    stands: numbers keep their digits. Cutting at `"data":` is right if and only if both sides
    parse: what is before it, closed by a null, as an object, and what follows as one value.
    """
    at = body.find(b'"data":')
    if at > 0 and body[at - 1] != 0x5C:
        raw = body[at + 7 :].rstrip()[:-1].strip()
        try:
            document = orjson.loads(body[:at] + b'"data":null}')
            document["data"] = orjson.loads(raw)
        except (orjson.JSONDecodeError, TypeError):
            pass
        else:
            if body.rstrip()[-1:] == b"}":
                return document, raw
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise PermanentError(
            f"the CloudEvent is not JSON: {error.msg} at character {error.pos}.",
            code="cloudevents_not_json",
            hint="Its bytes are kept with the dead letter.",
        ) from error
    if isinstance(document, dict) and "data" in document:
        return document, orjson.dumps(document["data"])
    return document, None


def _base64_member(encoded: Any) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise PermanentError(
            "the CloudEvent's data_base64 is not base64.",
            code="cloudevents_data",
            hint="RFC 4648, section 4, with padding and without line breaks.",
        ) from error


def _http_text(value: str) -> str:
    """Undo the HTTP binding's encoding: one layer of quotes, then percent sequences."""
    text = value.strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = re.sub(r"\\(.)", r"\1", text[1:-1])
    if "%" not in text:
        return text
    return unquote_to_bytes(text).decode()


def _checked(found: dict[str, Any]) -> dict[str, Scalar]:
    """Return the attributes without unset ones. Raises PermanentError for what 1.0 does not allow."""
    version = found.get("specversion")
    if version != "1.0":
        raise PermanentError(
            f"the CloudEvent has specversion {version!r}."
            if version is not None
            else "the CloudEvent has no specversion.",
            code="cloudevents_version",
            hint='Only CloudEvents 1.0 is read: specversion must be "1.0".',
        )
    for name in ("id", "source", "type"):
        value = found.get(name)
        if not isinstance(value, str) or not value:
            raise PermanentError(
                f"the CloudEvent's {name} is {_json_name(value)}.",
                code="cloudevents_attribute",
                hint=f"CloudEvents 1.0 requires {name}: a string that is not empty.",
            )
    if None in found.values():
        found = {name: value for name, value in found.items() if value is not None}
    if {*map(type, found.values())} <= _SCALARS:
        return found
    for name, value in found.items():
        if type(value) not in _SCALARS:
            raise PermanentError(
                f"the CloudEvent's attribute {name} is {_json_name(value)}.",
                code="cloudevents_attribute",
                hint="Attributes are strings, integers or booleans; the rest belongs in data.",
            )
    return found


def _json_name(value: Any) -> str:
    if value is None:
        return "missing"
    if value == "":
        return "empty"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, bool):
        return "a boolean"
    return "a string" if isinstance(value, str) else "a number"
