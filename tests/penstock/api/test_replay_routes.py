"""Replays asked for over HTTP: recorded, taken once, run by the flow's workers."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from dlq.archive import import_lines
from tests.flows.runtime.running import cdc_source, file_sink, pipeline, publish, step, wait_for
from tests.flows.state.samples import commit, letter, settlement
from tests.penstock.api.served import client_of, problem, serving

ALL = "/api/v1/dlq/pipelines/enrich/replay-all"


def event(total):
    head = '{"specversion":"1.0","id":"e","source":"/s","type":"order.created","data":'
    return f'{head}{{"total":{total}}}}}'


@pytest.fixture
def letters(store, lease):
    made = [
        letter(n, event=event(n), error_code=f"code_{n % 2}", event_type=f"order.{n % 3}")
        for n in range(1, 7)
    ]
    commit(store, lease, [settlement(letters=made, failed=6)])
    return made


def path_of(one):
    return f"/api/v1/dlq/pipelines/{one.pipeline}/{one.id}"


def test_one_is_replayed_once(served, letters, store):
    first = letters[0]
    answer = served.client.post(f"{path_of(first)}/replay", json={"rate": "50/s"})
    assert answer.status_code == 202
    replay = answer.json()
    assert (replay["total"], replay["status"], replay["rate"]) == (1, "running", 50.0)
    assert replay["created_by"] == "somebody (API)"
    assert served.client.get(path_of(first)).json()["status"] == "replaying"
    again = served.client.post(f"{path_of(first)}/replay")
    assert problem(again) == (409, "dead_letter_replaying")
    assert str(replay["id"]) in again.json()["detail"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (None, 6),
        ({}, 6),
        ({"error": "code_1"}, 3),
        ({"type": "order.[12]", "error": "code_0"}, 2),
        ({"where": ".data.total > 4"}, 2),
        ({"until": "1970-01-01T00:16:43Z"}, 2),
        ({"since": "1h"}, 0),
        ({"step": "charge", "tenant": "default"}, 6),
        ({"step": "other"}, 0),
    ],
)
def test_all_that_the_conditions_find_are_replayed(served, letters, body, expected):
    answer = served.client.post(ALL, json=body) if body is not None else served.client.post(ALL)
    assert answer.status_code == 202, answer.text
    assert answer.json()["total"] == expected
    query = {"status": "replaying"}
    page = served.client.get("/api/v1/dlq/pipelines/enrich", params=query).json()
    assert len(page["dead_letters"]) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"error": "code_1"}, 3),
        ({"type": "order.[12]"}, 4),
        ({"where": ".data.total > 4"}, 2),
        ({"since": "1970-01-01T00:16:44Z", "until": "1h"}, 3),
        ({"status": "waiting"}, 6),
    ],
)
def test_the_list_takes_the_same_conditions(served, letters, query, expected):
    answer = served.client.get("/api/v1/dlq/pipelines/enrich", params=query)
    assert len(answer.json()["dead_letters"]) == expected, answer.text


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"edit": ".a |"}, "body.edit"),
        ({"where": "no such"}, "body.where"),
        ({"rate": "0/s"}, "body.rate"),
        ({"rate": 5}, "body.rate"),
        ({"since": "yesterday"}, "body.since"),
        ({"eror": "code_1"}, "body.eror"),
        ([], "body"),
    ],
)
def test_a_wish_that_can_not_be_read_replays_nothing(served, letters, body, place):
    answer = served.client.post(ALL, json=body)
    assert problem(answer) == (422, "request_invalid")
    assert [each["place"] for each in answer.json()["errors"]] == [place]
    assert served.client.get("/api/v1/dlq/replays").json()["replays"] == []


def test_a_body_that_is_no_json_is_refused(served, letters):
    headers = {"Content-Type": "application/json"}
    answer = served.client.post(ALL, content=b"{", headers=headers)
    assert problem(answer) == (400, "json_invalid")
    answer = served.client.post(ALL, content=b"error=code_1")
    assert problem(answer) == (415, "media_type")
    large = b'{"where": "' + b" " * (1 << 20) + b'"}'
    answer = served.client.post(ALL, content=large, headers=headers)
    assert problem(answer) == (413, "body_too_large")


def test_an_edit_that_fails_for_one_of_them_replays_none(served, letters):
    answer = served.client.post(ALL, json={"edit": "if .total == 3 then error else . end"})
    assert problem(answer) == (422, "edit_failed")
    (replay,) = served.client.get("/api/v1/dlq/replays").json()["replays"]
    assert replay["status"] == "cancelled"
    page = served.client.get("/api/v1/dlq/pipelines/enrich?status=waiting").json()
    assert len(page["dead_letters"]) == 6


def test_statistics_group_what_failed_alike(served, letters):
    shown = served.client.get("/api/v1/dlq/stats").json()
    assert shown["total"] == 6
    groups = {(each["step"], each["error_code"]): each for each in shown["groups"]}
    assert {name: each["count"] for name, each in groups.items()} == {
        ("charge", "code_0"): 3,
        ("charge", "code_1"): 3,
    }
    assert sum(groups["charge", "code_1"]["histogram"]) == 3
    assert groups["charge", "code_1"]["sample"]["id"] == letters[4].id
    some = served.client.get("/api/v1/dlq/stats?pipeline=enrich&error=code_1&type=order.1").json()
    assert [each["count"] for each in some["groups"]] == [1]
    assert served.client.get("/api/v1/dlq/stats?pipeline=audit").json()["groups"] == []
    answer = served.client.get("/api/v1/dlq/stats?pipeline=enrch")
    assert problem(answer) == (404, "unknown_pipeline")


def test_statistics_count_what_jq_chooses(served, letters):
    def counted(where, **more):
        shown = served.client.get("/api/v1/dlq/stats", params={"where": where, **more}).json()
        assert shown["complete"]
        return {each["error_code"]: each["count"] for each in shown["groups"]}

    totals = [json.loads(letter.event)["data"]["total"] for letter in letters]
    assert sum(counted(f".data.total > {totals[3]}").values()) == 2
    assert counted("true") == {"code_0": 3, "code_1": 3}
    assert counted("true", error="code_1", pipeline="enrich") == {"code_1": 3}
    assert counted("false") == {}
    answer = served.client.get("/api/v1/dlq/stats", params={"where": "(("})
    assert problem(answer) == (422, "request_invalid")
    assert [each["place"] for each in answer.json()["errors"]] == ["query.where"]


def test_what_is_discarded_is_in_the_archive_first_and_can_be_brought_back(
    served, letters, store, tmp_path
):
    first = letters[0]
    answer = served.client.delete(path_of(first))
    assert answer.status_code == 200, answer.text
    archive = Path(answer.json()["archive"])
    assert archive.parent == tmp_path / "dead-letter-archive"
    assert problem(served.client.get(path_of(first))) == (404, "dead_letter_unknown")
    assert problem(served.client.delete(path_of(first))) == (404, "dead_letter_unknown")
    served.client.delete(path_of(letters[1]))
    lines = archive.read_bytes().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [letters[0].id, letters[1].id]
    import_lines(store, lines, file="archive")
    assert served.client.get(path_of(first)).json()["event"]["data"] == {"total": 1}


def test_what_is_purged_is_gone(served, letters, tmp_path):
    answer = served.client.delete(f"{path_of(letters[0])}?purge=true")
    assert answer.json() == {"discarded": 1, "archive": None}
    assert not (tmp_path / "dead-letter-archive").exists()
    assert problem(served.client.get(path_of(letters[0]))) == (404, "dead_letter_unknown")


def test_what_a_replay_has_is_not_discarded(served, letters):
    served.client.post(f"{path_of(letters[0])}/replay")
    answer = served.client.delete(path_of(letters[0]))
    assert problem(answer) == (409, "dead_letter_replaying")
    assert served.client.get(path_of(letters[0])).status_code == 200


def test_an_archive_that_can_not_be_written_deletes_nothing(served, letters, tmp_path):
    (tmp_path / "dead-letter-archive").write_text("a file where the folder should be")
    assert problem(served.client.delete(path_of(letters[0]))) == (507, "archive_unwritable")
    assert served.client.get(path_of(letters[0])).status_code == 200


def test_a_replay_is_followed_paged_and_called_off(served, letters):
    number = served.client.post(ALL, json={"edit": "{total: .total}"}).json()["id"]
    path = f"/api/v1/dlq/replays/{number}"
    found, cursor = [], None
    while True:
        query = {"limit": 4} | ({"cursor": cursor} if cursor else {})
        page = served.client.get(f"{path}/entries", params=query).json()
        found += page["entries"]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert [each["dead_letter"] for each in found] == [each.id for each in letters]
    assert found[0]["edited"] == {"total": 1}
    assert found[0]["original"]["data"] == {"total": 1}
    cancelled = served.client.post(f"{path}/cancel").json()
    assert (cancelled["status"], cancelled["returned"]) == ("cancelled", 6)
    assert served.client.get(path).json() == cancelled
    page = served.client.get("/api/v1/dlq/pipelines/enrich?status=waiting").json()
    assert len(page["dead_letters"]) == 6


def test_replays_are_listed_newest_first_page_by_page(served, letters):
    numbers = [served.client.post(f"{path_of(each)}/replay").json()["id"] for each in letters[:5]]
    first = served.client.get("/api/v1/dlq/replays?limit=3").json()
    rest = served.client.get(f"/api/v1/dlq/replays?limit=3&cursor={first['cursor']}").json()
    shown = [each["id"] for page in (first, rest) for each in page["replays"]]
    assert shown == numbers[::-1]
    assert rest["cursor"] is None
    answer = served.client.get("/api/v1/dlq/replays?cursor=x")
    assert problem(answer) == (422, "cursor_unknown")


@pytest.mark.parametrize("number", ["0", "77", "x", "-1", "9" * 30])
def test_a_replay_that_is_not_there_is_one(served, letters, number):
    path = f"/api/v1/dlq/replays/{number}"
    assert problem(served.client.get(path)) == (404, "replay_unknown")
    assert problem(served.client.get(f"{path}/entries")) == (404, "replay_unknown")
    assert problem(served.client.post(f"{path}/cancel")) == (404, "replay_unknown")


def test_a_replay_of_another_flow_is_not_ours(served, store):
    number = store.replays.begin("other", by="me", selection="{}")
    path = f"/api/v1/dlq/replays/{number}"
    assert problem(served.client.get(path)) == (404, "replay_unknown")
    assert problem(served.client.post(f"{path}/cancel")) == (404, "replay_unknown")


def test_a_pipeline_whose_letters_may_not_be_replayed_says_so(tmp_path, sqlite_url, letters):
    with serving(tmp_path, sqlite_url, pipeline="dead_letter: {replayable: false}") as served:
        assert problem(served.client.post(ALL)) == (409, "replay_not_allowed")
        answer = served.client.post(f"{path_of(letters[0])}/replay")
        assert problem(answer) == (409, "replay_not_allowed")


@pytest.mark.postgres
def test_what_failed_and_is_mended_goes_through_when_it_is_replayed_over_http(flow, database):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        connection.execute("INSERT INTO orders SELECT * FROM generate_series(1, 20)")
    (flow.folder / "charging.py").write_text(
        "from pathlib import Path\n"
        "MENDED = Path(__file__).with_name('mended')\n"
        "def charge(row):\n"
        "    if row['id'] % 4 == 0 and not MENDED.exists():\n"
        "        raise ValueError('no credit')\n"
        "    return row\n"
    )
    charge = step("charge", "python", {"function": "charging:charge"})
    flow.write(
        modules=[cdc_source(database, "replay_api", "orders"), file_sink(flow.folder)],
        pipelines={"keep": pipeline("rows", charge, publish("out"))},
    )
    run = flow.start("--address", "127.0.0.1:0")
    with client_of(run) as client:
        listed = "/api/v1/dlq/pipelines/keep"
        wait_for(
            lambda: (
                (a := client.get(listed)).status_code == 200 and len(a.json()["dead_letters"]) == 5
            ),
            "the dead letters",
        )
        (flow.folder / "mended").touch()
        replay = client.post(f"{listed}/replay-all", json={"step": "charge"}).json()
        assert replay["total"] == 5
        path = f"/api/v1/dlq/replays/{replay['id']}"
        over = wait_for(
            lambda: (a := client.get(path).json())["status"] == "done" and a, "the replay's end"
        )
        assert (over["done"], over["failed"]) == (5, 0)
        assert client.get(listed).json()["dead_letters"] == []
    assert run.stop() == 0
    assert sorted(line["data"]["id"] for line in flow.lines()) == list(range(1, 21))
