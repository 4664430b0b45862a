"""`penstock executions`, as its user types it, over what a real run has recorded."""

from __future__ import annotations

import json

import pytest

from penstock.cli.app import main
from tests.dlq.shelf import Shelf
from tests.transforms.steps.answering import serving


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Ten events that were run by the flow's own workers: 4 is refused for good, 6 at first."""
    with serving() as service:
        made = Shelf(tmp_path_factory.mktemp("flow"), service)
        made.write_flow(
            made.look(),
            made.call(retry={"max_attempts": 2, "initial_delay": "10ms", "retry_on": [422]}),
        )
        refused = []

        def refuses(path, number):
            refused.append((path, number))
            if path != "call":
                return False
            return number == 4 or (number == 6 and refused.count(("call", 6)) == 1)

        made.refuses = refuses
        made.fill(10)
        made.replay("--all", "--yes")
        yield made
        made.flow.end()


@pytest.fixture
def cli(shelf, capsys):
    def run(*arguments, code=0):
        ended = main(["executions", *arguments, str(shelf.flow.path)])
        told = capsys.readouterr()
        assert ended == code, told.out + told.err
        return told.out

    def read(*arguments, code=0):
        return json.loads(run(*arguments, "-o", "json", code=code))

    run.json = read
    return run


def listed(cli, *arguments):
    return cli.json("list", *arguments)["executions"]


def test_a_list_has_what_ran(cli):
    rows = listed(cli)
    assert len(rows) == 10
    assert {row["status"] for row in rows} == {"completed", "failed"}
    (failed,) = listed(cli, "--status", "failed", "--pipeline", "ship")
    assert (failed["event_id"], failed["step"]) == ("e4", "call")
    assert failed["error"]["code"] == "http_status"
    lines = cli("list", "--limit", "3").splitlines()
    assert lines[0].split("\t")[:3] == ["ENDED", "PIPELINE", "STATUS"]
    assert len(lines) == 5
    cursor = lines[-1].removeprefix("More: --cursor ")
    rest = listed(cli, "--cursor", cursor)
    assert len(rest) == 7
    assert cli("list", "--type", "nothing") == "No executions.\n"


def test_jq_finds_events(cli):
    (found,) = listed(cli, "--where", ".data.n == 7")
    assert found["event_id"] == "e7"


def test_an_execution_is_shown_with_all_that_is_kept(cli):
    (row,) = listed(cli, "--where", ".data.n == 2")
    shown = cli.json("show", row["id"])
    assert shown["event"]["data"] == {"n": 2, "key": "k2"}
    assert shown["outputs"]["call"] == {"n": 2, "big": 9007199254740993}
    text = cli("show", row["id"])
    assert f"id:           {row['id']}" in text
    assert '"big": 9007199254740993' in text


def test_a_timeline_tells_steps_and_tries(cli):
    (row,) = listed(cli, "--where", ".data.n == 6")
    shown = cli.json("timeline", row["id"])
    look, call, write = shown["steps"]
    assert (look["status"], call["status"], write["status"]) == ("completed",) * 3
    assert call["attempts"] == 2
    assert call["retries"][0]["code"] == "http_status"
    assert call["input"]["url"].endswith("/call")
    assert call["duration_ms"] > 0
    assert look["started_at"] is not None
    text = cli("timeline", row["id"])
    assert "try at" in text
    assert "█" in text
    events = cli.json("timeline", row["id"], "--events")["events"]
    assert "retry.attempted" in [each["event_type"] for each in events]
    assert "retry.attempted" in cli("timeline", row["id"], "--events")


def test_two_executions_are_compared(cli):
    (good,) = listed(cli, "--where", ".data.n == 2")
    (bad,) = listed(cli, "--status", "failed")
    shown = cli.json("diff", good["id"], bad["id"], code=1)
    assert shown["summary"]["right_status"] == "failed"
    text = cli("diff", good["id"], bad["id"], code=1)
    assert "right_failed" in text
    assert cli.json("diff", good["id"], good["id"])["summary"]["steps_different"] == 0


@pytest.mark.parametrize(
    "arguments",
    [("show", "00000000"), ("timeline", "not-an-id"), ("diff", "0199f2a1", "0199f2a2")],
)
def test_what_is_not_there_is_told(cli, arguments):
    cli(*arguments, code=2)


def test_the_flow_file_in_the_place_of_the_id_is_noticed(capsys):
    assert main(["executions", "show", "shop.yaml"]) == 2
    assert "is a flow file" in capsys.readouterr().err


def test_what_ran_becomes_a_test_that_passes(shelf, cli, tmp_path):
    ids = [row["id"] for row in listed(cli)]
    file = tmp_path / "regression.test.yaml"
    cli("export", *ids, "--as-test", "--to", str(file))
    assert "mocks:" in file.read_text()
    calls = len(shelf.service.seen)
    tested = shelf.flow.penstock("test", str(file))
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "10 passed" in tested.stdout
    assert len(shelf.service.seen) == calls
    cli("export", ids[0], "--as-test", "--to", str(file), code=2)


def test_what_is_kept_is_written_as_json_lines(cli):
    ids = [row["id"] for row in listed(cli, "--limit", "2")]
    lines = [json.loads(line) for line in cli("export", *ids).splitlines()]
    assert [line["id"] for line in lines] == ids
