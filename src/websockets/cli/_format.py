"""Formats for the events of a connection: a session for humans, bare messages, or JSON.

May know: messages, close codes, escape sequences of a terminal. Must not know: connections, the file that the text goes
to, the width of the terminal.

Text from the peer is escaped before it is written to a terminal, so that it can't contain control sequences.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
from collections.abc import Callable
from typing import Any, Final

from ..typing import Data
from ._advice import Advice, End, error_line, of_failure
from ._latency import milliseconds, number_of

__all__ = ["JsonLines", "Raw", "Session", "Style", "colour_allowed", "error_text", "escape", "pretty"]

Write = Callable[[str], None]

# Characters that control a terminal: C0, DEL and C1 (ECMA-48); and those that change the order of text (UAX #9).
find_control = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")

SHORT_ESCAPES = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}

# Select Graphic Rendition (ECMA-48 section 8.3.117).
RESET, DIM, RED, GREEN, YELLOW, BLUE, CYAN = (f"\x1b[{code}m" for code in (0, 2, 31, 32, 33, 34, 36))

# The tokens of JSON from json.dumps(), which writes a space after each colon.
find_token = re.compile(r'(?P<key>"(?:[^"\\]|\\.)*")(?=: )|(?P<string>"(?:[^"\\]|\\.)*")|(?P<other>-?\b[\w.+-]+)')
TOKEN_COLOURS = {"key": BLUE, "string": GREEN, "other": YELLOW}


def escape(text: str) -> str:
    """Return text in which characters that control a terminal are escaped."""
    return find_control.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return SHORT_ESCAPES.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def error_text(exc: BaseException) -> str:
    """Return the text of an exception, with its notes, safe for a terminal."""
    return escape(error_line(exc))


def colour_allowed(terminal: bool, environ: dict[str, str]) -> bool:
    """Return whether to use colours: on a terminal that supports them, unless ``NO_COLOR`` is set."""
    return terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def pretty(text: str, colour: bool = False) -> list[str] | None:
    """Return the lines of a JSON object or array, indented and safe for a terminal; None for any other text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict | list):
        return None
    # Only strings can still contain such characters, and JSON can escape them there.
    lines = [
        find_control.sub(_json_escaped, line) for line in json.dumps(value, indent=2, ensure_ascii=False).split("\n")
    ]
    return [find_token.sub(_coloured, line) for line in lines] if colour else lines


def _json_escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _coloured(match: re.Match[str]) -> str:
    assert match.lastgroup is not None
    return f"{TOKEN_COLOURS[match.lastgroup]}{match[0]}{RESET}"


# Bytes of a binary message that a terminal shows.
SHOWN: Final = 256


def _cut(message: bytes) -> str:
    """Return a binary message for a terminal: if it is long, its beginning and its size."""
    if len(message) <= SHOWN:
        return message.hex()
    return f"{message[:SHOWN].hex()}... ({number_of(len(message), 'byte')})"


@dataclasses.dataclass(frozen=True)
class Style:
    """Style of the output: the user's options, and the abilities of the output.

    Parameters:
        json: whether JSON in messages is indented.
        times: whether the time is shown before each message.
        colour: whether colours may be used.
        terminal: whether a terminal shows the text.
        now: returns the time.
    """

    json: bool = False
    times: bool = False
    colour: bool = False
    terminal: bool = False
    now: Callable[[], datetime.datetime] = dataclasses.field(
        default=lambda: datetime.datetime.now().astimezone(), repr=False
    )

    def tint(self, colour: str, text: str) -> str:
        """Return the text in a colour, if colours are allowed."""
        return f"{colour}{text}{RESET}" if self.colour else text

    def stamp(self) -> str:
        """Return the time of day and a space, or nothing if times aren't shown."""
        if not self.times:
            return ""
        return self.tint(DIM, self.now().strftime("%H:%M:%S.%f")[:-3]) + " "

    def lines(self, message: Data, safe: bool) -> list[str]:
        """Return a message as lines, several only for indented JSON; with ``safe``, escape text for a terminal."""
        if isinstance(message, bytes):
            return [_cut(message) if safe and self.terminal else message.hex()]
        indented = pretty(message, self.colour) if self.json else None
        return indented or [escape(message) if safe else message]


def _tell(write: Write, begin: str, advice: Advice) -> None:
    """Write what happened, on a line that begins so; then more lines, and what to do."""
    write(f"{begin}{escape(advice.text)}.")
    for line in advice.details:
        write(f"  {escape(line)}")
    if advice.hint:
        write(f"Hint: {escape(advice.hint)}")


class Session:
    """Format for humans: the messages of both sides, the beginning and the end of the connection.

    Parameters:
        style: style of the output.
        out: writes a line to standard output.
        err: not used, because everything goes to standard output.
    """

    def __init__(self, style: Style, out: Write, err: Write) -> None:
        self.style = style
        self.out = out

    def opened(self, uri: str, subprotocol: str | None) -> None:
        """Report that the connection is open."""
        self.out(f"Connected to {uri}.")
        if subprotocol is not None:
            self.out(f"Subprotocol: {escape(subprotocol)}.")

    def included(self, head: list[str], headers: list[tuple[str, str]]) -> None:
        """Show the head of the response that opened the connection."""
        for line in head:
            self.out(escape(line))

    def failed(self, uri: str, exc: BaseException) -> None:
        """Report that the connection couldn't be opened, why, and what to do."""
        _tell(self.out, f"Failed to connect to {uri}: ", of_failure(uri, exc))

    def received(self, message: Data) -> None:
        """Report a message from the peer."""
        first, *rest = self.style.lines(message, safe=True)
        mark = "< (binary) " if isinstance(message, bytes) else "< "
        for line in (self.style.stamp() + mark + first, *(f"  {line}" for line in rest)):
            self.out(line)

    def saved(self, size: int) -> None:
        """Report a binary message of *size* bytes from the peer, which was saved to a file."""
        self.out(f"{self.style.stamp()}< (binary) {number_of(size, 'byte')} saved")

    def sent(self, message: Data) -> None:
        """Ignore a message sent by us, because the user has typed it."""

    def pong(self, number: int, seconds: float) -> None:
        """Report the answer to a ping."""
        self.out(f"{self.style.stamp()}pong {number}: {milliseconds(seconds)} ms")

    def note(self, text: str) -> None:
        """Report a note for the user."""
        self.out(text)

    def closed(self, end: End, status: int) -> None:
        """Report that the connection is closed; ``status`` is the future status of the command."""
        _tell(self.out, "Connection closed: ", end.advice)

    def results(self, name: str, values: dict[str, Any], lines: list[str]) -> None:
        """Report the results of a measurement; on a terminal, they overwrite the ``^C`` that may be shown."""
        first, *rest = lines
        for line in (f"\r\x1b[K{first}" if self.style.terminal else first, *rest):
            self.out(line)


class Raw(Session):
    """Format for programs that read lines: only messages. Errors go to standard error.

    Parameters:
        style: style of the output; text is escaped only on a terminal.
        out: writes a line to standard output.
        err: writes a line to standard error.
    """

    def __init__(self, style: Style, out: Write, err: Write) -> None:
        super().__init__(style, out, err)
        self.err = err

    def opened(self, uri: str, subprotocol: str | None) -> None:
        """Write nothing, because only messages are written."""

    def failed(self, uri: str, exc: BaseException) -> None:
        """Report that the connection couldn't be opened, why, and what to do."""
        _tell(self.err, f"Failed to connect to {uri}: ", of_failure(uri, exc))

    def received(self, message: Data) -> None:
        """Report a message from the peer."""
        self.out(self.style.stamp() + "\n".join(self.style.lines(message, safe=self.style.terminal)))

    def saved(self, size: int) -> None:
        """Write nothing, because the message went to a file."""

    def note(self, text: str) -> None:
        """Report a note for the user."""
        self.err(text)

    def closed(self, end: End, status: int) -> None:
        """Report that the connection is closed."""
        if status:
            _tell(self.err, "Connection closed: ", end.advice)


class JsonLines:
    """Format for programs: one JSON object on a line for each event.

    Every object has ``time``, in UTC, and ``event``: ``open``, ``response``, ``received``, ``sent``, ``pong``,
    ``note``, ``closed``, ``failed``, ``ping`` or ``bench``.

    Parameters:
        style: gives the time; nothing else of it is used.
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
        """Report that the connection is open."""
        self.event("open", uri=uri, subprotocol=subprotocol)

    def included(self, head: list[str], headers: list[tuple[str, str]]) -> None:
        """Show the headers of the response that opened the connection."""
        self.event("response", headers=headers)

    def failed(self, uri: str, exc: BaseException) -> None:
        """Report that the connection couldn't be opened, why, and what to do."""
        advice = of_failure(uri, exc)
        self.event(
            "failed",
            uri=uri,
            error=type(exc).__name__,
            text=advice.text,
            details=list(advice.details),
            hint=advice.hint,
        )

    def received(self, message: Data) -> None:
        """Report a message from the peer."""
        self._message("received", message)

    def saved(self, size: int) -> None:
        """Report a binary message of *size* bytes from the peer, which was saved to a file."""
        self.event("received", type="binary", size=size)

    def sent(self, message: Data) -> None:
        """Report a message sent by us."""
        self._message("sent", message)

    def _message(self, name: str, message: Data) -> None:
        if isinstance(message, bytes):
            self.event(name, type="binary", hex=message.hex())
        else:
            self.event(name, type="text", text=message)

    def pong(self, number: int, seconds: float) -> None:
        """Report the answer to a ping."""
        self.event("pong", number=number, seconds=round(seconds, 9))

    def note(self, text: str) -> None:
        """Report a note for the user."""
        self.event("note", text=text)

    def closed(self, end: End, status: int) -> None:
        """Report that the connection is closed."""
        self.event(
            "closed",
            code=end.code,
            reason=end.reason,
            status=status,
            text=end.advice.text,
            hint=end.advice.hint,
        )

    def results(self, name: str, values: dict[str, Any], lines: list[str]) -> None:
        """Report the results of a measurement."""
        self.event(name, **values)


FORMATS: dict[str, type[Session] | type[JsonLines]] = {"text": Session, "raw": Raw, "jsonl": JsonLines}

Display = Session | JsonLines
