"""Makes a mail of an event. Pure but for the clock, which is given."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, getaddresses
from hashlib import blake2b
from typing import Any

from connectors.email.settings import EmailSink
from connectors.errors import PermanentError
from connectors.rendering import Render, compiled, escaped

_ADDRESS = re.compile(r"[^\s@<>,;:\"()\[\]\\]+@[^\s@<>,;:\"()\[\]\\]+")


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail, and whom it goes to: those of bcc too, who are in none of its headers."""

    sender: str
    recipients: tuple[str, ...]
    message: EmailMessage


class Composer:
    """Renders the templates of a sink."""

    def __init__(
        self, settings: EmailSink, compile_template: Callable[[str], Render] | None
    ) -> None:
        """Compile them. Raises FatalError when they need a compiler and there is none."""

        def one(text: str | None) -> Render | None:
            return None if text is None else compiled(text, compile_template)

        self._sender = compiled(settings.sender, compile_template)
        self._subject = compiled(settings.subject, compile_template)
        self._to = [compiled(text, compile_template) for text in settings.to]
        self._cc = [compiled(text, compile_template) for text in settings.cc]
        self._bcc = [compiled(text, compile_template) for text in settings.bcc]
        self._reply_to = one(settings.reply_to)
        self._text, self._html = one(settings.text), one(settings.html)

    def compose(self, context: Mapping[str, Any], now: float) -> Mail:
        """Return the mail. Raises PermanentError for what can't be in one."""
        senders = _addresses("from", [self._sender], context)
        if len(senders) != 1:
            raise _wrong("from", f"{len(senders)} addresses")
        sender = senders[0]
        to = _addresses("to", self._to, context)
        cc = _addresses("cc", self._cc, context)
        bcc = _addresses("bcc", self._bcc, context)
        if not to and not cc and not bcc:
            raise _wrong("to", "no address")
        message = EmailMessage(policy=SMTP)
        message["From"] = sender
        if to:
            message["To"] = to
        if cc:
            message["Cc"] = cc
        if self._reply_to is not None:
            message["Reply-To"] = _addresses("reply_to", [self._reply_to], context)
        message["Subject"] = _one_line("subject", self._subject(context))
        message["Date"] = formatdate(now)
        message["Message-ID"] = f"<{_id_of(context)}@{sender.domain}>"
        message["Auto-Submitted"] = "auto-generated"
        shown = None if self._html is None else self._html(escaped(dict(context), html.escape))
        if self._text is not None:
            message.set_content(self._text(context))
            if shown is not None:
                message.add_alternative(shown, subtype="html")
        elif shown is not None:
            message.set_content(shown, subtype="html")
        everyone = dict.fromkeys(each.addr_spec for each in (*to, *cc, *bcc))
        return Mail(sender.addr_spec, tuple(everyone), message)


def _addresses(name: str, templates: Sequence[Render], context: Mapping[str, Any]) -> list[Address]:
    """Return the addresses that templates render to; one may give several, or none."""
    found = []
    for render in templates:
        text = _one_line(name, render(context)).strip()
        if not text:
            continue
        for shown, address in getaddresses([text]):
            if not _ADDRESS.fullmatch(address):
                raise _wrong(name, "an address that is none")
            user, _, domain = address.rpartition("@")
            found.append(Address(shown, user, domain))
    return found


def _one_line(name: str, text: str) -> str:
    """Return the text. Raises PermanentError for one that would begin another header."""
    if any(character in text for character in "\r\n\0"):
        raise _wrong(name, "a line break")
    return text


def _wrong(name: str, what: str) -> PermanentError:
    return PermanentError(
        f"the event renders {what} into `{name}`.",
        code="email_address" if name != "subject" else "email_header",
        hint="Correct the template or the event, then replay it.",
        field=name,
    )


def _id_of(context: Mapping[str, Any]) -> str:
    """Return what is the same whenever the event is delivered again: servers and readers go by it."""
    known = f"{context.get('source', '')}\0{context.get('id', '')}"
    return blake2b(known.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
