"""A job's process as `backfill.process` is, but not nice: a test is not to wait for whatever else runs."""

from __future__ import annotations

import sys

import orjson

from backfill.order import Order
from backfill.process import run
from flows.runtime.halt import Halt

if __name__ == "__main__":
    sys.exit(run(Order(**orjson.loads(sys.argv[1])), Halt()))
