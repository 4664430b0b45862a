"""Which texts no error, log or page may show, and how they are masked.

A secret is what came from a file, what stands under a name that says so (`password`, `API_KEY`) or
in a field marked as one. Of URLs and DSNs only the password is: host, port, user and database help
to find the server.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote, unquote

MASK = "***"

_SHORTEST = 4
"""Shorter values are masked where a URL or DSN shows them, and left alone elsewhere: masking every
`on` or `5` would make a log unreadable."""

_URL_PASSWORD = re.compile(r"(://[^/\s:@'\"]*:)([^/\s'\"]+)(?=@[^/\s@])")
_ODD_URL_PASSWORD = re.compile(
    r"((?!http)\b[a-z][a-z0-9+]*://[^/\s:@'\"]*:)([^\s'\"@]+)(?=@[^/\s@])"
)
"""With a slash that should have been encoded; in http a colon may come before a port and path."""
_DSN_PASSWORD = re.compile(
    r"(?i)(\b(?:\w*password|passwd|pwd|passphrase)\s*=\s*)"
    r"('(?:[^'\\]|\\.)*'|(?:\\.|[^\s;&'\",\\])+)"
)
_DSN_TO_BLANK = re.compile(r"(?i)\b(?:password|passwd|pwd|sslpassword)\s*=\s*([^\s']\S*)")
_PARAMETER = re.compile(r"([?&]([\w.~-]+)=)([^&\s#'\"]+)")
_AUTHORIZATION = re.compile(
    r"(?i)(authorization[\"'\\]*\s*[:=,]\s*[bB]?[\"'\\]*(?:(?:bearer|basic|token|apikey)\s+)?)"
    r"([^\s\"'\\,]+)"
)
_SCHEME = re.compile(r"(?i)(?:bearer|basic|token|apikey)\s+(\S.*)", re.DOTALL)

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_ENDINGS = ("password", "passwd", "passphrase", "secret", "token", "credential", "apikey")
_WORDS = {"pass", "pwd", "key", "auth", "authorization", "bearer", "private", "cookie", "jaas"}
_HARMLESS_KEYS = {"idempotency", "partition", "routing", "ordering", "message", "primary", "public"}
_SAYS_WHERE = {
    *("url", "uri", "host", "path", "file", "folder", "location", "name", "id", "type", "user"),
    *("username", "mode", "method", "mechanism", "template", "ttl", "timeout", "enabled"),
}
"""As the last word of a name: `TOKEN_URL` and `key_file` say where a secret is."""

_SECRET_KEY = re.compile(
    r"(?i)(?:^|[._-])(password|passwd|passphrase|secret|tokens?|api_?key|service_key|"
    r"access_key|private_key|credentials?|authorization)$"
)


def is_secret_key(name: str) -> bool:
    """Whether what is written out under a key of that name (`sasl.password`) is a secret."""
    return bool(_SECRET_KEY.search(name))


def is_secret_name(name: str) -> bool:
    """Whether a variable or parameter of that name (`STRIPE_KEY`, `authToken`) holds a secret."""
    words = [word.lower() for word in _WORD.findall(name)]
    if not words or words[-1] in _SAYS_WHERE:
        return False
    for before, word in zip(["", *words], words, strict=False):
        if word.rstrip("s").endswith(_ENDINGS):
            return True
        if word in _WORDS and not (word == "key" and before in _HARMLESS_KEYS):
            return True
    return False


def passwords_in(text: str) -> list[str]:
    """Return the passwords inside URLs and DSNs, as written and decoded."""
    found = [match[2] for match in _URL_PASSWORD.finditer(text)]
    found += [match[2] for match in _ODD_URL_PASSWORD.finditer(text)]
    found += [_unquoted(match[2]) for match in _DSN_PASSWORD.finditer(text)]
    found += [match[1] for match in _DSN_TO_BLANK.finditer(text)]
    found += [match[3] for match in _PARAMETER.finditer(text) if is_secret_name(match[2])]
    return list(dict.fromkeys([*found, *(unquote(password) for password in found)]))


def _unquoted(value: str) -> str:
    """Return a libpq value without its quotes and backslashes."""
    return re.sub(r"\\(.)", r"\1", value[1:-1] if value.startswith("'") else value)


class Secrets:
    """Remembers secrets and masks them in texts."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, value: str) -> None:
        """Remember a value: whole, each of its lines, and the passwords inside it."""
        scheme = _SCHEME.fullmatch(value.strip())
        parts = [value, value.strip(), *value.splitlines(), *passwords_in(value)]
        parts += [scheme[1]] if scheme else []
        for part in parts:
            for form in (part, quote(part, safe="")):
                if len(form) >= _SHORTEST and not form.isspace():
                    self._values.add(form)
        self._pattern = None

    def add_value(self, value: str) -> None:
        """Remember a value, or the passwords inside it where it is a URL or DSN that has any."""
        if passwords_in(value) and "\n" not in value:
            self.add_address(value)
        else:
            self.add(value)

    def add_address(self, value: str) -> None:
        """Remember the passwords inside a URL or DSN; the rest helps to find the server.

        One that is also the user's or the database's name hides nothing: it is masked in its
        place and not wherever that name is said. What libpq would say of an odd one is a part of
        it, so parts are remembered too.
        """
        for password in passwords_in(value):
            if value.count(password) > 1:
                continue
            self.add(password)
            for part in re.split(r"[\s/@:?#&='\"\\]+", password):
                if value.count(part) == 1:
                    self.add(part)

    def redact(self, text: str) -> str:
        """Return `text` with every remembered value, and every password in a URL, masked."""
        return self._masked(text, lambda _hidden: MASK)

    def redact_line(self, line: str) -> str:
        """Return a line of a flow file, masked to the same length so that carets still fit."""
        return self._masked(line, lambda hidden: "*" * len(hidden))

    def _masked(self, text: str, mask: Callable[[str], str]) -> str:
        def second(match: re.Match[str]) -> str:
            return match[1] + _unless_variable(match[2], mask)

        def parameter(match: re.Match[str]) -> str:
            return (
                match[1] + _unless_variable(match[3], mask)
                if is_secret_name(match[2])
                else match[0]
            )

        if self._values:
            if self._pattern is None:
                longest_first = sorted(self._values, key=lambda value: (-len(value), value))
                self._pattern = re.compile("|".join(map(re.escape, longest_first)))
            text = self._pattern.sub(lambda match: mask(match[0]), text)
        if "://" in text:
            text = _URL_PASSWORD.sub(second, text)
            text = _ODD_URL_PASSWORD.sub(second, text)
            text = _PARAMETER.sub(parameter, text)
        if "=" in text:
            text = _DSN_PASSWORD.sub(second, text)
        if "uthorization" in text or "UTHORIZATION" in text:
            text = _AUTHORIZATION.sub(second, text)
        return text

    def __repr__(self) -> str:
        return f"Secrets({len(self._values)} values)"


def _unless_variable(hidden: str, mask: Callable[[str], str]) -> str:
    """Mask a value; one that is `${NAME}` or masked already says nothing."""
    return hidden if hidden.startswith("${") or set(hidden) == {"*"} else mask(hidden)
