"""How what happens on a connection is written: as a session that humans read, as bare messages, or as JSON.

May know: messages, close codes, escapes of a terminal. Must not know: connections, which file the text goes to, the
width of the terminal.

Whatever comes from the peer is escaped before it gets near a terminal, which would otherwise obey it.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
from collections.abc import Callable
from typing import Any

from ..frames import Close
from ..typing import Data
from ._latency import milliseconds, number_of

__all__ = ["JsonLines", "Raw", "Session", "Style", "closing", "colour_allowed", "error_text", "escape", "pretty"]

Write = Callable[[str], None]

# What a terminal may obey: C0, DEL and C1 (ECMA-48); and what changes the order of what it shows (UAX #9).
find_control = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")

SHORT_ESCAPES = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}

# Select Graphic Rendition (ECMA-48 section 8.3.117).
RESET, DIM, RED, GREEN, YELLOW, BLUE, CYAN = (f"\x1b[{code}m" for code in (0, 2, 31, 32, 33, 34, 36))

# The tokens of JSON that json.dumps() has written with a space after each colon.
find_token = re.compile(r'(?P<key>"(?:[^"\\]|\\.)*")(?=: )|(?P<string>"(?:[^"\\]|\\.)*")|(?P<other>-?\b[\w.+-]+)')
TOKEN_COLOURS = {"key": BLUE, "string": GREEN, "other": YELLOW}


def escape(text: str) -> str:
    """Text without anything that a terminal would obey."""
    return find_control.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return SHORT_ESCAPES.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def error_text(exc: BaseException) -> str:
    """What an exception says, or its name if it says nothing; and its notes, which name the proxy, if there is one."""
    notes = [f"({note})" for note in getattr(exc, "__notes__", ())]
    return escape(" ".join([str(exc) or type(exc).__name__, *notes]))


def closing(code: int, reason: str) -> str:
    """A close code and a reason, for humans."""
    return escape(str(Close(code, reason)))


def colour_allowed(terminal: bool, environ: dict[str, str]) -> bool:
    """Whether colours may be used: on a terminal that has them, unless ``NO_COLOR`` is set to anything."""
    return terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def pretty(text: str, colour: bool = False) -> list[str] | None:
    """The lines of a JSON object or array, indented and safe for a terminal; None for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict | list):
        return None
    # What is left to escape is in strings, where JSON has an escape for it.
    lines = [
        find_control.sub(_json_escaped, line) for line in json.dumps(value, indent=2, ensure_ascii=False).split("\n")
    ]
    return [find_token.sub(_coloured, line) for line in lines] if colour else lines


def _json_escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _coloured(match: re.Match[str]) -> str:
    assert match.lastgroup is not None
    return f"{TOKEN_COLOURS[match.lastgroup]}{match[0]}{RESET}"


@dataclasses.dataclass(frozen=True)
class Style:
    """What the user asked for, and what the place allows.

    Parameters:
        json: whether JSON in messages is indented.
        times: whether each message has the time before it.
        colour: whether colours may be used.
        terminal: whether a terminal shows the text.
        now: tells the time.
    """

    json: bool = False
    times: bool = False
    colour: bool = False
    terminal: bool = False
    now: Callable[[], datetime.datetime] = dataclasses.field(
        default=lambda: datetime.datetime.now().astimezone(), repr=False
    )

    def tint(self, colour: str, text: str) -> str:
        """The text in a colour, if that is allowed."""
        return f"{colour}{text}{RESET}" if self.colour else text

    def stamp(self) -> str:
        """The time of day, if that was asked for, and a blank."""
        if not self.times:
            return ""
        return self.tint(DIM, self.now().strftime("%H:%M:%S.%f")[:-3]) + " "

    def lines(self, message: Data, safe: bool) -> list[str]:
        """A message as lines: several only if it is JSON, and that is to be indented. ``safe`` is to escape text."""
        if isinstance(message, bytes):
            return [message.hex()]
        indented = pretty(message, self.colour) if self.json else None
        return indented or [escape(message) if safe else message]


class Session:
    """What humans read: who said what, and how it began and ended.

    Parameters:
        style: what it looks like.
        out: writes a line to standard output.
        err: not used: this all belongs together.
    """

    def __init__(self, style: Style, out: Write, err: Write) -> None:
        self.style = style
        self.out = out

    def opened(self, uri: str, subprotocol: str | None) -> None:
        """The connection is open."""
        self.out(f"Connected to {uri}.")
        if subprotocol is not None:
            self.out(f"Subprotocol: {escape(subprotocol)}.")

    def failed(self, uri: str, exc: BaseException) -> None:
        """The connection couldn't be opened."""
        self.out(f"Failed to connect to {uri}: {error_text(exc)}.")

    def received(self, message: Data) -> None:
        """The peer sent a message."""
        first, *rest = self.style.lines(message, safe=True)
        mark = "< (binary) " if isinstance(message, bytes) else "< "
        for line in (self.style.stamp() + mark + first, *(f"  {line}" for line in rest)):
            self.out(line)

    def saved(self, size: int) -> None:
        """The peer sent a binary message of so many bytes, which went to a file."""
        self.out(f"{self.style.stamp()}< (binary) {number_of(size, 'byte')} saved")

    def sent(self, message: Data) -> None:
        """We sent a message: the user knows, who typed it."""

    def pong(self, number: int, seconds: float) -> None:
        """A ping was answered."""
        self.out(f"{self.style.stamp()}pong {number}: {milliseconds(seconds)} ms")

    def note(self, text: str) -> None:
        """Something else is worth saying."""
        self.out(text)

    def closed(self, code: int, reason: str, status: int) -> None:
        """The connection is closed; ``status`` will be that of the command."""
        self.out(f"Connection closed: {closing(code, reason)}.")

    def results(self, name: str, values: dict[str, Any], lines: list[str]) -> None:
        """A measurement is over, perhaps by Ctrl-C, which terminals show."""
        first, *rest = lines
        for line in (f"\r\x1b[K{first}" if self.style.terminal else first, *rest):
            self.out(line)


class Raw(Session):
    """What other programs read line by line: messages and nothing else. What is wrong goes to standard error.

    Parameters:
        style: what it looks like; only on a terminal is anything escaped.
        out: writes a line to standard output.
        err: writes a line to standard error.
    """

    def __init__(self, style: Style, out: Write, err: Write) -> None:
        super().__init__(style, out, err)
        self.err = err

    def opened(self, uri: str, subprotocol: str | None) -> None:
        """The connection is open: nobody asked."""

    def failed(self, uri: str, exc: BaseException) -> None:
        """The connection couldn't be opened."""
        self.err(f"Failed to connect to {uri}: {error_text(exc)}.")

    def received(self, message: Data) -> None:
        """The peer sent a message."""
        self.out(self.style.stamp() + "\n".join(self.style.lines(message, safe=self.style.terminal)))

    def saved(self, size: int) -> None:
        """A binary message went to a file: nobody asked."""

    def note(self, text: str) -> None:
        """Something else is worth saying."""
        self.err(text)

    def closed(self, code: int, reason: str, status: int) -> None:
        """The connection is closed."""
        if status:
            self.err(f"Connection closed: {closing(code, reason)}.")


class JsonLines:
    """What other programs read without guessing: an object for each event, one a line.

    Every object has ``time``, in UTC, and ``event``: ``open``, ``received``, ``sent``, ``pong``, ``note``, ``closed``,
    ``failed``, ``ping`` or ``bench``.

    Parameters:
        style: tells the time.
        out: writes a line to standard output.
        err: not used.
    """

    def __init__(self, style: Style, out: Write, err: Write) -> None:
        self.style = style
        self.out = out

    def event(self, name: str, **values: Any) -> None:
        """Write an event."""
        time = self.style.now().astimezone(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        self.out(json.dumps({"time": time, "event": name, **values}))

    def opened(self, uri: str, subprotocol: str | None) -> None:
        """The connection is open."""
        self.event("open", uri=uri, subprotocol=subprotocol)

    def failed(self, uri: str, exc: BaseException) -> None:
        """The connection couldn't be opened."""
        self.event("failed", uri=uri, error=type(exc).__name__, text=str(exc))

    def received(self, message: Data) -> None:
        """The peer sent a message."""
        self._message("received", message)

    def saved(self, size: int) -> None:
        """The peer sent a binary message of so many bytes, which went to a file."""
        self.event("received", type="binary", size=size)

    def sent(self, message: Data) -> None:
        """We sent a message."""
        self._message("sent", message)

    def _message(self, name: str, message: Data) -> None:
        if isinstance(message, bytes):
            self.event(name, type="binary", hex=message.hex())
        else:
            self.event(name, type="text", text=message)

    def pong(self, number: int, seconds: float) -> None:
        """A ping was answered."""
        self.event("pong", number=number, seconds=round(seconds, 9))

    def note(self, text: str) -> None:
        """Something else is worth saying."""
        self.event("note", text=text)

    def closed(self, code: int, reason: str, status: int) -> None:
        """The connection is closed."""
        self.event("closed", code=code, reason=reason, status=status)

    def results(self, name: str, values: dict[str, Any], lines: list[str]) -> None:
        """A measurement is over."""
        self.event(name, **values)


FORMATS: dict[str, type[Session] | type[JsonLines]] = {"text": Session, "raw": Raw, "jsonl": JsonLines}

Display = Session | JsonLines
