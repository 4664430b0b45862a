"""What idempotency keys cost per event, in batches of 1,000 (`python -m benchmarks.idempotency`).

The operator before the first step and its part of settle, with the keys in SQLite and in Valkey; every
key new, as in ordinary traffic. CPU of this process; Valkey's own is beside it.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import orjson

from connectors.batch import Batch
from flows.plan import load_flow
from flows.runtime.halt import Halt
from flows.runtime.idempotency import OncePerKey
from flows.runtime.key_keeper import KeyKeeper
from flows.runtime.parking import Parking
from flows.state.idempotency import StateKeys
from flows.state.records import Counts, Settlement
from flows.state.redis_keys import RedisKeys
from flows.state.store import open_store
from tests.services.valkey import ValkeyServer
from transforms.executions import Executions

SIZE, BATCHES = 1000, 30

FLOW = """
name: bench
state: {{ url: "sqlite:///{folder}/state.db" }}
modules:
  - {{ name: in, type: source.kafka, config: {{ brokers: "127.0.0.1:1", topic: in }} }}
pipelines:
  bench:
    trigger: {{ source: in }}
    idempotency: {{ key_template: "order_{{{{ .id }}}}" }}
    steps:
      - {{ name: shape, type: step.jq, config: {{ expression: . }} }}
"""


def batch(number: int) -> Executions:
    """Return executions of orders of some 440 bytes, decoded, with an output each."""
    ids = [f"{number}-{place}" for place in range(SIZE)]
    lines = [{"sku": f"sku-{n}", "quantity": n, "price": "12.50"} for n in range(6)]
    raws = [orjson.dumps({"id": key, "lines": lines, "note": "n" * 120}) for key in ids]
    columns: dict[str, list[Any]] = {
        "raw": raws,
        "id": ids,
        "source": ["/bench"] * SIZE,
        "type": ["order"] * SIZE,
        "partition": ["0"] * SIZE,
        "timestamp": [float(number)] * SIZE,
    }
    made = Batch(SIZE, columns, after={})
    made.column("data")
    return Executions(made, "bench", outputs={"shape": [{"id": key, "ok": True} for key in ids]})


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "flow.yaml").write_text(FLOW.format(folder=folder))
        plan = load_flow([folder / "flow.yaml"], {})
        store = open_store(plan.state_url)
        lease = store.acquire_lease("bench", "in/0", "bench", 600.0)
        assert lease is not None
        with ValkeyServer.start(folder) as valkey:
            for kind, keys in (
                ("SQLite", StateKeys(plan.state_url, "bench")),
                ("Valkey", RedisKeys(valkey.url, "bench")),
            ):
                halt = Halt()
                keeper = KeyKeeper(keys, halt, 60.0)
                once = OncePerKey(
                    plan.pipelines[0], keeper, halt, Parking(), elsewhere=kind == "Valkey"
                )
                spent: list[float] = []
                for number in range(BATCHES):
                    executions = batch(number)
                    settlement = Settlement("bench", Counts(done=SIZE))
                    before = time.process_time()
                    once(executions)
                    once.settle(executions, settlement)
                    store.commit(lease, "in", [settlement], {"0": f"{number}"}, {})
                    keys.settle(settlement.keys_elsewhere)
                    spent.append(time.process_time() - before)
                keeper.close()
                middle = sorted(spent)[BATCHES // 2] / SIZE * 1e6
                print(f"keys in {kind}: {middle:.1f} us of CPU per event")
            used = valkey.client().info("cpu")
            server = (used["used_cpu_user"] + used["used_cpu_sys"]) / BATCHES / SIZE * 1e6
            print(f"Valkey itself: {server:.1f} us per event")
        store.close()


if __name__ == "__main__":
    main()
