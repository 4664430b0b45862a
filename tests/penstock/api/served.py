"""The API over real HTTP: of a flow that a test makes up, and of one that `penstock run` runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from flows.plan import load_flow
from penstock.api.live import Live
from penstock.api.serving import ApiServer, bind
from tests.flows.runtime.running import Run

FLOW = """
name: shop
state: {{url: "{state}"}}
{server}
modules:
  - name: orders
    type: source.kafka
    config: {{brokers: "127.0.0.1:1", topics: [orders], options: {{sasl.password: planted-kafka}}}}
  - {{name: out, type: sink.stdout}}
pipelines:
  enrich:
    {pipeline}
    trigger: {{source: orders, when: '.data.token != "planted-when-value"'}}
    retry: {{max_attempts: 5}}
    steps:
      - {{name: charge, type: step.jq, if: ".data.total > 0", config: {{expression: .data}}}}
      - {{name: write, type: step.publish, config: {{sink: out}}}}
  audit:
    trigger: {{source: orders}}
    steps: [{{name: write, type: step.publish, config: {{sink: out}}}}]
"""


class Served:
    """An API whose workers are what `live` was shown."""

    def __init__(self, folder: Path, state: str, server: str = "", pipeline: str = ""):
        """`server` and `pipeline` are lines of the flow file."""
        path = folder / "shop.yaml"
        path.write_text(FLOW.format(state=state, server=server, pipeline=pipeline))
        self.plan = load_flow([path], {})
        self.live = Live()
        self.api = ApiServer(self.plan, self.live, bind("127.0.0.1:0"))
        self.api.start()
        self.client = httpx.Client(base_url=self.api.url, timeout=30.0)

    def close(self) -> None:
        self.client.close()
        self.api.close()


@contextmanager
def serving(folder: Path, state: str, server: str = "", pipeline: str = "") -> Iterator[Served]:
    served = Served(folder, state, server, pipeline)
    try:
        yield served
    finally:
        served.close()


def url_of(run: Run) -> str:
    """Return where a run serves its API, once it says so."""
    run.wait_for_lines("/api/v1")
    found = re.search(r"http://127\.0\.0\.1:\d+(?=/api/v1)", run.text())
    assert found is not None
    return found[0]


@contextmanager
def client_of(run: Run) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url_of(run), timeout=30.0) as client:
        yield client


def problem(response: httpx.Response) -> tuple[int, str]:
    """Return status and code of an answer, which must be a whole problem."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    found = response.json()
    assert found["status"] == response.status_code
    assert found["type"] == f"urn:penstock:error:{found['code']}"
    assert found["title"]
    assert found["detail"].endswith(".")
    return response.status_code, found["code"]
