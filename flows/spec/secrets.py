"""Which texts no error, log or page may show, and how they are masked."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

MASK = "***"

_SHORTEST = 4
"""Shorter values are left alone: masking every `on` or `5` would make a log unreadable."""

_URL_PASSWORD = re.compile(r"(?<=://)([^/\s:@'\"]*):([^/\s'\"]+)@(?=[^/\s@])")
_DSN_PASSWORD = re.compile(
    r"(?i)\b(?:password|passwd|pwd|sslpassword)\s*=\s*('(?:[^'\\]|\\.)*'|[^\s;&'\"]+)"
)

_SECRET_KEY = re.compile(
    r"(?i)(?:^|[._-])(password|passwd|passphrase|secret|tokens?|api_?key|service_key|"
    r"access_key|private_key|credentials?)$"
)


def is_secret_key(name: str) -> bool:
    """Whether a key of that name (`sasl.password`, `api_key`) holds a secret."""
    return bool(_SECRET_KEY.search(name))


def passwords_in(text: str) -> list[str]:
    """Return the passwords inside URLs and DSNs, as written and decoded."""
    found = [match[2] for match in _URL_PASSWORD.finditer(text)]
    found += [match[1].strip("'") for match in _DSN_PASSWORD.finditer(text)]
    return list(dict.fromkeys([*found, *(unquote(password) for password in found)]))


class Secrets:
    """Remembers secrets and masks them in texts."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, value: str) -> None:
        """Remember a value: whole, each of its lines, and the passwords inside it."""
        for part in (value, value.strip(), *value.splitlines(), *passwords_in(value)):
            for form in (part, quote(part, safe="")):
                if len(form) >= _SHORTEST and not form.isspace():
                    self._values.add(form)
        self._pattern = None

    def add_address(self, value: str) -> None:
        """Remember the passwords inside a URL or DSN; the rest helps to find the server."""
        for password in passwords_in(value):
            self.add(password)

    def redact(self, text: str) -> str:
        """Return `text` with every remembered value, and every password in a URL, masked."""
        if self._values:
            if self._pattern is None:
                longest_first = sorted(self._values, key=lambda value: (-len(value), value))
                self._pattern = re.compile("|".join(map(re.escape, longest_first)))
            text = self._pattern.sub(MASK, text)
        if "://" in text:
            text = _URL_PASSWORD.sub(rf"\1:{MASK}@", text)
        return text

    def redact_line(self, line: str) -> str:
        """Return a line of a flow file, masked to the same length so that carets still fit."""
        if self.redact(line) == line:
            return line
        for value in sorted(self._values, key=len, reverse=True):
            line = line.replace(value, "*" * len(value))
        return _URL_PASSWORD.sub(lambda m: f"{m[1]}:{'*' * len(m[2])}@", line)

    def __repr__(self) -> str:
        return f"Secrets({len(self._values)} values)"
