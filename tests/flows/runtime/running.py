"""`penstock` as its user starts it: a process of its own, watched, signalled and read back."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import psutil

from flows.state.store import open_store
from penstock.cli.app import main
from tests.chaos.worker_process import WorkerProcess

SECONDS = 40.0
"""How long anything may take before the test fails."""

Json = dict[str, Any]


def wait_for(look: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    """Return what `look` finds once it finds something."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)
    return found


def _lives(process: psutil.Process) -> bool:
    """Whether it has not ended, be it while we ask."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Run:
    """`python -m penstock run …`, its log kept in a file."""

    def __init__(self, flow: FlowFolder, *arguments: str, environ: dict[str, str] | None = None):
        self.flow = flow
        flow.runs += 1
        if "--drain-timeout" not in arguments:
            # As long as it takes: how soon a stop ends is asked for by the tests of that alone.
            arguments = ("--drain-timeout", "30s", *arguments)
        self.log = flow.folder / f"run-{flow.runs}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "penstock", "run", str(flow.path), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | (environ or {}),
            )
        self._seen: dict[int, psutil.Process] = {}

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def workers(self) -> list[psutil.Process]:
        """The processes it has started and that live, oldest first."""
        try:
            found = psutil.Process(self.process.pid).children()
        except psutil.NoSuchProcess:
            return []
        living = [child for child in found if _lives(child)]
        self._seen |= {child.pid: child for child in living}
        return sorted(living, key=lambda child: (child.create_time(), child.pid))

    def wait_for_lines(self, *wanted: str, times: int = 1) -> None:
        """Wait until the log has each of these; fail when the run ends before."""

        def there() -> bool:
            text = self.text()
            found = all(text.count(each) >= times for each in wanted)
            assert found or self.process.poll() is None, text
            return found

        try:
            wait_for(there, f"{wanted} in the log")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text()}") from None

    def wait_until_started(self, workers: int = 1) -> None:
        self.wait_for_lines("worker started", times=workers)
        self.workers()

    def signal(self, number: signal.Signals) -> None:
        self.workers()
        self.process.send_signal(number)

    def wait(self, seconds: float = SECONDS) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end in {seconds} s:\n{self.text()}") from None

    def stop(self) -> int:
        """Drain it as an operator would."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill_all(self) -> None:
        """Kill supervisor and workers, as a machine that fails does."""
        workers = self.workers()
        self.process.kill()
        for worker in workers:
            with suppress(psutil.NoSuchProcess):
                worker.kill()
        self.process.wait(10)

    def workers_left(self) -> list[psutil.Process]:
        """The workers ever seen that are still there."""
        return [worker for worker in self._seen.values() if _lives(worker)]

    def end(self) -> None:
        """End whatever is left of it."""
        if self.process.poll() is None:
            self.kill_all()
        for worker in self.workers_left():
            with suppress(psutil.NoSuchProcess):
                worker.kill()


def whole_lines(file: Path) -> list[bytes]:
    """Return a file's lines but for one that is just being written; none once it was taken back."""
    try:
        return file.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:  # listed, and then undone: nothing of it was settled
        return []


class FlowFolder:
    """A flow file with its state and output in a folder, and its runs."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.path = folder / "flow.json"
        self.state_url = f"sqlite:///{folder}/state.db"
        self.runs = 0
        self._runs: list[Run] = []
        self._workers: list[WorkerProcess] = []

    def write(self, *, modules: list[Json], pipelines: Json, **more: Any) -> None:
        """Write the flow; a JSON file is a YAML file."""
        flow = {
            "name": "flow",
            "state": {"url": self.state_url},
            "modules": modules,
            "pipelines": pipelines,
            **more,
        }
        self.path.write_text(json.dumps(flow, indent=1))

    def start(self, *arguments: str, environ: dict[str, str] | None = None) -> Run:
        self._runs.append(Run(self, *arguments, environ=environ))
        return self._runs[-1]

    def run(self, *arguments: str, environ: dict[str, str] | None = None) -> str:
        """Run it until caught up, and well; return its log."""
        run = self.start("--until-caught-up", *arguments, environ=environ)
        assert run.wait() == 0, run.text()
        return run.text()

    def worker(self, source: str = "orders", **options: Any) -> WorkerProcess:
        """Start a worker without a supervisor, for tests that are not about it: half of a run's cost.

        The next one takes over from it at once, since they have one holder's name.
        """
        self._workers.append(WorkerProcess(self.path, source, **options))
        return self._workers[-1]

    def catch_up(self, source: str = "orders") -> None:
        """Have a worker do all that is there, and end well."""
        worker = self.worker(source, until_caught_up=True)
        assert worker.wait() == 0, worker.text()

    def killed_at(self, point: str, source: str = "orders") -> None:
        """Have a worker catch up that dies at this fail point (`name` or `name:nth`)."""
        worker = self.worker(source, until_caught_up=True, fail_point=point)
        assert worker.wait() == -9, worker.text()

    def penstock(self, *arguments: str, environ: dict[str, str] | None = None):
        """Run another `penstock` command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "penstock", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            env=os.environ | (environ or {}),
        )

    def told(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a `penstock` command that starts no worker, in this process: one that reads or refuses."""
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            code = main(arguments)
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())

    def said(self, *arguments: str) -> tuple[int, str]:
        """As `told`: its exit code and output."""
        done = self.told(*arguments)
        return done.returncode, done.stdout

    def lines(self, name: str = "out") -> list[Json]:
        """What the file sink of this name has written, all its writers together."""
        files = sorted(self.folder.glob(f"{name}*.jsonl"))
        return [json.loads(line) for file in files for line in whole_lines(file)]

    def letters(self, pipeline: str | None = None) -> list[Any]:
        with self.store() as store:
            found = store.dead_letters("flow", pipeline=pipeline, limit=1000, after=None)
        return sorted(found, key=lambda letter: letter.position)

    def parked(self) -> int:
        """How many executions wait."""
        with self.store() as store:
            return sum(each.parked for each in store.totals("flow"))

    def totals(self) -> dict[str, tuple[int, int, int]]:
        """Pipeline → done, failed, skipped."""
        with self.store() as store:
            return {t.pipeline: (t.done, t.failed, t.skipped) for t in store.totals("flow")}

    @contextmanager
    def store(self) -> Iterator[Any]:
        opened = open_store(self.state_url)
        try:
            yield opened
        finally:
            opened.close()

    def end(self) -> None:
        for run in self._runs:
            run.end()
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.kill()


def kafka_source(kafka: Any, topic: str, name: str = "orders", **config: Any) -> Json:
    config = {"brokers": kafka.bootstrap, "topics": [topic], **config}
    return {"name": name, "type": "source.kafka", "config": config}


def kafka_sink(brokers: str, topic: str, name: str = "topic") -> Json:
    config = {"brokers": brokers, "topic": topic, "publish_format": "cloudevents_structured"}
    return {"name": name, "type": "sink.kafka", "config": config}


def file_sink(folder: Path, name: str = "out", **config: Any) -> Json:
    config = {"path": f"{folder}/{name}.jsonl", "format": "cloudevents_json", **config}
    return {"name": name, "type": "sink.file", "config": config}


def cdc_source(dsn: str, slot: str, *tables: str, name: str = "rows", **config: Any) -> Json:
    config = {
        "connection": dsn,
        "slot_name": slot,
        "tables": [{"schema": "public", "table": table} for table in tables],
        "heartbeat": "200ms",
        **config,
    }
    return {"name": name, "type": "source.postgres_cdc", "config": config}


def step(name: str, kind: str, config: Json | None = None, **more: Any) -> Json:
    return {"name": name, "type": f"step.{kind}", "config": config or {}, **more}


def publish(sink: str, name: str = "write", **config: Any) -> Json:
    return step(name, "publish", {"sink": sink, **config})


def pipeline(source: str, *steps: Json, trigger: Json | None = None, **more: Any) -> Json:
    trigger = {"type": "event", "source": source, **(trigger or {})}
    return {"trigger": trigger, "steps": list(steps), **more}
