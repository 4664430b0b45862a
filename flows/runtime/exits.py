"""Exit codes, as docs/reference/cli.md lists them."""

from __future__ import annotations

DONE = 0
FOUND_FAILURES = 1
USAGE = 2
UNREACHABLE = 3
FATAL = 4
INTERRUPTED = 130

LEASE_LOST = 75
"""Between worker and supervisor only: start it again, as a standby."""
