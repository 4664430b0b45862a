"""Dead letters as an operator sees them: on a terminal, and in a pipe."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from dlq.query import Page
from dlq.render import print_letter, print_page
from tests.flows.state.samples import letter


def _printed(show, what, *, terminal=False):
    file = io.StringIO()
    show(what, Console(file=file, force_terminal=terminal, width=160, color_system=None))
    return file.getvalue()


def test_a_piped_list_is_one_line_of_tabs_for_each_letter():
    lines = _printed(print_page, Page([letter(2), letter(1, step=None)], None)).splitlines()
    assert lines[0].split("\t") == ["FAILED", "PIPELINE", "STEP", "ERROR", "EVENT", "TRIES", "ID"]
    assert lines[1].split("\t") == [
        "1970-01-01T00:16:42.000Z",
        "enrich",
        "charge",
        "http_status",
        "order.created",
        "1",
        letter(2).id,
    ]
    assert lines[2].split("\t")[2] == "-"
    assert len(lines) == 3


@pytest.mark.parametrize("terminal", [True, False])
def test_a_list_shows_whole_ids_and_how_to_go_on(terminal):
    text = _printed(print_page, Page([letter(2), letter(1)], "1001.0,019a"), terminal=terminal)
    assert letter(1).id in text
    assert letter(2).id in text
    assert "--cursor 1001.0,019a" in text


@pytest.mark.parametrize("terminal", [True, False])
def test_no_dead_letters_are_good_news_in_words(terminal):
    assert _printed(print_page, Page([], None), terminal=terminal) == "No dead letters.\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_letter_shows_why_it_failed_and_what_to_do_and_the_event(terminal):
    text = _printed(print_letter, letter(1, wire=b"raw \xff bytes"), terminal=terminal)
    for part in (
        letter(1).id,
        "the server answered 422. [http_status, permanent]",
        "Look at the body.",
        '"total": 10.5',
        '"status": 422',
        '"shape": {',
        r"raw \xff bytes",
        "orders orders/0 at 00000000000000000001",
    ):
        assert part in text


@pytest.mark.parametrize("terminal", [True, False])
def test_what_an_event_holds_cannot_steer_the_terminal(terminal):
    nasty = letter(
        1,
        event_type="\x1b[2Jgone",
        error_message="a\nb [bold]c",
        event='{"data":"\x9b31m \u202e"}',
        wire=b"\x1b]0;title\x07",
    )
    text = _printed(print_letter, nasty, terminal=terminal)
    text += _printed(print_page, Page([nasty], None), terminal=terminal)
    assert not {"\x1b", "\x9b", "\u202e", "\x07"} & set(text)
    assert "[bold]c" in text


def test_a_large_body_is_cut_and_says_so():
    assert "… 3000 bytes more" in _printed(print_letter, letter(1, wire=b"x" * 5000))


@pytest.mark.parametrize("width", [80, 110])
def test_a_narrow_terminal_shows_as_much_of_an_id_as_tells_it_apart(width):
    letters = [
        letter(1, id="019a0000-0001-7aaa-8000-000000000001", last_failed_at=1_700_000_000.5),
        letter(2, id="019a0000-0001-7aaa-8111-000000000001", last_failed_at=1_700_000_000.5),
    ]
    file = io.StringIO()
    print_page(
        Page(letters, None), Console(file=file, force_terminal=True, width=width, color_system=None)
    )
    text = file.getvalue()
    assert "019a0000-0001-7aaa-80" in text
    assert "019a0000-0001-7aaa-81" in text
    assert text.count("2023-11-14T22:13:20Z") == 2
    if width == 110:
        assert len(text.splitlines()) == 3, "a line each"
