"""A cluster that crashes leaves each line once: where pipelines share a file, and with another number of workers."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.connectors.kafka.driving import write
from tests.flows.runtime.running import file_sink, kafka_source, pipeline, publish, step, wait_for

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.chaos]

EACH, KEYS = 25, 20


class Crashing:
    """Events of a topic, to a file through one or several pipelines."""

    def __init__(self, flow, kafka, partitions):
        self.flow, self.kafka, self.partitions = flow, kafka, partitions
        self.topic = kafka.create_topic(partitions=partitions)
        self.sent = 0

    def write_flow(self, **pipelines):
        """Write a flow of these: name → what they have beside what all have."""
        self.pipelines = list(pipelines)
        self.flow.write(
            modules=[kafka_source(self.kafka, self.topic), file_sink(self.flow.folder)],
            pipelines={
                name: pipeline(
                    "orders",
                    step("mark", "jq", {"expression": f'{{n: .data.n, by: "{name}"}}'}),
                    publish("out", data_from="steps.mark.output"),
                    **more,
                )
                for name, more in pipelines.items()
            },
        )

    def send(self):
        """Send events that go on from those before, to all partitions."""
        for partition in range(self.partitions):
            numbers = range(self.sent, self.sent + EACH)
            values = [b'{"n":%d,"key":%d}' % (n, n % KEYS) for n in numbers]
            write(self.kafka, self.topic, *values, partition=partition)
            self.sent += EACH

    def crash(self, point, workers=2):
        """Run until a process dies at the fail point; then all of them, as with their machine."""
        self.send()
        run = self.flow.start("--workers", str(workers), environ={"PENSTOCK_FAIL_POINT": point})
        run.wait_until_started(workers)

        def dies():
            self.send()
            return "starts again" in run.text()

        wait_for(dies, "the death of a process")
        run.kill_all()

    def check(self):
        """Each event is there once of each pipeline."""
        found = Counter((line["data"]["by"], line["data"]["n"]) for line in self.flow.lines())
        wanted = Counter({(name, n): 1 for name in self.pipelines for n in range(self.sent)})
        assert found - wanted == Counter(), "lines that come twice"
        assert wanted - found == Counter(), "lines that are missing"
        assert self.flow.totals() == dict.fromkeys(self.pipelines, (self.sent, 0, 0))


@pytest.fixture
def both_read(flow, kafka):
    """Each of two processes reads a partition, and is sent events of the other's."""
    return Crashing(flow, kafka, partitions=2)


@pytest.fixture
def one_reads(flow, kafka):
    """The other process stores what it was sent, and dies before the first one stores its position."""
    return Crashing(flow, kafka, partitions=1)


SPREAD = {"partition_by": ".data.key"}

STORED = "after_checkpoint_before_acknowledge"
"""Of one pipeline's part of a batch, what another process sent is stored; the source's position is not."""


@pytest.mark.parametrize("point", [f"{STORED}:2", "after_settle_before_checkpoint:3"])
@pytest.mark.parametrize(
    "second", [SPREAD, {}], ids=["both are spread", "one is spread and one is not"]
)
def test_pipelines_that_share_a_file_leave_each_line_once(both_read, second, point):
    both_read.write_flow(first=SPREAD, second=second)
    both_read.crash(point)
    both_read.send()
    both_read.flow.run("--workers", "2")
    both_read.check()


@pytest.mark.parametrize(("workers", "turn"), [(1, 2), (3, 1)])
def test_another_number_of_workers_after_a_crash_leaves_each_line_once(one_reads, workers, turn):
    one_reads.write_flow(only=SPREAD)
    one_reads.crash(f"{STORED}:{turn}")
    one_reads.send()
    one_reads.flow.run("--workers", str(workers))
    one_reads.check()


@pytest.mark.parametrize("now", [{"partition_by": ".data.n % 7"}, {}], ids=["changed", "taken out"])
def test_another_partition_by_after_a_crash_leaves_each_line_once(one_reads, now):
    one_reads.write_flow(only=SPREAD)
    one_reads.crash(f"{STORED}:1")
    one_reads.write_flow(only=now)
    one_reads.send()
    one_reads.flow.run("--workers", "2")
    one_reads.check()
