"""A real SMTP server (aiosmtpd) and the postbox behind it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.policy import default
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from penstock.embedded.processes import free_port
from tests.transforms.steps.certificates import Authority


class Postbox:
    """Takes mails, unless a test's `refuse` or `recipient` answers something else."""

    def __init__(self):
        self.mails = []
        self.refuse = lambda mail: None
        self.recipient = lambda address: None

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
        answer = self.recipient(address)
        if answer is None:
            envelope.rcpt_tos.append(address)
        return answer or "250 OK"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        mail = message_from_bytes(envelope.content, policy=default)
        answer = self.refuse(mail)
        if answer is None:
            mail.envelope = (envelope.mail_from, list(envelope.rcpt_tos))
            self.mails.append(mail)
        return answer or "250 taken"


@contextmanager
def listening(postbox: Postbox, **options: Any) -> Iterator[Controller]:
    """Serve it on 127.0.0.1; `options` are the Controller's. A test may stop it before."""
    controller = Controller(postbox, hostname="127.0.0.1", port=free_port(), **options)
    controller.start()
    try:
        yield controller
    finally:
        if not controller.loop.is_closed():
            controller.stop()


def secured_by(authority: Authority, user: str, password: str) -> dict[str, Any]:
    """Return the options of a server that wants STARTTLS and this login."""

    def login(server, session, envelope, mechanism, data):
        good = (data.login, data.password) == (user.encode(), password.encode())
        return AuthResult(success=good, handled=False)

    return {
        "tls_context": authority.server_context(),
        "require_starttls": True,
        "authenticator": login,
        "auth_required": True,
    }
