"""`penstock demo`: a shop in a real PostgreSQL, its changes flowing, some of them failing.

Nothing is installed, no port is fixed, nothing outlives it. What it runs is shop.yaml beside
this file, as anyone could with `penstock run`.
"""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import rmtree
from types import FrameType

from penstock.demo.published import PublishedEvents
from penstock.demo.service import CustomerService, Misbehaviour
from penstock.demo.shop import Shop
from penstock.embedded.postgres import PostgresServer

FLOW = Path(__file__).with_name("shop.yaml")
"""The flow that the demo runs."""

INTERRUPTED = 130

RunFlow = Callable[[list[Path], Mapping[str, str]], int]
"""Runs flow files with these environment variables until SIGINT or SIGTERM has drained them;
returns the exit code. Shows counts, rates and failures itself."""


def _print(line: str) -> None:
    print(line, flush=True)


def run_demo(
    run_flow: RunFlow,
    *,
    rate: float = 20.0,
    keep: bool = False,
    seed: int = 1,
    misbehaviour: Misbehaviour | None = None,
    say: Callable[[str], None] = _print,
) -> int:
    """Start PostgreSQL, a shop that makes `rate` changes a second and a customer service; run.

    Call from the main thread; returns what `run_flow` returned, after everything has been
    stopped. The data is in a temporary folder, which is removed at the end unless `keep`. `say`
    prints a line.
    Raises FatalError when PostgreSQL can't be had.
    """
    try:
        with ExitStack() as stack:
            stack.enter_context(_interrupt_on_sigterm())
            place = stack.enter_context(_data_folder(keep=keep, say=say))
            say("Starting a PostgreSQL of our own …")
            server = stack.enter_context(PostgresServer.start(place / "postgres"))
            shop = Shop(server.create_database("shop"), seed=seed)
            shop.create()
            service = stack.enter_context(
                CustomerService(shop.customers.get, seed=seed, misbehaviour=misbehaviour)
            )
            variables = {
                "SHOP_DATABASE_URL": server.dsn("shop"),
                "CUSTOMER_SERVICE_URL": service.url,
                "SHOP_OUT": str(place),
            }
            flow = place / FLOW.name
            flow.write_text(FLOW.read_text(encoding="utf-8"), encoding="utf-8")
            _explain(say, flow, variables, rate)
            shop.open(rate)
            stack.callback(shop.close)
            with PublishedEvents(place, say) as published:
                code = run_flow([flow], variables)
            shop.close()
            _sum_up(say, shop, service, published)
            return code
    except KeyboardInterrupt:
        # Before or after the flow ran; while it runs, an interrupt is its business.
        return INTERRUPTED


def _explain(
    say: Callable[[str], None], flow: Path, variables: Mapping[str, str], rate: float
) -> None:
    place = flow.parent
    say(
        f"\nA shop lives in it: 40 customers, 200 orders, {rate:g} changes a second, some of them bad."
        "\nA customer service knows who its customers are; it is sometimes slow, sometimes wrong."
        "\n"
        f"\n  the flow          {flow}"
        f"\n  what leaves it    {place / 'order.enriched.jsonl'}"
        f"\n  the shop          psql {variables['SHOP_DATABASE_URL']}"
        f"\n  the service       {variables['CUSTOMER_SERVICE_URL']}/api/customers/<id>"
        "\n"
        "\nIn a second terminal, look at what failed and why, and how far the flow is:"
        "\n"
    )
    for name, value in variables.items():
        say(f"  export {name}={value}")
    say(
        f"  penstock dlq list {flow}"
        f"\n  penstock state show {flow}"
        "\n"
        "\nCtrl-C drains the flow and stops everything.\n"
    )


def _sum_up(
    say: Callable[[str], None], shop: Shop, service: CustomerService, published: PublishedEvents
) -> None:
    changes, answers = shop.changes, service.answered
    wrong = answers["error"] + answers["garbage"] + answers["missing"]
    say(
        f"\nThe shop made {changes['inserted']} inserts ({changes['broken']} of them broken),"
        f" {changes['updated']} updates and {changes['deleted']} deletes."
        f"\nThe customer service gave {answers.total()} answers:"
        f" {answers['slow']} slow, {wrong} wrong."
        f"\nThe flow published {published.count} events."
    )
    if shop.error is not None:
        say(f"The shop stopped early: {shop.error}")


@contextmanager
def _data_folder(*, keep: bool, say: Callable[[str], None]) -> Iterator[Path]:
    """Give the folder for everything; remove it at the end unless it is to be kept."""
    place = Path(tempfile.mkdtemp(prefix="penstock-demo-")).resolve()
    # PostgreSQL, started by root, runs as another account and must find its data in there.
    place.chmod(0o711)
    try:
        yield place
    finally:
        if keep:
            say(f"Kept: {place}")
        else:
            rmtree(place, ignore_errors=True)


@contextmanager
def _interrupt_on_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind what was started, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


__all__ = ["FLOW", "INTERRUPTED", "RunFlow", "run_demo"]
