"""No command prints a password, whatever is wrong with the address it stands in."""

from __future__ import annotations

import json

import pytest

from penstock.cli.app import main

KAFKA = """
    type: sink.kafka
    config:
      brokers: ["127.0.0.1:1"]
      topic: t
      options: {security.protocol: SASL_PLAINTEXT, sasl.mechanism: PLAIN, sasl.username: u, sasl.password: hunter2-kafka}
"""
FILE = """
    type: sink.file
    config: {path: out.jsonl}
"""
"""Nothing is waited for."""

FLOW = f"""
version: 1
name: shop
state: {{url: "sqlite:///STATE"}}
modules:
  - name: rows
    type: source.postgres_cdc
    config: {{connection: "ADDRESS", slot_name: s, tables: [{{table: orders}}]}}
  - name: out{KAFKA}
pipelines:
  p:
    trigger: {{type: event, source: rows}}
    steps:
      - {{name: publish, type: step.publish, config: {{sink: out}}}}
"""


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://app:hunter2@127.0.0.1:1/shop",
        "postgresql://app:hunter2%20%40x@127.0.0.1:1/shop",
        "postgresql://app:hunter2/x@127.0.0.1:1/shop",
        "postgresql://app:x y hunter2@127.0.0.1:1/shop",
        "host=127.0.0.1 port=1 user=app password=hunter2",
        "host=127.0.0.1 port=1 user=app password='x hunter2'",
        "host=127.0.0.1 port=1 user=app password='hunter2",
        "host=127.0.0.1 port=1 user=app password=x hunter2",
        "hunter2",
    ],
)
@pytest.mark.parametrize("command", [["validate"], ["validate", "--connect"], ["explain"]])
def test_a_password_in_an_address_is_never_printed(command, address, tmp_path, capfd):
    flow = tmp_path / "flow.yaml"
    text = FLOW.replace("STATE", f"{tmp_path}/state.db").replace("ADDRESS", address)
    if "--connect" in command:  # the broker's own is in the last test
        text = text.replace(KAFKA, FILE)
    flow.write_text(text)
    main([*command, str(flow)])
    said = "".join(capfd.readouterr())
    assert said
    assert "hunter2" not in said


@pytest.mark.parametrize("command", [["state", "show"], ["dlq", "list"]])
@pytest.mark.parametrize(
    "url", ["postgresql://app:hunter2@127.0.0.1:1/shop", "postgresql://app:hunter2@127.0.0.1:x/y"]
)
def test_nor_one_in_a_state_url(command, url, capfd):
    assert main([*command, "--state", url]) in {2, 3, 4}
    said = "".join(capfd.readouterr())
    assert "error[" in said
    assert "hunter2" not in said


@pytest.mark.slow
def test_what_clients_log_while_servers_are_checked_is_not_in_the_answer(tmp_path, capfd):
    flow = tmp_path / "flow.yaml"
    address = "postgresql://app:hunter2@127.0.0.1:1/shop"
    flow.write_text(FLOW.replace("STATE", f"{tmp_path}/state.db").replace("ADDRESS", address))
    assert main(["validate", "--connect", "-o", "json", str(flow)]) == 3
    answer = capfd.readouterr()
    assert json.loads(answer.out)["ok"] is False
    assert "hunter2" not in answer.out
    assert answer.err == ""
