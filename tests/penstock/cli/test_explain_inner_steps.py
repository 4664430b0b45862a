"""`penstock explain` shows the steps inside steps, and counts what they do outside."""

from __future__ import annotations

import json

from penstock.cli.app import main

FLOW = """
modules:
  - {name: jobs, type: source.kafka, config: {brokers: "127.0.0.1:9092", topics: [t]}}
  - {name: out, type: sink.webhook, config: {url: "http://127.0.0.1:1/"}}
pipelines:
  p:
    trigger: {source: jobs}
    steps:
      - name: lines
        type: step.foreach
        config:
          collection: data.items
          steps:
            - name: charge
              type: step.http_call
              if: ".item.total > 0"
              timeout: 2s
              config: {url: "http://x/{{ .item.sku }}", method: POST}
            - {name: send, type: step.publish}
      - name: tier
        type: step.branch
        config:
          field: data.tier
          branches: {gold: [{name: book, type: step.python, config: {function: "m:f", effect: true}}]}
"""


def explained(tmp_path, capsys, *arguments):
    (tmp_path / "flow.yaml").write_text(FLOW)
    assert main(["explain", str(tmp_path / "flow.yaml"), *arguments]) == 0
    return capsys.readouterr().out


def test_the_tree_has_them_with_their_expressions_and_promises(tmp_path, capsys):
    out = explained(tmp_path, capsys)
    assert "charge  step.http_call (changes something outside; given up on after 2s)" in out
    assert "if: .item.total > 0" in out
    assert "url: http://x/{{ .item.sku }}" in out
    assert "branches.gold" in out
    assert "published to by p/lines.send" in out
    assert "by lines.send: at least once" in out
    assert "lines.charge, tier.book, lines.send act a second time" in out


def test_as_json_they_stand_in_their_lists(tmp_path, capsys):
    (pipeline,) = json.loads(explained(tmp_path, capsys, "-o", "json"))["pipelines"]
    lines, tier = pipeline["steps"]
    assert [step["name"] for step in lines["inner"]["steps"]] == ["charge", "send"]
    assert lines["effect"] is True
    assert lines["inner"]["steps"][0]["timeout"] == 2.0
    assert [one["key"] for one in lines["expressions"]] == ["collection"]
    assert tier["inner"]["branches.gold"][0]["effect"] is True
