"""Who may call: tokens, names of the host, pages of other sites."""

from __future__ import annotations

import pytest

from tests.penstock.api.served import problem, serving

READER, WRITER = "reader-0123456789", "writer-0123456789"
TOKENS = f'server: {{{{tokens: "# who may\\nops:{WRITER}:write\\n\\nci:{READER}\\n"}}}}'.replace(
    "{{", "{"
).replace("}}", "}")


@pytest.fixture
def guarded(tmp_path, sqlite_url, store):
    with serving(tmp_path, sqlite_url, TOKENS) as api:
        yield api


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def test_a_call_without_a_token_is_told_to_send_one(guarded):
    for path in ("/api/v1/flows", "/metrics", "/api/v1/openapi.json", "/nowhere"):
        answer = guarded.client.get(path)
        assert problem(answer) == (401, "token_missing")
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "header",
    [
        "Bearer wrong-0123456789",
        f"Bearer {READER}x",
        f"Bearer {READER[:-1]}",
        f"Bearer ci:{READER}",
        "Bearer ümlaut-0123456789",
    ],
)
def test_a_wrong_token_is_refused(guarded, header):
    answer = guarded.client.get("/api/v1/flows", headers={"Authorization": header.encode()})
    assert problem(answer) == (401, "token_unknown")


def test_another_scheme_is_no_token(guarded):
    answer = guarded.client.get("/api/v1/flows", headers={"Authorization": f"Basic {READER}"})
    assert problem(answer) == (401, "token_missing")


def test_either_token_may_read(guarded):
    for token in (READER, WRITER):
        assert guarded.client.get("/api/v1/flows", headers=bearer(token)).status_code == 200
        assert guarded.client.get("/metrics", headers=bearer(token)).status_code == 200


def test_a_token_that_may_read_only_changes_nothing(guarded):
    path = "/api/v1/dlq/pipelines/enrich/019a0000-0000-7000-8000-000000000001"
    answer = guarded.client.delete(path, headers=bearer(READER))
    assert problem(answer) == (403, "token_read_only")
    assert "ci" in answer.json()["detail"]
    assert guarded.client.post("/api/v1/flows", headers=bearer(READER)).status_code == 403
    assert guarded.client.post("/api/v1/flows", headers=bearer(WRITER)).status_code == 405


def test_probes_need_no_token_and_are_told_no_more_than_whether_all_is_well(guarded):
    assert guarded.client.get("/healthz").json() == {"status": "ok"}
    anonymous = guarded.client.get("/readyz")
    assert anonymous.status_code == 503
    assert {check["detail"] for check in anonymous.json()["checks"]} == {None}
    wrong = guarded.client.get("/readyz", headers=bearer("wrong-0123456789"))
    assert problem(wrong) == (401, "token_unknown")


def test_with_tokens_any_name_of_the_host_will_do(guarded):
    headers = bearer(READER) | {"Host": "penstock.example", "Origin": "https://ui.example"}
    assert guarded.client.get("/api/v1/flows", headers=headers).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8080", "localhost:1", "[::1]:80"])
def test_without_tokens_names_of_this_machine_are_answered(served, host):
    assert served.client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8080", "10.0.0.1", "[:"])
def test_without_tokens_other_names_are_refused_so_that_dns_rebinding_gets_nothing(served, host):
    for path in ("/api/v1/flows", "/healthz", "/metrics"):
        answer = served.client.get(path, headers={"Host": host})
        assert problem(answer) == (421, "host_refused")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_without_tokens_another_sites_page_can_not_make_a_browser_change_anything(served, headers):
    for method in ("POST", "DELETE"):
        answer = served.client.request(method, "/api/v1/flows", headers=headers)
        assert problem(answer) == (403, "origin_refused")


def test_a_link_on_another_page_may_lead_here(served):
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert served.client.get("/api/v1/flows", headers=headers).status_code == 200


def test_a_page_of_this_server_may_call_it(served):
    own = {"Origin": served.api.url, "Sec-Fetch-Site": "same-origin"}
    assert served.client.get("/api/v1/flows", headers=own).status_code == 200
    assert problem(served.client.post("/api/v1/flows", headers=own)) == (405, "method_not_allowed")


def test_no_answer_invites_pages_of_other_sites(served):
    headers = {"Origin": "https://ui.example", "Access-Control-Request-Method": "DELETE"}
    answer = served.client.options("/api/v1/flows", headers=headers)
    assert answer.status_code >= 400
    plain = served.client.get("/api/v1/flows", headers={"Origin": "https://ui.example"})
    for each in (answer, plain):
        assert each.headers["cross-origin-resource-policy"] == "same-origin"
        assert each.headers["x-content-type-options"] == "nosniff"
        assert not [name for name in each.headers if name.startswith("access-control")]
