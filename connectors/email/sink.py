"""`sink.email`: a mail per event, by SMTP, over one connection."""

from __future__ import annotations

import contextlib
import smtplib
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence

from connectors.contracts import Check, Outgoing, SinkOpening, SinkTraits
from connectors.email.composing import Composer, Mail
from connectors.email.settings import EmailSink as EmailSinkSettings
from connectors.errors import FatalError, PenstockError, PermanentError, RetryableError
from connectors.rendering import context_of

_PORTS = {"starttls": 587, "tls": 465, "none": 25}
_REMEMBERED = 1000
_GOOD_BYE = 2.0
"""Seconds that a server may take to answer it; what it was sent before, it has confirmed."""
_IDLE = 60.0
"""Seconds after which a connection is made anew: servers close those that say nothing."""


class EmailSink:
    """The sink. Mails are sent on the dataflow's thread, one after the other."""

    traits = SinkTraits(ordered=False, delivery="at_least_once", embeds=True)

    def __init__(self, name: str, settings: EmailSinkSettings) -> None:
        self._name = name
        self._settings = settings
        self._composer: Composer
        self._server: smtplib.SMTP | None = None
        self._used = 0.0
        self._reached: dict[str, set[str]] = {}
        """Message-ID → who has it already, of mails that others are still to get."""

    def preflight(self, topics: Sequence[str]) -> Iterable[Check]:  # noqa: ARG002 - it has none
        """Connect and log in; send nothing."""
        try:
            server = self._connect()
        except PenstockError as error:
            away = isinstance(error, RetryableError)
            yield Check("server", ok=False, found=error.message, hint=error.hint, unreachable=away)
            return
        with contextlib.suppress(smtplib.SMTPException, OSError):
            server.quit()
        how = {"starttls": ", TLS", "tls": ", TLS", "none": ""}[self._settings.security]
        logged_in = ", logged in" if self._settings.username is not None else ""
        yield Check("server", ok=True, found=f"{self._settings.host} answers{how}{logged_in}")

    def open(self, opening: SinkOpening) -> None:
        """Compile the templates, connect and log in. Raises FatalError."""
        self._composer = Composer(self._settings, opening.compile_template)
        try:
            self._server = self._connect()
        except RetryableError as error:
            raise FatalError(
                error.message, code=error.code, hint=error.hint, unreachable=True
            ) from error

    def _connect(self) -> smtplib.SMTP:
        """Return a connection, logged in. Raises RetryableError, FatalError."""
        settings = self._settings
        host, port = settings.host or "", settings.port or _PORTS[settings.security]
        where = f"{host}:{port}"
        tls = self._tls()
        server: smtplib.SMTP | None = None
        try:
            if settings.security == "tls":
                server = smtplib.SMTP_SSL(host, port, timeout=settings.timeout, context=tls)
            else:
                server = smtplib.SMTP(host, port, timeout=settings.timeout)
            server.ehlo()
            if settings.security == "starttls":
                server.starttls(context=tls)
                server.ehlo()
            if settings.username is not None:
                server.login(settings.username, settings.password or "")
        except BaseException as error:
            if server is not None:
                server.close()
            if isinstance(error, (smtplib.SMTPException, OSError, ssl.SSLError)):
                raise _connecting_error(error, where) from error
            raise
        self._used = time.monotonic()
        return server

    def _tls(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self._settings.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise FatalError(
                f"the certificates of {self._settings.ca_file} can't be read: {error}.",
                code="email_refused",
                hint="It must be a PEM file that this user can read.",
            ) from error

    def deliver(self, events: Outgoing) -> Mapping[int, PenstockError]:
        """Send a mail per event, and wait until the server has taken it."""
        if not len(events):
            return {}
        attributes = events.attributes()
        failures: dict[int, PenstockError] = {}
        for index, value in enumerate(events.values):
            try:
                mail = self._composer.compose(context_of(attributes, value, index), time.time())
            except PermanentError as error:
                failures[index] = error
                continue
            try:
                self._send(mail)
            except (RetryableError, PermanentError, FatalError) as error:
                failures[index] = error
                if self._server is None:
                    # It is away, or refuses us: the others need not find that out one by one.
                    failures.update(
                        dict.fromkeys(
                            (k for k in range(index + 1, len(events)) if k not in failures), error
                        )
                    )
                    break
        return failures

    def _send(self, mail: Mail) -> None:
        """Send one mail. Raises PenstockError; the connection is gone where it can't go on."""
        known = str(mail.message["Message-ID"])
        reached = self._reached.get(known, set())
        recipients = [each for each in mail.recipients if each not in reached]
        fresh = self._server is None or time.monotonic() - self._used > _IDLE
        for again in (False, True):
            if fresh or again or self._server is None:
                self._drop()
                self._server = self._connect()
            try:
                refused = self._server.send_message(mail.message, mail.sender, recipients)
            except smtplib.SMTPServerDisconnected as error:
                # It may have been idle for too long; a server that hangs up twice means it.
                if again or fresh:
                    self._drop()
                    raise _away(error) from error
            except smtplib.SMTPRecipientsRefused as error:
                self._used = time.monotonic()
                raise _recipients_error(error.recipients) from error
            except smtplib.SMTPResponseException as error:
                self._used = time.monotonic()
                raise self._response_error(error) from error
            except (smtplib.SMTPException, UnicodeError, ValueError) as error:
                self._drop()
                raise PermanentError(
                    f"the mail can't be sent: {error}.",
                    code="email_message",
                    hint="The server lacks what the mail needs, such as addresses that are not ASCII.",
                ) from error
            except OSError as error:
                self._drop()
                raise _away(error) from error
            else:
                self._used = time.monotonic()
                break
        else:
            return
        if refused:
            # The others have it; when it is tried again they don't get it a second time.
            if len(self._reached) >= _REMEMBERED:
                self._reached.pop(next(iter(self._reached)))
            self._reached[known] = reached | (set(recipients) - set(refused))
            raise _recipients_error(refused)
        self._reached.pop(known, None)

    def _response_error(self, error: smtplib.SMTPResponseException) -> PenstockError:
        said = _said(error.smtp_error)
        if error.smtp_code == 421:
            self._drop()  # "closing transmission channel", RFC 5321 4.2.2
        if 400 <= error.smtp_code < 500:
            return RetryableError(
                f"the mail server answered {error.smtp_code}: {said}.",
                code="email_unavailable",
                hint="It is tried again.",
                status=error.smtp_code,
            )
        if error.smtp_code == 530 or isinstance(error, smtplib.SMTPAuthenticationError):
            self._drop()
            return FatalError(
                f"the mail server refused us: {error.smtp_code} {said}.",
                code="email_refused",
                hint="Check username and password.",
                status=error.smtp_code,
            )
        return PermanentError(
            f"the mail server refused the mail: {error.smtp_code} {said}.",
            code="email_message",
            hint="Check sender, size and content, then replay it.",
            status=error.smtp_code,
        )

    def _drop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def settled_state(self) -> Mapping[str, str] | None:
        """Return None: a mail can't be taken back."""
        return None

    def close(self) -> None:
        """Say good-bye to the server."""
        if self._server is not None:
            with contextlib.suppress(smtplib.SMTPException, OSError):
                if self._server.sock is not None:
                    self._server.sock.settimeout(_GOOD_BYE)
                self._server.quit()
            self._drop()


def _recipients_error(refused: Mapping[str, tuple[int, bytes]]) -> PenstockError:
    address, (status, text) = next(iter(refused.items()))
    later = [code for code, _ in refused.values() if code < 500]
    more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
    if later:
        return RetryableError(
            f"the mail server does not take mail for {address} yet{more}: {status} {_said(text)}.",
            code="email_unavailable",
            hint="It is tried again for those who have not got it.",
            status=status,
        )
    return PermanentError(
        f"the mail server refused the recipient {address}{more}: {status} {_said(text)}.",
        code="email_recipient",
        hint="Correct the address, then replay it; the mail's other recipients have got it.",
        status=status,
    )


def _connecting_error(error: BaseException, where: str) -> PenstockError:
    match error:
        case ssl.SSLCertVerificationError():
            return FatalError(
                f"the certificate of {where} is not trusted: {error.verify_message}.",
                code="email_refused",
                hint="Name its authority in `ca_file`, or correct `host`.",
            )
        case smtplib.SMTPNotSupportedError():
            return FatalError(
                f"{where} can't do it: {error}.",
                code="email_refused",
                hint="Check `security`, `port` and `username`.",
            )
        case smtplib.SMTPAuthenticationError() if error.smtp_code >= 500:
            return FatalError(
                f"{where} refused the login: {error.smtp_code} {_said(error.smtp_error)}.",
                code="email_refused",
                hint="Check username and password.",
            )
        case smtplib.SMTPResponseException() if error.smtp_code >= 500:
            return FatalError(
                f"{where} refused us: {error.smtp_code} {_said(error.smtp_error)}.",
                code="email_refused",
                hint="Check host, port and `security`.",
            )
    return RetryableError(
        f"{where} can't be reached: {error}.",
        code="email_unavailable",
        hint="It is tried again. Is the server running, and `port` right for `security`?",
    )


def _away(error: Exception) -> RetryableError:
    return RetryableError(
        f"the mail server went away: {error}.",
        code="email_unavailable",
        hint="The mail may have been taken; it is tried again, with the same Message-ID.",
    )


def _said(text: bytes | str) -> str:
    shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return " ".join(shown.split())[:200].rstrip(".")
