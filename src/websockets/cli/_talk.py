"""One connection of a client: sending, receiving, its end, and its status.

May know: connections on asyncio, lines, how events are reported. Must not know: argparse, terminals.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from .._codec.header import MAX_CONTROL_PAYLOAD
from ..asyncio.client import ClientConnection
from ..exceptions import ConcurrencyError, ConnectionClosed, ProtocolError, WebSocketException
from ..frames import Close, CloseCode
from ..typing import Data
from ._advice import of_end
from ._format import Display, error_text
from ._latency import milliseconds
from ._status import ABNORMAL, HANDSHAKE, OK, UsageError, of_close
from ._target import Target

__all__ = ["COMMANDS", "FAILURES", "HELP", "Lines", "Plan", "Talk", "Work", "command", "contents", "on_connection"]

HELP = """\
/ping [TEXT]           send a ping, and show the round trip
/pong [TEXT]           send a pong
/hex HEX               send a binary message
/file PATH             send a file as a binary message
/close [CODE [REASON]] close the connection
//TEXT                 send /TEXT"""


COMMANDS: Final = ("help", "ping", "pong", "hex", "file", "close")


class Lines(Protocol):
    """Lines to send, from a generator for one connection, or from something that outlives it."""

    def __aiter__(self) -> AsyncIterator[str]:
        """Return the iterator over the lines."""
        ...

    def aclose(self) -> Awaitable[None]:
        """End the lines, as far as they belong to the connection."""
        ...


@dataclasses.dataclass(frozen=True)
class Plan:
    """The plan for a connection.

    Parameters:
        messages: messages to send first; none by default.
        lines: source of lines to send after them; None (the default) for none.
        typed: whether a user types the lines: errors are shown, and the end of the lines closes the connection; False
            by default.
        hexadecimal: whether lines are binary messages in hexadecimal digits; False by default.
        slash: whether a line that begins with a slash is a command; False by default.
        expect: number of messages after which to end; None (the default) to continue until the connection is closed.
        wait: seconds without a message after which to end, when everything is sent; 1.0 by default.
        save: file for the binary messages received; None (the default) to show them.
        replay: messages to send, each with the seconds after the beginning; none by default.
    """

    messages: Sequence[Data] = ()
    lines: Callable[[], Lines] | None = None
    typed: bool = False
    hexadecimal: bool = False
    slash: bool = False
    expect: int | None = None
    wait: float = 1.0
    save: BinaryIO | None = None
    replay: Sequence[tuple[float, Data]] = ()


class Work(Protocol):
    """Work to do on a connection."""

    async def __call__(self, connection: ClientConnection) -> None:
        """Do the work. It may raise ConnectionClosed, because the caller reports how the connection ended."""

    def status(self) -> int:
        """Return the status of the work, complete or interrupted."""
        ...


# Seconds after which the command says that closing takes its time.
PATIENCE: Final = 1.0


def nothing_more(connection: ClientConnection) -> None:
    """Report nothing about a connection that is open."""


# Exceptions of connecting that are caused by the server, the network, a proxy or the URI.
FAILURES = (OSError, WebSocketException, ValueError, ImportError)


async def on_connection(
    target: Target,
    display: Display,
    work: Work,
    *,
    opened: Callable[[ClientConnection], None] = nothing_more,
    failures: list[BaseException] | None = None,
) -> int:
    """Connect, do some work, close the connection, and report the result. Cancelling ends the work in good order.

    Parameters:
        target: the server.
        display: where to report.
        work: what to do on the connection.
        opened: reports more about the connection when it is open; nothing by default.
        failures: list to which the exception is added if there is no connection; none by default.

    Returns:
        The status of the command: the worse of the status of the work and the status for the close code.

    Raises:
        UsageError: the work is impossible.
        OSError: the output can't be written.
    """
    deadline = None if target.timeout is None else asyncio.get_running_loop().time() + target.timeout
    try:
        connection = await target.connect()
    except FAILURES as exc:
        display.failed(target.name, exc)
        if failures is not None:
            failures.append(exc)
        return HANDSHAKE
    try:
        display.opened(target.name, connection.subprotocol)
        opened(connection)
        in_time = await _until(deadline, work(connection))
        if not in_time:
            display.note(f"Timed out after {target.timeout:g} seconds.")
    finally:
        await _close(connection, display)
    # Waiting for the end gives its cause, which is no part of the protocol.
    end = of_end(await _how_it_ended(connection))
    status = max(work.status() if in_time else ABNORMAL, of_close(end.code))
    display.closed(end, status)
    return status


async def _close(connection: ClientConnection, display: Display) -> None:
    """Close the connection; tell a user who waits why."""
    closing = asyncio.ensure_future(connection.close())
    try:
        await asyncio.wait({closing}, timeout=PATIENCE)
        if not closing.done():
            display.note("Waiting for the server to close the connection; Ctrl-C ends it at once.")
        await closing
    finally:
        closing.cancel()


async def _how_it_ended(connection: ClientConnection) -> ConnectionClosed:
    """Return the exception that calls raise after the end; messages that nobody read are dropped."""
    while True:
        try:
            await connection.recv(decode=False)
        except ConnectionClosed as exc:
            return exc


async def _until(deadline: float | None, work: Awaitable[None]) -> bool:
    """Await the work until it is done, the connection closes, or Ctrl-C; return False if the deadline passes first."""
    limit = asyncio.timeout_at(deadline)
    try:
        async with limit:
            await work
    except (ConnectionClosed, asyncio.CancelledError):
        pass  # Ctrl-C is a normal end; the close code gives the status for the end of the connection
    except TimeoutError:
        if not limit.expired():
            raise
        return False
    return True


class Talk:
    """Sends and receives as planned. Call it with a connection.

    Parameters:
        plan: the plan for the connection.
        display: where to report.

    Attributes:
        count: the number of messages received, on all connections.
        lost: whether the last connection ended before the plan was complete.
    """

    def __init__(self, plan: Plan, display: Display) -> None:
        self.plan = plan
        self.display = display
        self.count = 0
        self.lost = False
        self._closing = False  # by a command that the user typed
        self._arrived = 0.0

    async def __call__(self, connection: ClientConnection) -> None:
        """Send and receive until the plan is complete.

        Raises:
            UsageError: a message of the plan can't be sent.
            OSError: the output can't be written.
        """
        self.lost = False
        receiver = asyncio.create_task(self._receive(connection))
        sender = asyncio.create_task(self._send(connection))
        try:
            await asyncio.wait({receiver, sender}, return_when=asyncio.FIRST_COMPLETED)
            if not receiver.done():
                await self._after_sending(receiver, sender.result())
            if receiver.done():
                receiver.result()
        finally:
            receiver.cancel()
            sender.cancel()
            await asyncio.gather(receiver, sender, return_exceptions=True)

    def status(self) -> int:
        """Return the status: OK if all expected messages arrived."""
        return OK if self.plan.expect is None or self.count >= self.plan.expect else ABNORMAL

    async def _after_sending(self, receiver: asyncio.Task[None], open_yet: bool) -> None:
        """Wait until ``receiver`` ends; if no number of messages is expected, only as long as messages arrive."""
        if self.plan.expect is not None or not open_yet or self.plan.wait == math.inf:
            await asyncio.wait({receiver})
        elif not self.plan.typed:
            clock = asyncio.get_running_loop().time
            self._arrived = clock()
            while not receiver.done() and (left := self._arrived + self.plan.wait - clock()) > 0:
                await asyncio.wait({receiver}, timeout=left)

    # -------------------------------------------------------------------------------------------------------- receiving

    async def _receive(self, connection: ClientConnection) -> None:
        """Receive and report messages, until all expected ones arrived or the connection is closed."""
        try:
            while self.plan.expect is None or self.count < self.plan.expect:
                message = await connection.recv()
                self.count += 1
                self._arrived = connection.loop.time()
                if self.plan.save is not None and isinstance(message, bytes):
                    self.plan.save.write(message)
                    self.plan.save.flush()
                    self.display.saved(len(message))
                else:
                    self.display.received(message)
        except ConnectionClosed:
            self.lost = not self._closing

    # ---------------------------------------------------------------------------------------------------------- sending

    async def _send(self, connection: ClientConnection) -> bool:
        """Send all messages and lines; return False if the connection is closed before that."""
        try:
            for message in self.plan.messages:
                await self._send_message(connection, message)
            await self._replay(connection)
            if self.plan.lines is not None:
                await self._send_lines(connection, self.plan.lines())
        except ConnectionClosed:
            return False
        return True

    async def _send_message(self, connection: ClientConnection, message: Data) -> None:
        await connection.send(message)
        self.display.sent(message)

    async def _replay(self, connection: ClientConnection) -> None:
        begun = asyncio.get_running_loop().time()
        for offset, message in self.plan.replay:
            await asyncio.sleep(begun + offset - asyncio.get_running_loop().time())
            await self._send_message(connection, message)

    async def _send_lines(self, connection: ClientConnection, lines: Lines) -> None:
        number = 0
        try:
            async with contextlib.aclosing(lines):
                async for line in lines:
                    number += 1
                    await self._try_line(connection, line, number)
        except UnicodeDecodeError as exc:
            raise UsageError(f"line {number + 1} of the input isn't UTF-8") from exc

    async def _try_line(self, connection: ClientConnection, line: str, number: int) -> None:
        try:
            await self._send_line(connection, line)
        except (ValueError, OSError, ConcurrencyError) as exc:
            if not self.plan.typed:
                raise UsageError(f"line {number} of the input: {error_text(exc)}") from exc
            self.display.note(f"Not sent: {error_text(exc)}.")  # the user can correct it

    async def _send_line(self, connection: ClientConnection, line: str) -> None:
        """Send a line, or run the command in it.

        Raises:
            ValueError: the line can't be sent, or the command is invalid.
            OSError: a file can't be read.
        """
        if self.plan.slash and line.startswith("/"):
            if not line.startswith("//"):
                await self._obey(connection, *command(line))
                return
            line = line[1:]
        await self._send_message(connection, hexadecimal(line) if self.plan.hexadecimal else line)

    async def _obey(self, connection: ClientConnection, name: str, argument: str) -> None:
        if name == "help":
            for line in HELP.splitlines():
                self.display.note(line)
        elif name in ("hex", "file"):
            await self._send_message(connection, hexadecimal(argument) if name == "hex" else contents(argument))
        elif name == "close":
            self._closing = True
            await connection.close(*close_arguments(argument))
        elif name == "pong":
            await connection.pong(control_payload(argument))
        else:
            waiter = await connection.ping(control_payload(argument) or None)
            asyncio.ensure_future(waiter).add_done_callback(self._ponged)

    def _ponged(self, waiter: asyncio.Future[float]) -> None:
        if not waiter.cancelled() and waiter.exception() is None:
            self.display.note(f"pong: {milliseconds(waiter.result())} ms")


def hexadecimal(text: str) -> bytes:
    """Return bytes, from two hexadecimal digits each; spaces between them are allowed.

    Raises:
        ValueError: the text has other characters, or an odd number of digits.
    """
    try:
        return bytes.fromhex(text)
    except ValueError as exc:
        raise ValueError("not pairs of hexadecimal digits") from exc


def contents(path: str) -> bytes:
    """Return the contents of a file, or of standard input for ``-``."""
    return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()


# ------------------------------------------------------------------------------------------------------------- commands


def command(line: str) -> tuple[str, str]:
    """Return the name of a command and its argument.

    Raises:
        ValueError: there is no such command.
    """
    name, _, argument = line[1:].partition(" ")
    if name not in COMMANDS:
        raise ValueError(f"there is no command /{name}; see /help")
    return name, argument


def close_arguments(argument: str) -> tuple[int, str]:
    """Return the code and the reason for a Close (RFC 6455 section 7.4).

    Raises:
        ValueError: they can't be sent.
    """
    number, _, reason = argument.partition(" ")
    try:
        close = Close(int(number or CloseCode.NORMAL_CLOSURE), reason)
        control_payload(close.serialize())
    except ProtocolError as exc:
        raise ValueError(str(exc)) from exc
    return close.code, close.reason


def control_payload(data: str | bytes) -> bytes:
    """Return the payload of a control frame as bytes (RFC 6455 section 5.5).

    Raises:
        ValueError: the payload is too long.
    """
    payload = data.encode() if isinstance(data, str) else data
    if len(payload) > MAX_CONTROL_PAYLOAD:
        raise ValueError(f"more than {MAX_CONTROL_PAYLOAD} bytes")
    return payload
