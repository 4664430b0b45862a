"""`penstock backfill`, as its user types it."""

from __future__ import annotations

import json

import pytest

from penstock.cli.app import main
from tests.backfill.past import SHOP, at, orders


@pytest.mark.slow
def test_a_shadow_is_planned_started_followed_and_reported(past, capsys, tmp_path):
    past.record(orders(0, 50), orders(50, 100))
    newer = past.flow("newer.yaml", SHOP.replace("n: .data.n", "n: (.data.n + 0.5)"))
    asked = ["--pipeline", "price", "--from", at(0), "--to", at(50), "--with", str(newer)]
    assert main(["backfill", "plan", str(past.path), *asked]) == 0
    plan = capsys.readouterr().out
    assert "dry_run of price over" in plan
    assert "50 events" in plan
    page = tmp_path / "report.html"
    told = ["--mode", "shadow", "--html", str(page), "--fail-on", "different"]
    assert main(["backfill", "start", str(past.path), *asked, *told]) == 1
    text = capsys.readouterr().out
    assert "n: number changed" in text
    assert "e.g. " in text
    assert "50 of 50 executions" in page.read_text()
    assert main(["backfill", "report", "1", str(past.path), "-o", "json"]) == 0
    report = json.loads(capsys.readouterr().out)["report"]
    assert report["comparison"]["executions"]["different"] == 50
    assert main(["backfill", "list", str(past.path)]) == 0
    assert "shadow" in capsys.readouterr().out
    assert main(["backfill", "status", "1", str(past.path)]) == 0
    assert "is done: 50 of 50 events" in capsys.readouterr().out
    assert main(["backfill", "cancel", "1", str(past.path)]) == 2
    assert "backfill_over" in capsys.readouterr().err


def test_mistakes_on_the_command_line_say_what_to_write(past, capsys):
    start = ["backfill", "start", str(past.path), "--pipeline", "price", "--from"]
    assert main([*start, "yesterday"]) == 2
    assert "--from" in capsys.readouterr().err
    assert main([*start, "1d", "--filter", "[1]"]) == 2
    assert "JSON object" in capsys.readouterr().err
    assert main([*start, "1d", "--where", ".a", "--type", "b"]) == 2
    assert "--where is the whole filter" in capsys.readouterr().err
    assert main([*start, "1d", "--mode", "live", "--offline"]) == 2
    assert "offline" in capsys.readouterr().err
