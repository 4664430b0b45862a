"""Named places where a crash test kills the process: `PENSTOCK_FAIL_POINT=name[:nth]`.

The guarantees in docs/guarantees.md are promises about crashes at any instant; these are the
instants that matter most. A fail point is the real thing (SIGKILL to ourselves), costs one
comparison when it isn't armed, and fires at its nth passing (default: the first).
"""

from __future__ import annotations

import os
import signal

NAMES = (
    "mid_snapshot",
    "after_snapshot",
    "after_effects_before_settle",
    "after_settle_before_checkpoint",
    "after_checkpoint_before_acknowledge",
)
"""In the order in which an event's road passes them."""

SAGA_NAMES = (
    "saga_before_effect",
    "saga_after_effect",
    "saga_before_undoing",
    "saga_before_compensation",
    "saga_after_compensation",
)
"""Those that only a pipeline with a saga passes, in their order."""

KEY_NAMES = ("after_idempotent_effect", "before_keys_are_told")
"""Those that only idempotent steps, and keys in Redis, pass."""

OUTBOX_NAMES = ("before_outbox_commit", "after_outbox_commit", "after_outbox_published")
"""Those that only steps with an outbox, and what publishes from it, pass."""

REFUSED_NAMES = ("after_refused_event_kept",)
"""What an event of an outbox passes that its sink refuses for good."""

COPY_NAMES = ("after_letter_before_copy", "after_copy_before_forgotten")
"""Those that copies of dead letters pass on their way to a sink, in their order."""

OTHERS = (
    "mid_replay_selection",
    "backfill_after_batch",
    "backfill_before_end",
    "backfill_after_end",
    "mid_archive_compaction",
    "after_archive_compaction",
)
"""Off that road: what a command does in several transactions, where a backfill is through, and where small
chunks of an archive become one."""

TRANSACTION_NAMES = (
    "after_effects_before_settle",
    "after_prepare_before_commit",
    "after_commit_before_settle",
    "after_settle_before_checkpoint",
    "after_checkpoint_before_acknowledge",
)
"""The order of an event's road with `delivery: exactly_once`."""

_name, _, _nth = os.environ.get("PENSTOCK_FAIL_POINT", "").partition(":")
_left = int(_nth or 1)


def fail_point(name: str) -> None:
    """Kill this process with SIGKILL if the fail point `name` is armed and its turn has come."""
    if name == _name:
        _count_down()


def _count_down() -> None:
    global _left  # noqa: PLW0603 - one process, one armed fail point
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
