"""The source kit: a right source passes, and each broken promise is found."""

from __future__ import annotations

import contextlib
import threading

import pytest

from connectors.testing import SourceConformance
from tests.connectors.testing.lines_source import LinesReader, LinesUnderTest


class TestLinesSource(SourceConformance):
    silence = 0.2

    @pytest.fixture
    def subject(self, tmp_path):
        return LinesUnderTest(tmp_path)


class Quick(SourceConformance):
    patience = 1.0
    leaving = 0.5
    silence = 0.2


class RepeatsPositions(LinesReader):
    def positions_of(self, numbers):
        return ["0000000001" for _ in numbers]


class CountsWithoutPadding(LinesReader):
    def positions_of(self, numbers):
        return [str(number + 1) for number in numbers]


class AcknowledgesAtOnce(LinesReader):
    def poll(self, limit, timeout):
        batch = super().poll(limit, timeout)
        if batch is not None:
            self.acknowledge(batch.after)
        return batch


class NeverAcknowledges(LinesReader):
    def acknowledge(self, positions):
        pass


class StartsOneEarly(LinesReader):
    def __init__(self, path, opening):
        earlier = {name: f"{int(at) - 1:010d}" for name, at in opening.positions.items()}
        super().__init__(path, type(opening)(opening.shard, earlier))


class StartsOneLate(LinesReader):
    def __init__(self, path, opening):
        later = {name: f"{int(at) + 1:010d}" for name, at in opening.positions.items()}
        super().__init__(path, type(opening)(opening.shard, later))


class IgnoresTheLimit(LinesReader):
    def poll(self, limit, timeout):
        return super().poll(limit + 5, timeout)


class Reverses(LinesReader):
    def poll(self, limit, timeout):
        batch = super().poll(limit, timeout)
        if batch is not None:
            for column in batch.columns.values():
                column.reverse()
        return batch


class NeverEnds(LinesReader):
    def poll(self, limit, timeout):
        with contextlib.suppress(Exception):
            return super().poll(limit, timeout)
        return None


class SkipsWhatIsNotJson(LinesReader):
    def poll(self, limit, timeout):
        batch = super().poll(limit, timeout)
        if batch is None:
            return None
        batch.column("data")
        good = [index for index in range(batch.size) if index not in batch.errors]
        kept = batch.pick(good)
        kept.after = batch.after
        return kept


class ForgetsTheBytes(LinesReader):
    def poll(self, limit, timeout):
        batch = super().poll(limit, timeout)
        if batch is not None:
            batch.column("data")
            for index in batch.errors:
                batch.columns["raw"][index] = None
        return batch


class ClosesLate(LinesReader):
    def close(self):
        super().close()
        threading.Event().wait(5.1)


class LeavesAThread(LinesReader):
    leftovers = ()

    def close(self):
        super().close()
        left = threading.Event()
        thread = threading.Thread(target=left.wait, name="left-over", daemon=True)
        thread.start()
        LeavesAThread.leftovers += (left,)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reader", "check", "message"),
    [
        (
            RepeatsPositions,
            "test_positions_are_unique_and_sort_as_text_in_their_partition",
            "sorts",
        ),
        (
            CountsWithoutPadding,
            "test_positions_are_unique_and_sort_as_text_in_their_partition",
            "'10' sorts after '9'",
        ),
        (
            AcknowledgesAtOnce,
            "test_nothing_is_acknowledged_upstream_before_it_is_settled",
            "nothing is acknowledged",
        ),
        (
            NeverAcknowledges,
            "test_nothing_is_acknowledged_upstream_before_it_is_settled",
            "the upstream knows",
        ),
        (StartsOneEarly, "test_a_restart_at_any_event_goes_on_right_behind_it", "turn 1"),
        (StartsOneLate, "test_a_restart_at_any_event_goes_on_right_behind_it", "an event comes"),
        (IgnoresTheLimit, "test_a_batch_keeps_the_limit_and_says_where_it_ends", "at most 3"),
        (Reverses, "test_every_event_comes_once_and_in_order_per_key", "came after"),
        (NeverEnds, "test_a_bounded_read_ends_where_the_end_was_at_its_start", "the end comes"),
        (
            SkipsWhatIsNotJson,
            "test_input_that_is_no_event_fails_alone_and_keeps_its_bytes",
            "an event comes",
        ),
        (
            ForgetsTheBytes,
            "test_input_that_is_no_event_fails_alone_and_keeps_its_bytes",
            "with its bytes",
        ),
        (ClosesLate, "test_it_stops_within_five_seconds_under_load", "within 5 s"),
        (LeavesAThread, "test_closing_stops_it_cleanly_whatever_it_was_doing", "left-over"),
    ],
)
def test_a_broken_promise_is_found(tmp_path, reader, check, message):
    subject = LinesUnderTest(tmp_path, reader)
    with pytest.raises(AssertionError, match=message):
        getattr(Quick(), check)(subject)
    for left in LeavesAThread.leftovers:
        left.set()
