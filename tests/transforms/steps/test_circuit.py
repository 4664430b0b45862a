"""A circuit breaker's rules."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from transforms.steps.circuit import CLOSED, Circuit, Rules, decode, enter, leave

RULES = Rules(failure_threshold=5, success_threshold=3, timeout=30.0, probe_timeout=10.0)


def failed(circuit, times, now=0.0):
    for _ in range(times):
        circuit = leave(circuit, RULES, "call", "failure", now)
    return circuit


def opened(now=0.0):
    return failed(CLOSED, 5, now)


def verdict(circuit, now, probe="p"):
    return enter(circuit, RULES, probe, now)[1].verdict


def test_it_opens_with_the_fifth_failure_in_a_row():
    assert failed(CLOSED, 4).state(0) == "closed"
    assert verdict(failed(CLOSED, 4), 0) == "call"
    assert opened().state(0) == "open"
    assert enter(opened(), RULES, "p", 10.0)[1].seconds == 20.0


def test_a_success_between_failures_begins_the_count_anew():
    circuit = leave(failed(CLOSED, 4), RULES, "call", "success", 0)
    assert circuit == CLOSED
    assert failed(circuit, 4).state(0) == "closed"


def test_what_says_nothing_of_the_servers_health_changes_nothing():
    circuit = failed(CLOSED, 4)
    assert leave(circuit, RULES, "call", "neither", 0) == circuit


def test_half_open_it_lets_three_probes_through_and_the_others_wait():
    circuit = opened()
    assert verdict(circuit, 29.9) == "refused"
    for name in "abc":
        circuit, entry = enter(circuit, RULES, name, 30.0)
        assert entry.verdict == "probe"
    assert verdict(circuit, 30.0) == "wait"
    for name in "ab":
        circuit = leave(circuit, RULES, name, "success", 31.0)
        assert circuit.state(31.0) == "half_open"
        assert verdict(circuit, 31.0) == "wait"
    assert leave(circuit, RULES, "c", "success", 31.0) == CLOSED


def test_one_probe_that_fails_opens_it_again_for_the_whole_time():
    circuit, _ = enter(opened(), RULES, "a", 30.0)
    circuit, _ = enter(circuit, RULES, "b", 30.0)
    circuit = leave(circuit, RULES, "a", "failure", 31.0)
    assert circuit == Circuit(open_until=61.0)
    assert leave(circuit, RULES, "b", "success", 32.0) == circuit, "b was begun before"


def test_a_call_that_was_begun_before_it_opened_tells_nothing_once_it_is_open():
    assert leave(opened(), RULES, "late", "success", 1.0) == opened()
    assert leave(opened(), RULES, "late", "failure", 1.0) == opened()


def test_a_probe_that_never_ends_is_replaced():
    circuit = opened()
    for name in "abc":
        circuit, _ = enter(circuit, RULES, name, 30.0)
    circuit, entry = enter(circuit, RULES, "d", 40.0)
    assert entry.verdict == "probe"
    assert set(circuit.probes) == {"d"}


def test_a_probe_that_says_nothing_makes_room_for_another():
    circuit = opened()
    for name in "abc":
        circuit, _ = enter(circuit, RULES, name, 30.0)
    circuit = leave(circuit, RULES, "b", "neither", 31.0)
    assert verdict(circuit, 31.0, "d") == "probe"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["enter", "success", "failure", "neither"]),
            st.sampled_from("abcdef"),
            st.floats(0, 40),
        ),
        max_size=60,
    )
)
def test_whatever_happens_it_is_never_stuck_and_survives_its_encoding(happenings):
    circuit, now = CLOSED, 0.0
    for what, name, later in happenings:
        now += later
        if what == "enter":
            circuit, entry = enter(circuit, RULES, name, now)
            assert entry.verdict != "refused" or 0 < entry.seconds <= RULES.timeout
        else:
            circuit = leave(circuit, RULES, name, what, now)
        assert decode(circuit.encode()) == circuit
        assert len(circuit.probes) <= RULES.success_threshold
    # However it stands: after the time it stays open and a probe's, somebody may call.
    assert verdict(circuit, now + RULES.timeout + RULES.probe_timeout) in {"call", "probe"}
