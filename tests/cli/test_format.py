"""How events are written: as a session, as bare messages, as JSON; and that no terminal obeys what the peer sends."""

from __future__ import annotations

import datetime
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websockets.cli._advice import End, of_end
from websockets.cli._format import (
    FORMATS,
    Display,
    JsonLines,
    Raw,
    Session,
    Style,
    colour_allowed,
    error_text,
    escape,
    pretty,
)
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close

NOW = datetime.datetime(2026, 3, 4, 5, 6, 7, 89012, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))

# What a terminal obeys, by its Unicode category: control and format characters, separators of lines and paragraphs.
DANGEROUS = st.characters(categories=["Cc", "Zl", "Zp"]) | st.sampled_from("\u202e\u2066\u200f\u061c")


def style(**options: bool) -> Style:
    return Style(now=lambda: NOW, **options)


class Told:
    """A display, and what it has written."""

    def __init__(self, kind: str, **options: bool) -> None:
        self.out: list[str] = []
        self.err: list[str] = []
        self.display: Display = FORMATS[kind](style(**options), self.out.append, self.err.append)


def received(code: int, reason: str = "") -> End:
    """The end by a Close from the other side."""
    close = Close(code, reason)
    return of_end(ConnectionClosedError(close, close, True))


def tell_all(display: Display) -> None:
    """One of each."""
    display.opened("ws://host/", "chat")
    display.sent("question")
    display.received("answer")
    display.received(b"\x00\xff")
    display.saved(1000)
    display.pong(1, 0.00123)
    display.note("by the way")
    display.results("ping", {"sent": 1}, ["1 ping", "round trip"])
    display.closed(received(1000), 0)
    display.failed("ws://host/", TimeoutError("too late"))


# ------------------------------------------------------------------------------------------------------------- escaping


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 日本語 \U0001f600", "plain é 日本語 \U0001f600"),
        ("a\\b", "a\\b"),
        ("a\tb\nc\rd", r"a\tb\nc\rd"),
        ("\x00\x1b[31m\x7f", r"\x00\x1b[31m\x7f"),
        ("\x85\x9b", r"\x85\x9b"),
        ("\u2028\u202e", r"\u2028\u202e"),
    ],
)
def test_escape(text: str, shown: str) -> None:
    assert escape(text) == shown


@given(parts=st.lists(st.text() | DANGEROUS))
def test_nothing_dangerous_is_left(parts: list[str]) -> None:
    text = "".join(parts)
    for shown in (escape(text), *(pretty(json.dumps([text], ensure_ascii=False)) or [])):
        assert not re.search("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]", shown)


def test_errors_that_say_nothing_have_a_name() -> None:
    assert error_text(TimeoutError()) == "TimeoutError"
    assert error_text(ValueError("bad \x1b")) == r"bad \x1b"


def test_failures_are_told_with_notes_and_a_hint() -> None:
    for kind in ("text", "raw"):
        told = Told(kind)
        error = ConnectionRefusedError("down")
        error.add_note("by way of \x1b")
        told.display.failed("ws://host/", error)
        assert told.out + told.err == [
            "Failed to connect to ws://host/: down.",
            r"  by way of \x1b",
            "Hint: is a server running there?",
        ]


# --------------------------------------------------------------------------------------------------------------- colour


@pytest.mark.parametrize(
    ("terminal", "environ", "allowed"),
    [
        (True, {}, True),
        (True, {"NO_COLOR": ""}, True),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": "0"}, False),
        (True, {"TERM": "dumb"}, False),
        (True, {"TERM": "xterm"}, True),
        (False, {}, False),
    ],
)
def test_colours(terminal: bool, environ: dict[str, str], allowed: bool) -> None:
    assert colour_allowed(terminal, environ) is allowed


DOCUMENT = '{"key": "a\\"b: c", "list": [1, -2.5e3, true, null], "empty": {}}'


def test_pretty() -> None:
    lines = pretty(DOCUMENT)
    assert lines == json.dumps(json.loads(DOCUMENT), indent=2).split("\n")


def test_pretty_stays_json() -> None:
    lines = pretty('["\\u0085\\u202e"]')
    assert lines == ["[", r'  "\u0085\u202e"', "]"]


@pytest.mark.parametrize("text", ["", "no", "1", '"text"', "true", "[1,", "[" * 100_000])
def test_not_worth_being_pretty(text: str) -> None:
    assert pretty(text) is None


def test_pretty_in_colour() -> None:
    lines = pretty(DOCUMENT, colour=True)
    assert lines is not None
    assert lines[1] == '  \x1b[34m"key"\x1b[0m: \x1b[32m"a\\"b: c"\x1b[0m,'
    assert lines[3:5] == ["    \x1b[33m1\x1b[0m,", "    \x1b[33m-2500.0\x1b[0m,"]
    assert [re.sub("\x1b\\[[0-9]+m", "", line) for line in lines] == pretty(DOCUMENT)


# -------------------------------------------------------------------------------------------------------------- formats


def test_session() -> None:
    told = Told("text")
    tell_all(told.display)
    assert told.out == [
        "Connected to ws://host/.",
        "Subprotocol: chat.",
        "< answer",
        "< (binary) 00ff",
        "< (binary) 1,000 bytes saved",
        "pong 1: 1.23 ms",
        "by the way",
        "1 ping",
        "round trip",
        "Connection closed: 1000 (OK).",
        "Failed to connect to ws://host/: too late.",
        "Hint: there is no answer; is the port right? --timeout SEC waits longer",
    ]
    assert told.err == []


def test_long_binary_messages_are_cut_on_a_terminal() -> None:
    for size, terminal, shown in (
        (256, True, "00" * 256),
        (257, True, f"{'00' * 256}... (257 bytes)"),
        (257, False, "00" * 257),
    ):
        told = Told("text", terminal=terminal)
        told.display.received(bytes(size))
        assert told.out == [f"< (binary) {shown}"]


def test_head_of_the_response() -> None:
    for kind in ("text", "raw"):
        told = Told(kind)
        told.display.included(["HTTP/1.1 101 \x1b", ""], [])
        assert (told.out, told.err) == ([r"HTTP/1.1 101 \x1b", ""], [])
    told = Told("jsonl")
    told.display.included([], [("Name", "value")])
    assert json.loads(told.out[0]).items() >= {"event": "response", "headers": [["Name", "value"]]}.items()


def test_session_with_times_and_json() -> None:
    told = Told("text", times=True, json=True, colour=True)
    told.display.received("hello")
    told.display.received('{"a": 1}')
    told.display.pong(2, 0.001)
    stamp = "\x1b[2m05:06:07.089\x1b[0m "
    assert told.out == [
        f"{stamp}< hello",
        f"{stamp}< {{",
        '    \x1b[34m"a"\x1b[0m: \x1b[33m1\x1b[0m',
        "  }",
        f"{stamp}pong 2: 1.00 ms",
    ]


def test_results_hide_the_sign_of_an_interrupt() -> None:
    told = Told("text", terminal=True)
    told.display.results("ping", {}, ["1 ping", "round trip"])
    assert told.out == ["\r\x1b[K1 ping", "round trip"]


def test_raw() -> None:
    told = Told("raw")
    tell_all(told.display)
    assert told.out == ["answer", "00ff", "pong 1: 1.23 ms", "1 ping", "round trip"]
    assert told.err == [
        "by the way",
        "Failed to connect to ws://host/: too late.",
        "Hint: there is no answer; is the port right? --timeout SEC waits longer",
    ]


def test_raw_is_raw_but_on_a_terminal() -> None:
    for terminal, written in ((False, "\x1b[2J"), (True, r"\x1b[2J")):
        told = Told("raw", terminal=terminal, json=True)
        told.display.received("\x1b[2J")
        told.display.received("[1]")
        assert told.out == [written, "[\n  1\n]"]


def test_raw_tells_of_a_connection_that_ended_badly() -> None:
    told = Told("raw")
    told.display.closed(received(1011, "oops\x07"), 3)
    assert (told.out, told.err) == ([], [r"Connection closed: 1011 (internal error) oops\x07."])


def test_json_lines() -> None:
    told = Told("jsonl", terminal=True, colour=True, times=True)
    tell_all(told.display)
    assert told.err == []
    events = [json.loads(line) for line in told.out]
    assert {event.pop("time") for event in events} == {"2026-03-04T03:06:07.089012Z"}
    assert events == [
        {"event": "open", "uri": "ws://host/", "subprotocol": "chat"},
        {"event": "sent", "type": "text", "text": "question"},
        {"event": "received", "type": "text", "text": "answer"},
        {"event": "received", "type": "binary", "hex": "00ff"},
        {"event": "received", "type": "binary", "size": 1000},
        {"event": "pong", "number": 1, "seconds": 0.00123},
        {"event": "note", "text": "by the way"},
        {"event": "ping", "sent": 1},
        {"event": "closed", "code": 1000, "reason": "", "status": 0, "text": "1000 (OK)", "hint": ""},
        {
            "event": "failed",
            "uri": "ws://host/",
            "error": "TimeoutError",
            "text": "too late",
            "details": [],
            "hint": "there is no answer; is the port right? --timeout SEC waits longer",
        },
    ]


@given(text=st.text())
def test_json_lines_are_lines(text: str) -> None:
    told = Told("jsonl")
    told.display.received(text)
    (line,) = told.out
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["text"] == text


def test_formats() -> None:
    assert {"text": Session, "raw": Raw, "jsonl": JsonLines} == FORMATS


def test_time_of_day_has_a_zone() -> None:
    assert Style().now().tzinfo is not None
