"""Logging of workers and supervisor: all of it through structlog to stderr, JSON or for a person.

Connectors and users' code log with structlog or with Python's own `logging`: the lines look alike.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Literal

import structlog

Level = Literal["debug", "info", "warning", "warn", "error"]

_OURS = ("connectors", "flows", "transforms", "schema_registry", "dlq", "backfill", "penstock")
_TALKATIVE = ("asyncio", "httpcore", "httpx", "sqlalchemy", "sqlglot", "urllib3", "uvicorn")
"""Libraries that log each request or statement below `warning`: never at a flow's level."""


def set_up_logging(
    level: Level, log_format: Literal["console", "json"], redact: Callable[[str], str]
) -> None:
    """Send every log line to stderr, redacted: `format` json for machines, console for people.

    `level` holds for our own code; other libraries begin at `info`, talkative ones at `warning`.
    """
    number = logging.WARNING if level == "warn" else getattr(logging, level.upper())

    def redacted(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        return {key: _masked(value, redact) for key, value in event.items()}

    before: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    shown: list[Any] = [structlog.processors.format_exc_info, redacted, _renderer(log_format)]
    structlog.configure(
        processors=[*before, *shown],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*before, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *shown],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.INFO))
    for name in _OURS:
        logging.getLogger(name).setLevel(number)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def _renderer(log_format: Literal["console", "json"]) -> Any:
    if log_format == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(),
        pad_event_to=0,
        # The stack is a text by then: masked as the rest.
        exception_formatter=structlog.dev.plain_traceback,
    )


def _masked(value: Any, redact: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return redact(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {key: _masked(inner, redact) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(inner, redact) for inner in value]
    return redact(str(value))
