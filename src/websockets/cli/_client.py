"""The command ``websockets URI``: from options to a connection, on the terminal or between pipes.

May know: options, standard input and output, the plan for a connection. Must not know: how the plan is carried out.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import logging
import os
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from typing import Any, BinaryIO, Final, TextIO

from ..exceptions import InvalidURI
from ..typing import Data
from ._format import FORMATS, Display, Style, colour_allowed
from ._ping import Ping
from ._screen import Screen, Terminal, read_lines, standard_lines, typed_lines
from ._signals import ONCE, Interruption, handled
from ._status import HANDSHAKE, INTERRUPTED, UsageError
from ._talk import Plan, Talk, contents, on_connection
from ._target import Target, asker, target_of, visible_uri

__all__ = ["display_for", "is_conversation", "is_terminal", "run", "run_client", "set_up_logs", "standard_screen"]

# Seconds between pings, and seconds to wait for more messages, unless options say otherwise.
DEFAULT_SECONDS: Final = 1.0

# An option, whether it must be given or must not be, and the options that have no effect otherwise.
EFFECTS: Final = (
    *(("ping", False, name, "with --ping") for name in ("messages", "expect", "wait", "save", "hex", "slash", "json")),
    *(("ping", True, name, "without --ping") for name in ("count", "interval")),
    *(("messages", False, name, "with --send, which replaces lines") for name in ("hex", "slash")),
    ("expect", False, "wait", "with --expect"),
    ("insecure", False, "ca", "with --insecure"),
)

LinesFactory = Callable[[], AsyncGenerator[str, None]]


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


def set_up_logs(level: int, screen: Screen) -> None:
    """Log on standard error.

    Parameters:
        level: the lowest level to log; 0 to leave the default behaviour of ``logging``.
        screen: the screen with standard error.
    """
    if level:
        form = "%(asctime)s %(name)s %(levelname)s %(message)s"
        logging.basicConfig(format=form, level=level, handlers=[LogHandler(screen)])
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
    batch = options.messages or options.expect or options.ping or options.format not in (None, "text")
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
    return "raw" if options.messages or options.expect else "text"


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
    if options.messages or (options.expect and is_terminal(sys.stdin)) or sys.stdin is None:
        return None
    return lambda: read_lines(standard_lines(sys.stdin))


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
    set_up_logs(logging.DEBUG if options.verbose else 0, screen)
    display = display_for(options, options.format or default_format(options), screen)
    try:
        target = target_of(options, dict(os.environ), asker())
    except InvalidURI as exc:
        display.failed(visible_uri(options.uri), exc)
        return HANDSHAKE
    if options.ping:
        interval = DEFAULT_SECONDS if options.interval is None else options.interval
        return run(on_connection(target, display, Ping(options.count, interval, display)))
    return converse(options, target, display, screen)


def converse(options: argparse.Namespace, target: Target, display: Display, screen: Screen) -> int:
    """Send and receive messages.

    Returns:
        The status for the shell.
    """
    with saved(options.save) as save, Terminal() if is_conversation(options) else contextlib.nullcontext() as terminal:
        plan = Plan(
            messages=messages_of(options.messages),
            lines=lines_for(options, terminal, screen),
            typed=terminal is not None,
            hexadecimal=options.hex,
            slash=options.slash,
            expect=options.expect,
            wait=DEFAULT_SECONDS if options.wait is None else options.wait,
            save=save,
        )
        return run(on_connection(target, display, Talk(plan, display)))
