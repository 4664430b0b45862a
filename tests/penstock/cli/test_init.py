"""`penstock init`: what it writes validates, and it never overwrites by itself."""

from __future__ import annotations

from typing import get_args

import pytest

from flows.plan import load_flow, not_built
from penstock.cli import init as command
from penstock.cli.app import main
from penstock.cli.flow_parts import SINKS as SINK_PARTS
from penstock.cli.flow_parts import SinkKind, SourceKind

SOURCES, SINKS = get_args(SourceKind), get_args(SinkKind)
PAIRS = [(source, "stdout") for source in SOURCES] + [("kafka", sink) for sink in SINKS]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("DATABASE_URL", "KAFKA_BROKERS", "WEBHOOK_URL", "PENSTOCK_STATE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(("source", "sink"), PAIRS)
def test_every_combination_loads_and_can_be_run(source, sink, folder, capsys):
    path = folder / "my shop.yaml"
    assert main(["init", str(path), "--source", source, "--sink", sink]) == 0
    plan = load_flow([path])
    assert plan.name == "my-shop"
    assert not_built(plan) == []
    assert [pipeline.name for pipeline in plan.sources[0].pipelines] == ["my-shop"]
    assert f"type: {plan.sinks[0].type}" in SINK_PARTS[sink].module
    assert "penstock validate" in capsys.readouterr().out


@pytest.mark.parametrize(("source", "sink"), PAIRS)
def test_the_test_that_is_written_beside_it_passes(source, sink, folder, capsys):
    assert main(["init", "shop.yaml", "--source", source, "--sink", sink]) == 0
    assert "penstock test shop.yaml" in capsys.readouterr().out
    assert main(["test", "shop.yaml"]) == 0
    assert capsys.readouterr().out.startswith("ok    an event is shaped and published\n1 passed")


@pytest.mark.parametrize(
    ("source", "sink", "types"),
    [
        ("postgres_cdc", "stdout", ("source.postgres_cdc", "sink.stdout")),
        ("source.postgres_cdc", "sink.kafka", ("source.postgres_cdc", "sink.kafka")),
        ("source.postgres", "Kafka", ("source.postgres_cdc", "sink.kafka")),
        ("source.kafka", "sink.webhook", ("source.kafka", "sink.webhook")),
        ("messaging.kafka", "messaging.kafka", ("source.kafka", "sink.kafka")),
    ],
)
def test_a_type_as_flows_write_it_does_as_well(source, sink, types, folder):
    assert main(["init", "shop.yaml", "--source", source, "--sink", sink]) == 0
    plan = load_flow([folder / "shop.yaml"])
    assert (plan.sources[0].type, plan.sinks[0].type) == types


def test_a_choice_that_is_not_there_is_answered_with_those_that_are(folder, capsys):
    assert main(["init", "shop.yaml", "--source", "kinesis"]) == 2
    assert f"'kinesis' is not one of {', '.join(SOURCES)}." in capsys.readouterr().err
    assert list(folder.iterdir()) == []


def test_a_test_file_that_exists_is_left_alone_unless_forced(folder, capsys):
    tests = folder / "flow.test.yaml"
    tests.write_text("precious")
    assert main(["init"]) == 0
    assert tests.read_text() == "precious"
    assert main(["init", "--force"]) == 0
    assert main(["test", "flow.yaml"]) == 0


@pytest.mark.parametrize("sink", SINKS)
def test_what_is_written_passes_validate_and_explain(sink, folder, capsys):
    assert main(["init", "shop.yaml", "--sink", sink]) == 0
    assert main(["validate", "shop.yaml"]) == 0
    assert "ok: shop has 1 source, 1 sink, 1 pipeline and 2 steps." in capsys.readouterr().out
    assert main(["explain", "shop.yaml"]) == 0


@pytest.mark.parametrize(("source", "sink"), PAIRS)
def test_every_line_is_commented_or_short_enough_to_read(source, sink, folder):
    main(["init", "--source", source, "--sink", sink])
    text = (folder / "flow.yaml").read_text()
    assert max(len(line) for line in text.splitlines()) <= 100
    assert text.count("#") >= 15


def test_the_name_is_given_or_the_files(folder, capsys):
    main(["init", "a.yaml"])
    main(["init", "b.yaml", "--name", "Wëird Näme!"])
    assert load_flow([folder / "a.yaml"]).name == "a"
    assert load_flow([folder / "b.yaml"]).name == "w-ird-n-me"


def test_a_file_that_exists_is_left_alone_unless_forced(folder, capsys):
    path = folder / "flow.yaml"
    path.write_text("precious")
    assert main(["init"]) == 2
    printed = capsys.readouterr().err
    assert "error[file_exists]: flow.yaml exists already." in printed
    assert "--force" in printed
    assert path.read_text() == "precious"
    assert main(["init", "--force"]) == 0
    assert load_flow([path]).name == "flow"


def test_a_folder_or_a_missing_folder_is_answered_with_what_to_type(folder, capsys):
    assert main(["init", str(folder)]) == 2
    assert f"penstock init {folder / 'flow.yaml'}" in capsys.readouterr().err
    assert main(["init", "no/such/flow.yaml"]) == 2
    assert "mkdir -p no/such" in capsys.readouterr().err


def test_on_a_terminal_it_asks_until_it_understands(monkeypatch, capsys):
    answers = iter(["kinesis", "KAF", ""])
    asked = []

    def answer(question):
        asked.append(question)
        return next(answers)

    monkeypatch.setattr("builtins.input", answer)
    found = [
        command._choose("From?", SOURCES, "postgres", True),
        command._choose("To?", SINKS, "stdout", True),
    ]
    assert found == ["kafka", "stdout"]
    assert asked[0] == f"From? ({', '.join(SOURCES)}) [postgres]: "
    assert f"One of: {', '.join(SOURCES)}." in capsys.readouterr().out


def test_the_end_of_input_at_a_question_is_an_interrupt(monkeypatch, capsys, folder):
    def ends(_question):
        raise EOFError

    class Terminal:
        def isatty(self):
            return True

    monkeypatch.setattr("builtins.input", ends)
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["init"]) == 130
    assert list(folder.iterdir()) == []
