"""A thread that works on a connection of its own."""

from __future__ import annotations

from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError

from connectors.errors import FatalError
from connectors.redis_stream.link_thread import LinkThread
from connectors.testing.waiting import wait_until


class Link:
    label = "a server"
    dropped = 0

    def drop(self):
        self.dropped += 1


def ended(*came):
    """Run work that meets these errors, one a call, and is over then."""
    errors = list(came)
    link, told = Link(), []

    def work():
        if errors:
            raise errors.pop(0)
        return True

    thread = LinkThread("redis-test", link, work, lambda: told.append(thread.fatal))
    thread.start()
    assert thread.join(20)
    return thread, link, told


def test_a_server_that_was_away_is_asked_again_on_a_new_connection():
    thread, link, told = ended(RedisConnectionError("cut off"), RedisConnectionError("cut off"))
    assert link.dropped == 2
    assert told == []
    assert "a server" in thread.status


def test_what_no_call_can_mend_ends_it():
    thread, _, told = ended(AuthenticationError("WRONGPASS"))
    assert told == [thread.fatal]
    assert isinstance(thread.fatal, FatalError)


def test_a_defect_ends_it_with_its_place_and_not_in_silence():
    thread, _, told = ended(ZeroDivisionError("by nought"))
    assert told == [thread.fatal]
    assert thread.fatal.code == "internal_error"
    assert "redis-test broke: ZeroDivisionError: by nought" in thread.fatal.message


def test_asked_to_end_it_works_once_more_at_the_most():
    calls = []
    closed = LinkThread("redis-test", Link(), lambda: calls.append(1) is not None, lambda: None)
    closed.ask_to_end()
    closed.start()
    wait_until(lambda: closed.join(0.1), "its end")
    assert calls == [1]
