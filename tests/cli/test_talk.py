"""What is sent and received on a connection, when it ends, and with which status: on a clock of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import io
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from _kit import idle, virtual
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.cli._format import Session, Style
from websockets.cli._ping import Ping
from websockets.cli._status import UsageError
from websockets.cli._talk import HELP, Plan, Talk, close_arguments, command, contents, control_payload, on_connection
from websockets.cli._target import Target

Handler = Callable[[ServerConnection], Awaitable[None]]


class Log(Session):
    """A display that remembers, as tuples, what it was told."""

    def __init__(self) -> None:
        super().__init__(Style(), self.write, self.write)
        self.lines: list[str] = []
        self.numbers: dict[str, Any] = {}

    def write(self, line: str) -> None:
        self.lines.append(line)

    def sent(self, message: str | bytes) -> None:
        self.lines.append(f"> {message!r}")

    def results(self, name: str, values: dict[str, Any], lines: list[str]) -> None:
        self.numbers = {name: values}
        super().results(name, values, lines)


def target(server: Server, timeout: float | None = None) -> Target:
    port = next(iter(server.sockets)).getsockname()[1]
    return Target(f"ws://localhost:{port}", {}, timeout=timeout)


@contextlib.asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[Server]:
    async with serve(handler, "localhost", 0) as server:
        yield server


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def talk(handler: Handler, plan: Plan, timeout: float | None = None) -> tuple[int, list[str]]:
    """Run a conversation; gives the status, and what was told but where it connected to."""
    log = Log()
    async with served(handler) as server:
        status = await on_connection(target(server, timeout), log, Talk(plan, log))
    assert log.lines.pop(0).startswith("Connected to ws://localhost:")
    return status, log.lines


def lines(*texts: str, then: Callable[[], Awaitable[Any]] | None = None) -> Callable[[], AsyncGenerator[str, None]]:
    async def generate() -> AsyncGenerator[str, None]:
        for text in texts:
            yield text
        if then is not None:
            await then()

    return generate


def now() -> float:
    return asyncio.get_running_loop().time()


OK = "Connection closed: 1000 (OK)."


# ------------------------------------------------------------------------------------------------------ when it is over


@virtual
async def test_messages_are_sent_and_answers_shown_until_it_is_quiet() -> None:
    begun = now()
    status, told = await talk(echo, Plan(messages=["hello", b"\x01"], wait=2))
    assert (status, told) == (0, ["> 'hello'", "> b'\\x01'", "< hello", "< (binary) 01", OK])
    assert now() - begun == pytest.approx(2)


@virtual
async def test_every_message_makes_the_wait_longer() -> None:
    async def tick(connection: ServerConnection) -> None:
        for number in range(4):
            await asyncio.sleep(0.9)
            await connection.send(str(number))
        await connection.wait_closed()

    begun = now()
    assert await talk(tick, Plan(lines=lines())) == (0, ["< 0", "< 1", "< 2", "< 3", OK])
    assert now() - begun == pytest.approx(4 * 0.9 + 1)


@virtual
async def test_wait_for_ever() -> None:
    async def late(connection: ServerConnection) -> None:
        await asyncio.sleep(3600)
        await connection.send("late")

    assert await talk(late, Plan(wait=math.inf)) == (0, ["< late", OK])


@virtual
async def test_who_types_need_not_wait() -> None:
    begun = now()
    assert await talk(echo, Plan(lines=lines(), typed=True, wait=5)) == (0, [OK])
    assert now() == begun


@virtual
async def test_expected_messages() -> None:
    status, told = await talk(echo, Plan(messages=["1", "2", "3"], expect=2))
    assert status == 0
    assert [line for line in told if line.startswith("<")] == ["< 1", "< 2"]


@virtual
async def test_expected_messages_come_though_there_is_more_to_say() -> None:
    plan = Plan(lines=lines("1", "2", then=asyncio.Event().wait), expect=2)
    assert await talk(echo, plan) == (0, ["> '1'", "> '2'", "< 1", "< 2", OK])


@virtual
async def test_expected_messages_do_not_come_in_time() -> None:
    begun = now()
    plan = Plan(messages=["1"], expect=2)
    assert await talk(echo, plan, timeout=7) == (3, ["> '1'", "< 1", "Timed out after 7 seconds.", OK])
    assert now() - begun == pytest.approx(7)


@virtual
async def test_a_time_out_of_something_else() -> None:
    async def broken() -> AsyncGenerator[str, None]:
        yield "one"
        raise TimeoutError("the file system gave up")

    with pytest.raises(TimeoutError, match="^the file system gave up$"):
        await talk(echo, Plan(lines=broken))


@virtual
async def test_expected_messages_do_not_come_at_all() -> None:
    async def one(connection: ServerConnection) -> None:
        await connection.send("only one")

    assert await talk(one, Plan(expect=2)) == (3, ["< only one", OK])


@virtual
async def test_the_server_closes() -> None:
    async def close(connection: ServerConnection) -> None:
        await connection.send("last words")
        await connection.close(4001, "bye")

    plan = Plan(lines=lines(then=asyncio.Event().wait))
    assert await talk(close, plan) == (3, ["< last words", "Connection closed: 4001 (private use) bye."])


@virtual
async def test_the_server_goes_away_while_we_send() -> None:
    async def close(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)
            connection.transport.abort()

    async def on_and_on() -> AsyncGenerator[str, None]:
        while True:
            yield "x"
            await idle()

    status, told = await talk(close, Plan(lines=on_and_on))
    assert (status, told[-2:]) == (
        3,
        ["< x", "Connection closed: no close frame received or sent: unexpected end of stream."],
    )


@virtual
async def test_going_away_is_normal() -> None:
    async def close(connection: ServerConnection) -> None:
        await connection.close(1001)

    assert await talk(close, Plan(wait=math.inf)) == (0, ["Connection closed: 1001 (going away)."])


@virtual
async def test_who_waits_for_the_end_is_told() -> None:
    async def busy(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        await asyncio.sleep(5)
        connection.transport.resume_reading()
        await connection.wait_closed()

    told = "Waiting for the server to close the connection; Ctrl-C ends it at once."
    assert await talk(busy, Plan(lines=lines(), typed=True)) == (0, [told, OK])


@virtual
async def test_replay_keeps_the_pauses() -> None:
    times: list[tuple[str | bytes, float]] = []

    async def note(connection: ServerConnection) -> None:
        async for message in connection:
            times.append((message, now() - begun))

    begun = now()
    status, told = await talk(note, Plan(replay=[(1.0, "a"), (3.5, b"b")], wait=1))
    assert (status, told) == (0, ["> 'a'", "> b'b'", OK])
    assert [message for message, _ in times] == ["a", b"b"]
    assert [time for _, time in times] == pytest.approx([1.0, 3.5])


@virtual
async def test_interrupt() -> None:
    log = Log()
    async with served(echo) as server:
        work = Talk(Plan(messages=["hello"], wait=math.inf), log)
        task = asyncio.create_task(on_connection(target(server), log, work))
        await idle()
        task.cancel()
        assert await task == 0
    assert log.lines[1:] == ["> 'hello'", "< hello", OK]


@virtual
async def test_interrupt_before_what_was_expected_came() -> None:
    log = Log()
    async with served(echo) as server:
        task = asyncio.create_task(on_connection(target(server), log, Talk(Plan(expect=1), log)))
        await idle()
        task.cancel()
        assert await task == 3


@virtual
async def test_no_connection() -> None:
    log = Log()
    async with served(echo) as server:
        nowhere = target(server)
    assert await on_connection(nowhere, log, Talk(Plan(), log)) == 1
    failed, hint = log.lines
    assert failed.startswith(f"Failed to connect to {nowhere.uri}: ")
    assert hint == "Hint: is a server running there?"


@virtual
async def test_output_that_cannot_be_written_closes_the_connection() -> None:
    class Broken(Log):
        def received(self, message: str | bytes) -> None:
            raise BrokenPipeError

    log = Broken()
    closed: list[int | None] = []

    async def note(connection: ServerConnection) -> None:
        await connection.send("hello")
        await connection.wait_closed()
        closed.append(connection.close_code)

    async with served(note) as server:
        with pytest.raises(BrokenPipeError):
            await on_connection(target(server), log, Talk(Plan(wait=math.inf), log))
    assert closed == [1000]


# ---------------------------------------------------------------------------------------------------------------- lines


@virtual
async def test_lines() -> None:
    status, told = await talk(echo, Plan(lines=lines("one", "", "/two")))
    assert (status, told) == (0, ["> 'one'", "> ''", "> '/two'", "< one", "< ", "< /two", OK])


@virtual
async def test_lines_in_hexadecimal() -> None:
    status, told = await talk(echo, Plan(lines=lines("00 ff", "7F"), hexadecimal=True, expect=2))
    assert (status, told[2:4]) == (0, ["< (binary) 00ff", "< (binary) 7f"])


@virtual
async def test_a_mistake_in_piped_lines_ends_it() -> None:
    with pytest.raises(UsageError, match="^line 2 of the input: not pairs of hexadecimal digits$"):
        await talk(echo, Plan(lines=lines("00", "oops"), hexadecimal=True))


@virtual
async def test_piped_lines_that_are_not_text() -> None:
    async def broken() -> AsyncGenerator[str, None]:
        yield "one"
        b"\xff".decode()

    with pytest.raises(UsageError, match="^line 2 of the input isn't UTF-8$"):
        await talk(echo, Plan(lines=broken))


@virtual
async def test_a_mistake_of_who_types_is_told() -> None:
    plan = Plan(lines=lines("/nope", "/close 1", "/file /does/not/exist", "fine"), typed=True, slash=True)
    status, told = await talk(echo, plan)
    assert status == 0
    assert told == [
        "Not sent: there is no command /nope; see /help.",
        "Not sent: invalid status code.",
        "Not sent: [Errno 2] No such file or directory: '/does/not/exist'.",
        "> 'fine'",
        "< fine",
        OK,
    ]


@virtual
async def test_commands(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(b"\x01\x02")
    received: list[Any] = []

    async def note(connection: ServerConnection) -> None:
        async for message in connection:
            received.append(message)

    plan = Plan(
        lines=lines("/help", "/hex 00ff", f"/file {file}", "//slash", "/pong", "/ping", "/ping x", then=idle),
        slash=True,
    )
    status, told = await talk(note, plan)
    assert (status, received) == (0, [b"\x00\xff", b"\x01\x02", "/slash"])
    assert told[: len(HELP.splitlines())] == HELP.splitlines()
    assert told[-3:] == ["pong: 0.001 ms", "pong: 0.001 ms", OK]


@virtual
async def test_closing_by_command() -> None:
    plan = Plan(lines=lines("/close 4000 so long", "never sent"), slash=True)
    status, told = await talk(echo, plan)
    assert (status, told) == (3, ["Connection closed: 4000 (private use) so long."])


@pytest.mark.parametrize(
    ("line", "parts"), [("/help", ("help", "")), ("/ping a b", ("ping", "a b")), ("/close", ("close", ""))]
)
def test_reading_commands(line: str, parts: tuple[str, str]) -> None:
    assert command(line) == parts


def test_closing_arguments() -> None:
    assert close_arguments("") == (1000, "")
    assert close_arguments("3000 with reason") == (3000, "with reason")
    for wrong in ("x", "1", "1005", "99999", f"1000 {'x' * 124}"):
        with pytest.raises(ValueError):  # noqa: PT011
            close_arguments(wrong)


def test_control_payloads_are_short() -> None:
    assert control_payload("é") == "é".encode()
    with pytest.raises(ValueError, match="^more than 125 bytes$"):
        control_payload("x" * 126)


# -------------------------------------------------------------------------------------------------------- binary, files


@virtual
async def test_binary_messages_are_saved() -> None:
    save = io.BytesIO()
    _, told = await talk(echo, Plan(messages=[b"\x00\x01", "text", b"\x02"], save=save))
    assert told[3:6] == ["< (binary) 2 bytes saved", "< text", "< (binary) 1 byte saved"]
    assert save.getvalue() == b"\x00\x01\x02"


def test_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "data"
    file.write_bytes(b"\x00")
    assert contents(str(file)) == b"\x00"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\x01")))
    assert contents("-") == b"\x01"


# ---------------------------------------------------------------------------------------------------------------- pings


@virtual
async def test_pings() -> None:
    log, begun = Log(), now()
    async with served(echo) as server:
        assert await on_connection(target(server), log, Ping(3, 2.0, log)) == 0
    assert now() - begun == pytest.approx(4)
    assert log.lines[1:5] == ["pong 1: 0.001 ms", "pong 2: 0.001 ms", "pong 3: 0.001 ms", "3 pings, 3 pongs"]
    assert log.lines[5] == "round trip: min 0.001  mean 0.001  p50 0.001  p99 0.001  max 0.001 ms"
    assert log.lines[6:] == [OK]
    assert set(log.numbers["ping"]) == {"sent", "received", "seconds"}


@virtual
async def test_pings_until_interrupted() -> None:
    log = Log()
    async with served(echo) as server:
        task = asyncio.create_task(on_connection(target(server), log, Ping(None, 1.0, log)))
        await asyncio.sleep(2.5)
        task.cancel()
        assert await task == 0
    assert log.lines[4] == "3 pings, 3 pongs"


@virtual
async def test_messages_do_not_disturb_pings() -> None:
    async def chatter(connection: ServerConnection) -> None:
        for number in range(100):
            await connection.send(str(number))
        await connection.wait_closed()

    log = Log()
    async with served(chatter) as server:
        assert await on_connection(target(server), log, Ping(2, 0.0, log)) == 0
    assert log.lines[3] == "2 pings, 2 pongs"


@virtual
async def test_a_ping_that_is_never_answered_says_nothing() -> None:
    async def drop(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        await asyncio.sleep(5)
        connection.transport.abort()

    status, told = await talk(drop, Plan(lines=lines("/ping"), slash=True, wait=math.inf))
    assert status == 3
    assert not [line for line in told if "pong" in line]


@virtual
async def test_the_connection_ends_before_the_pong() -> None:
    async def close(connection: ServerConnection) -> None:
        await connection.close(1011)

    log = Log()
    async with served(close) as server:
        assert await on_connection(target(server), log, Ping(None, 1.0, log)) == 3
    assert log.lines[-1] == "Connection closed: 1011 (internal error)."
    assert log.numbers["ping"]["received"] < 2
