"""The inbox: what a server keeps for its sources, on both databases."""

from __future__ import annotations

import threading

from connectors.contracts import LANES, Shard
from flows.state.inbox import Incoming, Kept
from flows.state.records import Answered, Counts, Settlement


def incoming(n, digest=None, key=None):
    return Incoming(b"[]", b"%d" % n, key, digest)


def numbers(store, shard=None, after=0):
    rows = store.inbox.of_source("shop", "hooks", shard or Shard()).take(after, 1000)
    return [(row.number, row.raw) for row in rows]


def test_what_is_kept_is_there_in_order_until_it_is_forgotten(store):
    kept = store.inbox.keep("shop", {"hooks": [incoming(n) for n in range(5)]})
    assert [each.number for each in kept["hooks"]] == [1, 2, 3, 4, 5]
    assert numbers(store) == [(n + 1, b"%d" % n) for n in range(5)]
    inbox = store.inbox.of_source("shop", "hooks", Shard())
    inbox.forget(dict.fromkeys(range(LANES), 3))
    assert [number for number, _ in numbers(store)] == [4, 5]
    assert store.inbox.waiting("shop") == {"hooks": 2}


def test_a_number_is_never_given_again(store):
    store.inbox.keep("shop", {"hooks": [incoming(1), incoming(2)]})
    store.inbox.of_source("shop", "hooks", Shard()).forget(dict.fromkeys(range(LANES), 2))
    assert store.inbox.keep("shop", {"hooks": [incoming(3)]}) == {"hooks": [Kept(3, again=False)]}
    assert store.inbox.of_source("shop", "hooks", Shard()).last() == 3


def test_a_delivery_that_comes_again_is_the_event_that_it_was(store):
    store.inbox.keep("shop", {"hooks": [incoming(1, b"a" * 16)]})
    store.inbox.of_source("shop", "hooks", Shard()).forget(dict.fromkeys(range(LANES), 1))
    events = [incoming(2, b"b" * 16), incoming(1, b"a" * 16), incoming(2, b"b" * 16)]
    kept = store.inbox.keep("shop", {"hooks": events})["hooks"]
    assert kept == [Kept(2, again=False), Kept(1, again=True), Kept(2, again=True)]
    assert numbers(store) == [(2, b"2")]
    assert store.inbox.keep("shop", {"other": [incoming(1, b"a" * 16)]})["other"][0].again is False


def test_a_delivery_is_forgotten_after_its_time(store):
    store.inbox.keep("shop", {"hooks": [incoming(n, b"%16d" % n) for n in range(450)]})
    assert store.inbox.prune("shop", before=0.0) == 0
    assert store.inbox.prune("shop", before=4e9) == 450
    assert not store.inbox.keep("shop", {"hooks": [incoming(1, b"%16d" % 1)]})["hooks"][0].again


def test_workers_share_events_out_and_those_of_a_key_stay_together(store):
    events = [incoming(n, key=f"k{n % 7}") for n in range(70)] + [incoming(n) for n in range(30)]
    store.inbox.keep("shop", {"hooks": events})
    shares = [numbers(store, Shard(index, 3)) for index in range(3)]
    assert sorted(number for share in shares for number, _ in share) == list(range(1, 101))
    keyed = [{(number - 1) % 7 for number, _ in share if number <= 70} for share in shares]
    assert sum(map(len, keyed)) == 7


def test_two_servers_give_numbers_in_the_order_of_their_commits(opening):
    """A reader that has seen a number has seen all smaller ones."""
    seen: list[int] = []
    reader = opening().inbox.of_source("shop", "hooks", Shard())

    def send(store):
        for n in range(40):
            store.inbox.keep("shop", {"hooks": [incoming(n), incoming(n)]})

    senders = [threading.Thread(target=send, args=[opening()]) for _ in range(2)]
    for sender in senders:
        sender.start()
    while len(seen) < 160:
        seen += [row.number for row in reader.take(seen[-1] if seen else 0, 1000)]
    for sender in senders:
        sender.join()
    assert seen == list(range(1, 161))


def test_outcomes_are_stored_with_the_settlement(store, lease):
    answered = [
        Answered("hooks", 7, "p", "done", '{"status":200}'),
        Answered("hooks", 8, "p", "failed"),
    ]
    settled = Settlement("p", Counts(done=1), answers=answered)
    # As a process of a cluster commits its share: not under the source's own name.
    store.commit(lease, "hooks@p:1/2", [settled], {"07": "7"}, {})
    found = store.inbox.outcomes("shop", "hooks", [7, 8, 9])
    assert {number: {p: tuple(o) for p, o in of.items()} for number, of in found.items()} == {
        7: {"p": ("done", '{"status":200}')},
        8: {"p": ("failed", None)},
    }
