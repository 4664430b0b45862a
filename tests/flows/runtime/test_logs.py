"""One log: whatever library a line comes from, it has one shape, one level, and no secret."""

from __future__ import annotations

import json
import logging

import pytest
import structlog

from connectors.kafka.cluster import CLIENT_LOG
from flows.runtime.logs import set_up_logging


@pytest.fixture(autouse=True)
def as_before():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("connectors", "flows", "transforms", "httpx", "penstock"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    structlog.reset_defaults()


def set_up(level="info", log_format="json"):
    set_up_logging(level, log_format, lambda text: text.replace("hunter2", "***"))


def lines(capfd):
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


def test_a_connectors_standard_logging_comes_out_as_the_runtimes_own(capfd):
    set_up()
    logging.getLogger("connectors.postgres_cdc.feed").warning("the slot %s is gone", "shop")
    structlog.get_logger("penstock.worker").warning("the slot shop is gone")
    first, second = lines(capfd)
    assert first["event"] == second["event"] == "the slot shop is gone"
    assert first["level"] == second["level"] == "warning"
    assert first["timestamp"][:4].isdigit()
    assert first["logger"] == "connectors.postgres_cdc.feed"


def test_every_line_is_masked_exceptions_and_nested_fields_too(capfd):
    set_up()
    logging.getLogger("my_steps").warning("the password is %s", "hunter2")
    structlog.get_logger().info("event", fields={"deep": ["hunter2"]}, where=("hunter2",))
    try:
        raise ValueError("hunter2")
    except ValueError:
        logging.getLogger("connectors.x").exception("it broke")
        structlog.get_logger().exception("it broke")
    text = capfd.readouterr().err
    assert "hunter2" not in text
    assert text.count("ValueError: ***") == 2


def test_on_a_console_exceptions_are_masked_as_well(capfd):
    set_up(log_format="console")
    try:
        raise ValueError("hunter2")
    except ValueError:
        logging.getLogger("connectors.x").exception("it broke")
        structlog.get_logger().exception("it broke")
    text = capfd.readouterr().err
    assert "hunter2" not in text
    assert text.count("ValueError: ***") == 2


@pytest.mark.parametrize(
    ("level", "shown"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)]
)
def test_the_flows_level_holds_for_both(level, shown, capfd):
    set_up(level)
    own = logging.getLogger("connectors.kafka")
    for name in ("debug", "info", "warning", "error"):
        getattr(own, name)("from a connector")
        getattr(structlog.get_logger("penstock.worker"), name)("from the runtime")
    events = [line["event"] for line in lines(capfd)]
    assert events.count("from a connector") == events.count("from the runtime") == shown


def test_debug_does_not_let_the_libraries_flood_the_log(capfd):
    set_up("debug")
    logging.getLogger("httpx").info("HTTP Request: GET http://127.0.0.1")
    logging.getLogger("httpcore.http11").debug("send_request_headers.started")
    logging.getLogger("asyncio").debug("Using selector: EpollSelector")
    logging.getLogger("sqlalchemy.engine").info("BEGIN")
    assert lines(capfd) == []


def test_a_users_own_module_logs_from_info_on(capfd):
    set_up("info")
    logging.getLogger("my_steps").info("hello")
    assert [line["event"] for line in lines(capfd)] == ["hello"]


def test_what_librdkafka_says_follows_its_own_severity(capfd):
    set_up("info")
    CLIENT_LOG.log(logging.DEBUG, "%s", "polling")
    CLIENT_LOG.log(logging.INFO, "FAIL [%s] %s", "a", "Connection refused")
    CLIENT_LOG.log(logging.ERROR, "%s", "1/1 brokers are down")
    assert lines(capfd) == []
    set_up("debug")
    CLIENT_LOG.log(logging.ERROR, "%s", "1/1 brokers are down")
    (line,) = lines(capfd)
    assert line["line"] == "1/1 brokers are down"
