"""Scenarios 86 and 87, as long as a test may be: any bytes in any pieces, and a crowd on a network that fails.

The long runs are in folders of their own, tests/fuzz and tests/soak.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

import pytest

from _kit import VirtualLoop, request, response, virtual, wire
from robustness.worlds import both_sides, each_twin, echo, port_of
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import serve
from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.protocol import Protocol, Side
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

scenario = pytest.mark.scenario


def frames_of(side: Side) -> list[bytes]:
    """Conversations of a peer: good, broken at the end, and random."""
    mask = side is Side.SERVER
    rng = random.Random(86)
    good = wire.text("h\xe9llo", mask=mask) + wire.ping(b"p", mask=mask) + wire.close(1000, "bye", mask=mask)
    return [
        good,
        wire.text("a\u20ac", fin=False, mask=mask) + wire.cont(b"\x80", mask=mask),
        wire.binary(bytes(126), mask=mask) + wire.frame(wire.BINARY, b"x", length_form="64", mask=mask),
        wire.binary(b"\0" * 90, fin=False, mask=mask) + wire.cont(b"\0" * 11, mask=mask),
        *(rng.randbytes(40) for _ in range(20)),
        *(mutated(good, rng) for _ in range(40)),
    ]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Data with a bit turned over."""
    index = rng.randrange(len(data))
    return data[:index] + bytes([data[index] ^ 1 << rng.randrange(8)]) + data[index + 1 :]


def outcome(protocol: Protocol, pieces: list[bytes]) -> str:
    """All that becomes of bytes that arrive in pieces."""
    for piece in pieces:
        protocol.receive_data(piece)
    sent = [item if item[:4] == b"HTTP" else wire.parse(item)[0][0]._replace(mask=None) for item in sent_by(protocol)]
    return repr((protocol.events_received(), sent, protocol.state, protocol.parser_exc, protocol.handshake_exc))


def sent_by(protocol: Protocol) -> list[bytes]:
    return [item for item in protocol.data_to_send() if item]


@scenario(86)
@each_twin
@both_sides
def test_s86_every_split_of_frames_gives_the_same(side: Side, twin: str) -> None:
    for data in frames_of(side):
        outcomes = {
            outcome(Protocol(side, max_size=100), [data[:index], data[index:]]) for index in range(len(data) + 1)
        }
        outcomes.add(outcome(Protocol(side, max_size=100), wire.bytewise(data)))
        assert len(outcomes) == 1, outcomes


@scenario(86)
@both_sides
def test_s86_every_split_of_a_head_gives_the_same(side: Side) -> None:
    def fresh() -> Protocol:
        if side is Side.SERVER:
            return ServerProtocol()
        client = ClientProtocol(parse_uri("ws://localhost/"))
        client.key = wire.KEY
        return client

    rng = random.Random(86)
    good = request() if side is Side.SERVER else response()
    refused = request(method="\0") if side is Side.SERVER else response(404, {"Content-Length": "5"}, body=b"12345")
    for data in [good, refused, *(mutated(good, rng) for _ in range(40))]:
        outcomes = {undated(outcome(fresh(), [data[:index], data[index:]])) for index in range(len(data) + 1)}
        outcomes.add(undated(outcome(fresh(), wire.bytewise(data))))
        assert len(outcomes) == 1, outcomes


def undated(text: str) -> str:
    """Without the date, which a second may turn over."""
    before, found, after = text.partition("Date: ")
    return before + after[after.find("GMT") :] if found else text


@scenario(87)
@pytest.mark.parametrize("seed", range(3))
@virtual
async def test_s87_a_crowd_on_a_network_that_fails(seed: int) -> None:
    """Two virtual seconds of connections that come and go; in the end nothing is left."""
    rng = random.Random(seed)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    options: dict[str, Any] = {"ping_interval": 0.5, "ping_timeout": 0.5, "close_timeout": 0.5, "open_timeout": 0.5}
    counts = {"exchanged": 0, "failed": 0}

    async def live(client: ClientConnection) -> None:
        for _ in range(rng.randrange(20)):
            message: Any = rng.choice(["text", b"binary", "x" * rng.randrange(5_000), ["in ", "pieces"]])
            await client.send(message)
            if rng.random() < 0.8:
                await client.recv()
                counts["exchanged"] += 1
            await asyncio.sleep(rng.random() * 0.05)

    async def come_and_go(until: float) -> None:
        while loop.time() < until:
            try:
                async with connect(f"ws://localhost:{port_of(server)}/", **options) as client:
                    await live(client)
            except (WebSocketException, OSError):
                counts["failed"] += 1
                await asyncio.sleep(0.01)

    async def break_things(until: float) -> None:
        faults = ["reset", "drop", "slow", "hold", "hold"]
        while loop.time() < until:
            await asyncio.sleep(rng.random() * 0.02)
            living = [link for link in loop.network.links if not link.client.closed]
            if not living:
                continue
            link, fault = rng.choice(living), rng.choice(faults)
            with contextlib.suppress(OSError):
                if fault == "slow":
                    link.slow(rng.random() * 0.1)
                elif fault == "hold":
                    link.hold()
                    loop.call_later(rng.random() * 0.2, link.release)
                else:
                    getattr(link, fault)()

    async with serve(echo, "localhost", 0, **options) as server:
        end = loop.time() + 2
        await asyncio.gather(break_things(end), *(come_and_go(end) for _ in range(20)))
        await asyncio.sleep(3)
        assert not server._ws_registry.all
        assert all(link.client.closed and link.server.closed for link in loop.network.links)
    assert counts["exchanged"] > 200
    assert counts["failed"] > 20
