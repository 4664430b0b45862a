"""The thread that tells a reader which snapshots are asked for."""

from __future__ import annotations

from connectors.testing.waiting import wait_until
from flows.runtime.halt import Halt
from flows.runtime.snapshot_requests import SnapshotRequests
from flows.state.store import open_store


class BrokenReader:
    def want_snapshots(self, requests):
        """Want nothing."""

    def snapshot_reports(self):
        raise ZeroDivisionError("by nought")


def test_a_defect_in_following_snapshots_stops_the_worker_and_says_where(tmp_path):
    url = f"sqlite:///{tmp_path}/state.db"
    open_store(url).close()
    halt = Halt()
    asking = SnapshotRequests(
        "flow", "rows", BrokenReader(), lambda: open_store(url), halt, redact=str
    )
    asking.start()
    wait_until(halt.asked, "a halt")
    asking.close()
    assert halt.error.code == "internal_error"
    assert "following snapshots broke: ZeroDivisionError: by nought" in str(halt.error)
    assert "test_snapshot_thread.py" in str(halt.error)
