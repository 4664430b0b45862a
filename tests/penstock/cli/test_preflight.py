"""Checks of servers: all at once, bounded in time, each failure with what to do."""

from __future__ import annotations

import threading

import pytest

from connectors.contracts import Check
from connectors.errors import FatalError, RetryableError
from flows.plan import load_flow
from penstock.cli.preflight import ModuleCheck, outcome, probes_of, run_probes

GOOD = Check("wal_level", ok=True, found="logical")
BAD = Check("topic", ok=False, found="missing", hint="Make it.")
AWAY = Check("connect", ok=False, found="refused", unreachable=True)
ODD = Check("identity", ok=False, found="nothing", severity="warning")


@pytest.mark.parametrize(
    ("checks", "code"),
    [
        ([], 0),
        ([GOOD], 0),
        ([GOOD, ODD], 0),
        ([GOOD, BAD], 1),
        ([BAD, AWAY], 3),
        ([AWAY], 3),
    ],
)
def test_the_exit_code_says_whether_a_check_failed_or_a_server_is_away(checks, code):
    assert outcome([ModuleCheck("m", check) for check in checks]) == code


def test_probes_run_at_the_same_time_and_keep_their_order():
    meet = threading.Barrier(3, timeout=30)

    def probe(check):
        def run():
            meet.wait()
            return [check]

        return run

    found = run_probes({"a": probe(GOOD), "b": probe(BAD), "c": probe(AWAY)}, 30.0)
    assert [(line.module, line.check) for line in found] == [("a", GOOD), ("b", BAD), ("c", AWAY)]


def test_a_probe_that_does_not_answer_fails_and_keeps_what_it_had_found():
    never = threading.Event()

    def stuck():
        yield GOOD
        never.wait(60)

    found = run_probes({"a": stuck}, 0.5)
    never.set()
    assert found[-1].check.found == "no answer within 0.5 s"
    assert outcome(found) == 3
    assert found[0].check == GOOD


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FatalError("refused.", code="postgres_auth", hint="Check the password."), 1),
        (FatalError("away.", code="x", hint="Check the password.", unreachable=True), 3),
        (RetryableError("locked.", code="x", hint="Check the password."), 3),
    ],
)
def test_an_error_of_a_probe_is_a_check_that_fails_with_its_hint(error, code):
    def fails():
        raise error

    found = run_probes({"a": fails, "b": lambda: [GOOD]}, 30.0)
    assert found[0].check.found == error.message
    assert found[0].check.hint == "Check the password."
    assert found[1].check == GOOD
    assert outcome(found) == code


def test_a_defect_of_one_connector_does_not_hide_the_checks_of_others():
    def breaks():
        raise KeyError("oops")

    found = run_probes({"a": breaks, "b": lambda: [GOOD]}, 30.0)
    assert "KeyError" in found[0].check.found
    assert found[1].check == GOOD
    assert outcome(found) == 1


def test_secrets_are_masked_in_what_is_shown():
    line = ModuleCheck("m", Check("connect", ok=False, found="as hunter2", hint="not hunter2?"))
    shown = line.redacted(lambda text: text.replace("hunter2", "***"))
    assert (shown.check.found, shown.check.hint) == ("as ***", "not ***?")


FLOW = """
modules:
  - { name: in, type: source.kafka, config: { brokers: "b:1", topics: [t] } }
  - { name: out, type: sink.stdout }
pipelines:
  orders:
    trigger: { source: in }
    steps:
      - { name: shape, type: step.jq, config: { expression: . } }
      - { name: rates, type: step.http_call, config: { url: "http://127.0.0.1:1/" } }
      - name: tier
        type: step.branch
        config:
          field: data.tier
          branches:
            gold: [{ name: save, type: step.db_exec, config: { database: "sqlite:///no.db", query: "DELETE FROM t" } }]
          default: [{ name: save, type: step.db_query, config: { database: "sqlite:///no.db", query: "SELECT 1" } }]
      - { name: publish, type: step.publish, config: { sink: out } }
"""


def test_steps_that_ask_servers_are_checked_wherever_they_stand(tmp_path):
    (tmp_path / "flow.yaml").write_text(FLOW)
    probes = probes_of(load_flow([tmp_path / "flow.yaml"], {}))
    asked = ["orders/rates", "orders/tier.save", "orders/tier.save (2)"]
    assert list(probes) == ["state", "in", "out", *asked]
    lines = run_probes({title: probes[title] for title in asked}, 30.0)
    assert [(line.module, line.check.name, line.check.ok) for line in lines] == [
        (title, "connect", False) for title in asked
    ]
    assert outcome(lines) == 3
