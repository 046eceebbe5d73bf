"""The command ``websockets URI``: from options to a connection, on the terminal or between pipes.

May know: options, standard input and output, the plan for a connection. Must not know: how the plan is carried out.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import datetime
import functools
import io
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, TextIO

from ..asyncio.client import ClientConnection
from ..exceptions import InvalidURI
from ..typing import Data
from ._again import KeptLines, again_and_again
from ._facts import head_of, headers_of_response, reached
from ._format import FORMATS, Display, Style, colour_allowed, escape
from ._ping import Ping
from ._screen import Screen, Terminal, read_lines, standard_lines, typed_lines
from ._signals import ONCE, Interruption, handled
from ._status import HANDSHAKE, INTERRUPTED, UsageError
from ._talk import COMMANDS, Lines, Plan, Talk, contents, nothing_more, on_connection
from ._target import Target, asker, target_of, visible_uri

__all__ = ["display_for", "is_conversation", "is_terminal", "run", "run_client", "set_up_logs", "standard_screen"]

# Seconds between pings, and seconds to wait for more messages, unless options say otherwise.
DEFAULT_SECONDS: Final = 1.0

# Options about messages.
PINGS_HAVE_NO: Final = ("messages", "expect", "wait", "save", "hex", "slash", "json", "replay", "reconnect")

# An option, whether it must be given or must not be, and the options that have no effect otherwise.
EFFECTS: Final = (
    *(("ping", False, name, "with --ping") for name in PINGS_HAVE_NO),
    *(("ping", True, name, "without --ping") for name in ("count", "interval")),
    *(("messages", False, name, "with --send, which replaces lines") for name in ("hex", "slash")),
    *(("replay", False, name, "with --replay, which replaces lines") for name in ("hex", "slash")),
    ("verbose", False, "show_pings", "with --verbose, which shows all frames"),
    ("insecure", False, "ca", "with --insecure"),
)

# What the library marks: what was sent and received, and what changed.
MARKED: Final = re.compile("[<>=%!x] ").match

LONG_FORMAT: Final = "%(asctime)s %(name)s %(levelname)s %(message)s"

# Lines of the log about pings and pongs, in both directions.
ABOUT_PINGS: Final = re.compile("[<>] P[IO]NG ").match

LinesFactory = Callable[[], Lines]


class LogHandler(logging.Handler):
    """Logs to a screen, above the prompt if there is one.

    Parameters:
        screen: where to write.
    """

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self.screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; ``logging`` calls this method."""
        try:
            for line in self.format(record).splitlines():
                self.screen.complain(line)
        except OSError:  # the terminal was closed
            self.handleError(record)


class ShortFormatter(logging.Formatter):
    """Formats what happens on one connection: what the library marks by itself stays, other lines begin with ``*``."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; ``logging`` calls this method."""
        text = super().format(record)
        return text if MARKED(text) else f"* {text}"


def set_up_logs(level: int, screen: Screen, short: bool = False) -> None:
    """Log on standard error.

    Parameters:
        level: the lowest level to log; 0 to leave the default behaviour of ``logging``.
        screen: the screen with standard error.
        short: whether lines have a mark in front of them instead of the time and more; False by default.
    """
    if level:
        handler = LogHandler(screen)
        handler.setFormatter(ShortFormatter() if short else logging.Formatter(LONG_FORMAT))
        logging.basicConfig(level=level, handlers=[handler])
        logging.getLogger("asyncio").setLevel(logging.WARNING)


def run(work: Coroutine[Any, Any, int], once: frozenset[str] = ONCE) -> int:
    """Run a coroutine; Ctrl-C, SIGTERM and SIGHUP end it: the first in good order, the second immediately.

    Parameters:
        work: the coroutine, which returns a status.
        once: names of signals that count only once, even if they are repeated.

    Returns:
        The status for the shell.
    """
    interruption = Interruption(once)

    async def interruptible() -> int:
        interruption.begin(asyncio.current_task())
        return await work

    with handled(interruption):
        try:
            return asyncio.run(interruptible())
        except asyncio.CancelledError:
            return INTERRUPTED


# --------------------------------------------------------------------------------------------------------------- output


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a stream is a terminal."""
    return stream is not None and stream.isatty()


def standard_screen(prompt: bool = False) -> Screen:
    """Return a screen of standard output and error; characters outside their encoding are shown as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return Screen(sys.stdout, sys.stderr, prompt)


def display_for(options: argparse.Namespace, kind: str, screen: Screen) -> Display:
    """Return the display that reports events in the chosen format."""
    terminal = is_terminal(sys.stdout)
    style = Style(
        json=options.json,
        times=options.timestamps,
        colour=colour_allowed(terminal, dict(os.environ)),
        terminal=terminal,
    )
    return FORMATS[kind](style, screen.line, screen.complain)


def is_conversation(options: argparse.Namespace) -> bool:
    """Return whether a human types and reads, and not a program."""
    batch = options.messages or options.replay or options.expect or options.ping or options.format not in (None, "text")
    return not batch and is_terminal(sys.stdin) and is_terminal(sys.stdout)


def check_effects(options: argparse.Namespace) -> None:
    """Check that no option stays without effect because of another one.

    Raises:
        UsageError: one does.
    """
    given = {name for name, value in vars(options).items() if value not in (None, False, [], ())}
    for present, wanted, name, rest in EFFECTS:
        if name in given and (present in given) is not wanted:
            raise UsageError(f"{_spelled(name, options)} has no effect {rest}")
    if options.json and options.format == "jsonl":
        raise UsageError("--json has no effect with --format jsonl")


def _spelled(name: str, options: argparse.Namespace) -> str:
    """Return an option as the user wrote it."""
    return f"--{options.messages[0][0]}" if name == "messages" else f"--{name.replace('_', '-')}"


def default_format(options: argparse.Namespace) -> str:
    """Return the default format: for programs if options say what to send or expect, else the session for humans."""
    return "raw" if options.messages or options.replay or options.expect else "text"


# ---------------------------------------------------------------------------------------------------------------- plans


def messages_of(given: Sequence[tuple[str, Any]] | None) -> list[Data]:
    """Return the messages that the options ask to send.

    Raises:
        UsageError: a file can't be read.
    """
    return [_message(kind, value) for kind, value in given or ()]


def _message(kind: str, value: Any) -> Data:
    if kind != "send-file":
        return value  # type: ignore[no-any-return]
    try:
        return contents(value)
    except OSError as exc:
        raise UsageError(f"can't read {value}: {exc}") from exc


def lines_for(options: argparse.Namespace, terminal: Terminal | None, screen: Screen) -> LinesFactory | None:
    """Return the source of lines to send, None if there is none."""
    if terminal is not None:
        return lambda: typed_lines(screen, terminal)
    if options.messages or options.replay or (options.expect and is_terminal(sys.stdin)) or sys.stdin is None:
        return None
    return lambda: read_lines(standard_lines(sys.stdin))


def terminal_for(options: argparse.Namespace) -> contextlib.AbstractContextManager[Terminal | None]:
    """Return the terminal at which a user types; None if there is none."""
    if not is_conversation(options):
        return contextlib.nullcontext()
    return Terminal(COMMANDS if options.slash else (), history_file(dict(os.environ)))


def history_file(environ: dict[str, str]) -> Path | None:
    """Return the file of the history: ``WEBSOCKETS_HISTORY`` names it; an empty value means that there is none."""
    if "WEBSOCKETS_HISTORY" in environ:
        return Path(environ["WEBSOCKETS_HISTORY"]) if environ["WEBSOCKETS_HISTORY"] else None
    try:
        state = environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError:  # the user has no home, as in some containers
        return None
    return Path(state) / "websockets" / "history"


def recorded(path: str) -> list[tuple[float, Data]]:
    """Return the messages that were sent when a file was recorded, each with the seconds after the first event.

    Raises:
        UsageError: the file can't be read, or isn't such a record.
    """
    try:
        lines = contents(path).decode().splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"can't read {path}: {exc}") from exc
    events: list[tuple[float, Data]] = []
    begun = None
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
            time = datetime.datetime.fromisoformat(event["time"]).timestamp()
            begun = time if begun is None else begun
            if event["event"] == "sent":
                events.append((time - begun, _recorded(event)))
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise UsageError(f"line {number} of {path} isn't a line from --format jsonl") from exc
    return events


def _recorded(event: dict[str, str]) -> Data:
    return event["text"] if event["type"] == "text" else bytes.fromhex(event["hex"])


@contextlib.contextmanager
def saved(path: str | None) -> Iterator[BinaryIO | None]:
    """Open the file to which binary messages are appended; ``-`` is standard output.

    Raises:
        UsageError: the file can't be written.
    """
    if path is None or path == "-":
        yield None if path is None else sys.stdout.buffer
        return
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "ab"))
        except OSError as exc:
            raise UsageError(f"can't write {path}: {exc}") from exc
        yield file


def run_client(options: argparse.Namespace) -> int:
    """Run the command with these options.

    Returns:
        The status for the shell.

    Raises:
        UsageError: the options are invalid.
    """
    check_effects(options)
    screen = standard_screen()
    set_up_logs(logging.DEBUG if options.verbose else 0, screen, short=True)
    display = display_for(options, options.format or default_format(options), screen)
    try:
        target = target_of(options, dict(os.environ), asker())
    except InvalidURI as exc:
        display.failed(visible_uri(options.uri), exc)
        return HANDSHAKE
    opened = functools.partial(tell_more, options, display, screen)
    with shown_pings(display) if options.show_pings else contextlib.nullcontext():
        if options.ping:
            interval = DEFAULT_SECONDS if options.interval is None else options.interval
            return run(on_connection(target, display, Ping(options.count, interval, display), opened=opened))
        return converse(options, target, display, screen, opened)


def tell_more(options: argparse.Namespace, display: Display, screen: Screen, connection: ClientConnection) -> None:
    """Report what the options ask for about a connection that is open."""
    if options.verbose:
        for line in reached(connection):
            screen.complain(escape(f"* {line}"))
    if options.include:
        display.included(head_of(connection), headers_of_response(connection))


class PingHandler(logging.Handler):
    """Reports pings and pongs, of which only the log of the library tells.

    Parameters:
        display: where to report.
    """

    def __init__(self, display: Display) -> None:
        super().__init__()
        self.display = display

    def emit(self, record: logging.LogRecord) -> None:
        """Report a record; ``logging`` calls this method."""
        text = record.getMessage()
        if ABOUT_PINGS(text):
            self.display.note(text)


@contextlib.contextmanager
def shown_pings(display: Display) -> Iterator[None]:
    """Report pings and pongs during a ``with`` block."""
    logger, handler = logging.getLogger("websockets.client"), PingHandler(display)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


def converse(
    options: argparse.Namespace,
    target: Target,
    display: Display,
    screen: Screen,
    opened: Callable[[ClientConnection], None] = nothing_more,
) -> int:
    """Send and receive messages.

    Returns:
        The status for the shell.
    """
    with saved(options.save) as save, terminal_for(options) as terminal:
        plan = Plan(
            messages=messages_of(options.messages),
            lines=lines_for(options, terminal, screen),
            typed=terminal is not None,
            hexadecimal=options.hex,
            slash=options.slash,
            expect=options.expect,
            wait=DEFAULT_SECONDS if options.wait is None else options.wait,
            save=save,
            replay=recorded(options.replay) if options.replay else (),
        )
        if options.reconnect:
            return run(keep_talking(target, display, plan, opened))
        return run(on_connection(target, display, Talk(plan, display), opened=opened))


async def keep_talking(target: Target, display: Display, plan: Plan, opened: Callable[[ClientConnection], None]) -> int:
    """Send and receive messages on one connection after the other.

    Returns:
        The status for the shell.
    """
    if plan.lines is None:
        return await again_and_again(target, display, Talk(plan, display), opened=opened)
    kept = KeptLines(plan.lines())
    try:
        work = Talk(dataclasses.replace(plan, lines=lambda: kept), display)
        return await again_and_again(target, display, work, opened=opened)
    finally:
        await kept.end()
