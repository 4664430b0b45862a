"""A writer that walks rows through their lives, and the rule that what arrives must obey.

Each row goes insert, updates, delete, insert again …; every change has the row's next number `n`.
A delete is seen with the number of the version it removed. What a sink may show of a row: at most
one snapshot READ, of any version, then every later change, in order, none missing.
"""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from typing import Any

import psycopg

Change = tuple[str, int]
"""(operation, n)"""

TABLE = """
CREATE TABLE walk (id int PRIMARY KEY, n int NOT NULL, filler text);
ALTER TABLE walk REPLICA IDENTITY FULL;
"""


class RowWalk:
    """Two writers, each with its own rows, committing transactions of one to five changes."""

    def __init__(self, dsn: str, rows: int = 100, seed: int = 7) -> None:
        self.dsn = dsn
        self.rows = rows
        self.history: dict[int, list[Change]] = defaultdict(list)
        self._seed = seed
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.errors: list[BaseException] = []

    def prepare(self, still: int = 3000) -> None:
        """Make the table, with `still` rows that never change: the snapshot has to be large."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(TABLE)
            connection.execute(
                "INSERT INTO walk SELECT 1000 + k, 1, 'still' FROM generate_series(1, %s) k",
                (still,),
            )
        for row in range(1001, 1001 + still):
            self.history[row].append(("INSERT", 1))

    def start(self, pause: float = 0.0) -> None:
        for part in (0, 1):
            thread = threading.Thread(target=self._write, args=(part, pause))
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        assert not self.errors, self.errors

    def step(self, count: int) -> None:
        """Write `count` transactions here and now."""
        self._run(0, random.Random(self._seed), 0.0, count, of=1)

    @property
    def changes(self) -> int:
        return sum(len(changes) for changes in self.history.values())

    def _write(self, part: int, pause: float) -> None:
        try:
            self._run(part, random.Random(self._seed + part), pause, None, of=2)
        except BaseException as error:  # noqa: BLE001 - shown by `stop`
            self.errors.append(error)

    def _run(self, part: int, rng: random.Random, pause: float, count: int | None, of: int) -> None:
        alive: dict[int, bool] = {
            row: self.history[row][-1][0] != "DELETE" for row in self.history if self.history[row]
        }
        mine = [row for row in range(self.rows) if row % of == part]
        with psycopg.connect(self.dsn) as connection:
            while not self._stop.is_set() and (count is None or count > 0):
                written: list[tuple[int, Change]] = []
                numbers = {row: len(self.history[row]) for row in mine}
                for row in rng.choices(mine, k=rng.randrange(1, 6)):
                    operation = self._change(connection, row, alive, numbers, rng)
                    written.append((row, operation))
                connection.commit()
                for row, change in written:
                    self.history[row].append(change)
                if count is not None:
                    count -= 1
                self._stop.wait(pause)

    @staticmethod
    def _change(
        connection: psycopg.Connection[Any],
        row: int,
        alive: dict[int, bool],
        numbers: dict[int, int],
        rng: random.Random,
    ) -> Change:
        if not alive.get(row):
            numbers[row] += 1
            alive[row] = True
            connection.execute(
                "INSERT INTO walk VALUES (%s, %s, %s)", (row, numbers[row], "x" * 80)
            )
            return ("INSERT", numbers[row])
        if rng.random() < 0.2:
            alive[row] = False
            connection.execute("DELETE FROM walk WHERE id = %s", (row,))
            numbers[row] += 1
            return ("DELETE", numbers[row] - 1)
        numbers[row] += 1
        connection.execute("UPDATE walk SET n = %s WHERE id = %s", (numbers[row], row))
        return ("UPDATE", numbers[row])


def assert_tells_all(
    history: dict[int, list[Change]],
    seen: dict[int, list[Change]],
    interrupted: dict[int, int] | None = None,
) -> None:
    """Fail unless what was seen of each row is a READ or nothing, then all that came after it.

    A snapshot that was interrupted reads rows again that were not settled, so there may be several
    READs, the last of which counts. And a row that was gone by then shows its changes since the
    first reading, without a READ: `interrupted` says how many changes it had had at most, at the
    time of the last restart.
    """
    assert set(seen) <= set(history)
    for row, changes in history.items():
        shown = seen.get(row, [])
        reads = [n for operation, n in shown if operation == "READ"]
        rest = shown[len(reads) :]
        if reads:
            assert shown[: len(reads)] == [("READ", n) for n in sorted(reads)], (
                f"row {row}: {shown}"
            )
            versions = [k for k, change in enumerate(changes) if change[1] == reads[-1]]
            written = [k for k in versions if changes[k][0] != "DELETE"]
            assert written, f"row {row}: read version {reads[-1]} of {changes}"
            expected = changes[written[0] + 1 :]
            assert rest == expected, f"row {row}: saw {shown}, expected {expected} after the READ"
        elif rest:
            starts = [k for k in range(len(changes)) if changes[k:] == rest]
            assert starts, f"row {row}: saw {rest}, of {changes}"
            start = starts[0]
            if start and changes[start - 1][0] != "DELETE":
                gone = any(operation == "DELETE" for operation, _ in rest)
                latest = -1 if interrupted is None else interrupted.get(row, 0)
                assert gone, f"row {row}: missing before {rest}, of {changes}"
                assert start <= latest, f"row {row}: missing before {rest}, of {changes}"
        else:
            assert not changes or changes[-1][0] == "DELETE", f"row {row}: saw nothing of {changes}"
