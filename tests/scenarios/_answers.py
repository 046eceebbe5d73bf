"""Responses of scripted sites to clients: accept, refuse, redirect, or never respond.

May know: the adapter, HTTP and frames on the wire. Must not know: any front-end.
"""

from __future__ import annotations

from _kit import wire
from _kit.site import Asked, redirect, refuse

from ._world import Answer, Peer

__all__ = ["accepted", "hang", "let_in", "let_in_and_close", "redirect", "refuse", "reset"]


def accepted(asked: Asked) -> bytes:
    """The response that opens the connection."""
    return wire.response(key=asked.headers["Sec-WebSocket-Key"][0])


async def let_in(peer: Peer, asked: Asked) -> None:
    """Open the connection, and answer when the client closes it."""
    await peer.write(accepted(asked))
    row = await peer.frame()
    while row.opcode != wire.CLOSE:
        row = await peer.frame()
    await peer.write(wire.frame(wire.CLOSE, row.payload))


def let_in_and_close(code: int = 1001, after: float = 0) -> Answer:
    """Open the connection, and close it ``after`` this many seconds."""

    async def answer(peer: Peer, asked: Asked) -> None:
        await peer.write(accepted(asked))
        await peer.pause(after)
        await peer.write(wire.close(code))
        await peer.frame()

    return answer


async def hang(peer: Peer, asked: Asked) -> None:
    """Never answer; notice when the client is gone."""
    await peer.read_until_eof()


async def reset(peer: Peer, asked: Asked) -> None:
    """Break the connection."""
    peer.reset()
