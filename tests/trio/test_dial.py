"""Opening streams on trio: which function of trio is called, with which arguments."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
import trio.testing

from websockets.trio._dial import open_stream
from websockets.trio._wire import close_now


class Streams:
    """Functions that open streams, in place of those of trio."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    async def open_tcp_stream(self, host: Any, port: Any, **options: Any) -> Any:
        self.calls.append((host, port, options))
        return trio.testing.memory_stream_pair()[0]

    async def open_unix_socket(self, path: Any) -> Any:
        self.calls.append((path,))
        return trio.testing.memory_stream_pair()[0]


PLACE = {"host": "example.com", "port": 80}


@pytest.mark.parametrize(
    ("arguments", "call"),
    [
        (PLACE, ("example.com", 80, {})),
        (PLACE | {"local_address": "::1"}, ("example.com", 80, {"local_address": "::1"})),
        (PLACE | {"happy_eyeballs_delay": 0}, ("example.com", 80, {"happy_eyeballs_delay": 0})),
        (PLACE | {"happy_eyeballs_delay": None}, ("example.com", 80, {"happy_eyeballs_delay": math.inf})),
        ({"unix": True, "path": "/run/server"}, ("/run/server",)),
        (PLACE | {"unix": False, "path": None}, ("example.com", 80, {})),
    ],
)
def test_what_trio_is_asked_for(arguments: Any, call: Any) -> None:
    async def run() -> None:
        streams = Streams()
        await open_stream(arguments, streams)
        assert streams.calls == [call]

    trio.run(run)


def test_stream_that_is_open_already() -> None:
    async def run() -> None:
        streams = Streams()
        ours, _ = trio.testing.memory_stream_pair()
        assert await open_stream({"sock": ours}, streams) is ours
        assert not streams.calls

    trio.run(run)


def test_closing_is_not_cancelled() -> None:
    async def run() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        with trio.CancelScope() as scope:
            scope.cancel()
            await close_now(ours)
        assert not scope.cancelled_caught
        assert await theirs.receive_some() == b""

    trio.run(run)


def test_tls_that_fails_closes_the_stream() -> None:
    async def run() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        await theirs.send_all(b"garbage")
        with pytest.raises((OSError, trio.BrokenResourceError)):
            await open_stream({"sock": ours, "ssl": True, "server_hostname": "localhost"})
        assert (await theirs.receive_some())[0] == 0x16  # a handshake record
        with pytest.raises(trio.BrokenResourceError):
            await theirs.send_all(b"more")

    trio.run(run)
