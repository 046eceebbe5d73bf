"""Opening a TCP connection on asyncio: looking up a name, attempts that race each other, the hand-over to the loop.

May know: the loop, sockets, tasks. Must not know: which address is tried when, and what it means that all failed: that
is :mod:`websockets._rules.happy_eyeballs`'s; WebSocket.

asyncio has happy eyeballs, but they are off unless asked for, and in some releases an attempt that is cancelled leaves
its socket behind (CPython gh-124309). uvloop has none. So there is one mechanism of our own for every loop. Where there
is nothing to race, for an address or for a name that has one address, the loop does all of it.
"""

from __future__ import annotations

import asyncio
import functools
import math
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from .._rules.happy_eyeballs import Pace, Race, address_order, naming, with_zone
from ._internals import connects_as_known

__all__ = ["open_connection", "race"]

A = TypeVar("A", bound=tuple[Any, ...])
S = TypeVar("S")
P = TypeVar("P", bound=asyncio.BaseProtocol)

# What getaddrinfo() says of an address: its family, type, protocol, canonical name, and the address itself.
_Info = tuple[Any, ...]

# Arguments about the race; about looking up names; and all those that a socket which is connected has no use for.
RACE = frozenset(("happy_eyeballs_delay", "interleave", "all_errors"))
LOOKUP = ("family", "proto", "flags")
PLACE = ("host", "port", "local_addr", *LOOKUP)


async def open_connection(streams: Any, factory: Callable[[], P], **arguments: Any) -> tuple[asyncio.Transport, P]:
    """Connect as :meth:`asyncio.loop.create_connection` does, trying the addresses of a name as RFC 8305 says.

    Parameters:
        streams: the loop; or what makes connections in its place, which then does all of it.
        factory: makes the protocol.
        **arguments: those of ``create_connection``; of these, ``happy_eyeballs_delay``, ``interleave`` and
            ``all_errors`` work on any loop. The delay is 0.25 seconds unless given; with None, an address is tried when
            all before it have failed.

    Raises:
        OSError: the name isn't known, or none of its addresses can be reached.
        ExceptionGroup: with ``all_errors``: none of its addresses can be reached.
    """
    host = arguments.get("host")
    is_name = _is_name(host)
    # An address alone leaves nothing to do for us, on any loop.
    if (is_name or not RACE.isdisjoint(arguments)) and connects_as_known(streams):
        pace = Pace.taken_from(arguments)
        if arguments.get("sock") is None and host and (pace.all_errors or is_name):
            if arguments.get("ssl") and arguments.get("server_hostname") is None:
                arguments["server_hostname"] = host
            found = await _look_up(streams, (host, arguments.get("port")), arguments)
            if len(found) > 1 or pace.all_errors:
                return await _connect_to(streams, factory, found, pace, arguments)
            arguments["host"], arguments["port"] = with_zone(found[0][4])[:2]
    opened: tuple[asyncio.Transport, P] = await streams.create_connection(factory, **arguments)
    return opened


def _is_name(host: object) -> bool:
    """Whether a host must be looked up: it isn't an IP address, or has a zone."""
    if not isinstance(host, str):
        return False
    for family in socket.AF_INET, socket.AF_INET6:
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return False
    return True


async def _look_up(
    loop: asyncio.AbstractEventLoop, place: tuple[Any, Any], arguments: Mapping[str, Any]
) -> Sequence[_Info]:
    """The addresses of a host and a port, each of them once."""
    hints = {name: arguments[name] for name in LOOKUP if name in arguments}
    found = address_order(await loop.getaddrinfo(*place, type=socket.SOCK_STREAM, **hints), 0)
    if not found:
        raise OSError(f"{place[0]} has no address")
    return found


async def _connect_to(
    loop: asyncio.AbstractEventLoop,
    factory: Callable[[], P],
    found: Sequence[_Info],
    pace: Pace,
    arguments: Mapping[str, Any],
) -> tuple[asyncio.Transport, P]:
    """Connect to one of several addresses."""
    local_addr = arguments.get("local_addr")
    local = None if local_addr is None else await _look_up(loop, local_addr, arguments)
    sock = await race(found, pace, functools.partial(_connect_socket, loop, local), socket.socket.close)
    taken = False

    def made() -> P:
        nonlocal taken
        protocol = factory()
        taken = True
        return protocol

    rest = {name: value for name, value in arguments.items() if name not in PLACE}
    rest["sock"] = sock
    try:
        return await loop.create_connection(made, **rest)
    finally:
        # From then on the socket is the loop's, also if something fails.
        if not taken:
            sock.close()


async def _connect_socket(loop: asyncio.AbstractEventLoop, local: Sequence[_Info] | None, info: _Info) -> socket.socket:
    """A socket that is connected to an address."""
    family, kind, proto, *_ = info
    try:
        sock = socket.socket(family, kind, proto)
        try:
            sock.setblocking(False)
            if local is not None:
                _bind(sock, [info[4] for info in local if info[0] == family])
            await loop.sock_connect(sock, with_zone(info[4]))
        except BaseException:
            sock.close()
            raise
    except OSError as exc:
        raise naming(exc, info[4]) from None
    return sock


def _bind(sock: socket.socket, addresses: Sequence[Any]) -> None:
    """Give a socket the first of our own addresses that it can have."""
    error = OSError("no local address of the same family")
    for address in addresses:
        try:
            sock.bind(address)
        except OSError as exc:
            error = OSError(exc.errno, f"error while attempting to bind on address {address}: {exc.strerror}")
        else:
            return
    raise error


# ------------------------------------------------------------------------------------------------------------- the race


async def race(
    found: Sequence[A], pace: Pace, connect: Callable[[A], Coroutine[Any, Any, S]], discard: Callable[[S], None]
) -> S:
    """The first connection that comes about.

    Parameters:
        found: addresses, as :class:`~websockets._rules.happy_eyeballs.Race` wants them.
        pace: how they are tried.
        connect: connects to an address; OSError is what counts as a failure, and the next address is tried.
        discard: ends a connection that nobody needs any more.

    Raises:
        OSError: none comes about.
        ExceptionGroup: the same, if the pace says so.
    """
    if len(found) == 1 and not pace.all_errors:
        return await connect(found[0])
    loop = asyncio.get_running_loop()
    contest = Race(found, pace)
    attempts: list[asyncio.Task[S]] = []
    try:
        while not contest.lost:
            attempts += [loop.create_task(connect(address)) for address in contest.due(loop.time())]
            timeout = None if contest.next_timeout == math.inf else max(contest.next_timeout - loop.time(), 0)
            await asyncio.wait(attempts, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            winner = _settle(attempts, contest)
            if winner is not None:
                _give_up(attempts, discard)
                return winner.result()
        raise contest.error()
    except BaseException:
        if _give_up(attempts, discard):
            # What is left of them ends at once, and before whoever gives up can close the loop.
            await asyncio.wait(attempts)
        raise


def _settle(attempts: list[asyncio.Task[S]], contest: Race[A]) -> asyncio.Task[S] | None:
    """The first attempt that has succeeded; those that are over are taken out."""
    for task in attempts[:]:
        if task.done():
            attempts.remove(task)
            error = task.exception()
            if error is None:
                return task
            if not isinstance(error, OSError):
                raise error
            contest.failed(error)
    return None


def _give_up(attempts: list[asyncio.Task[S]], discard: Callable[[S], None]) -> bool:
    """End attempts, also those which succeed too late; say whether there are any."""

    def end(task: asyncio.Task[S]) -> None:
        if not task.cancelled() and task.exception() is None:
            discard(task.result())

    for task in attempts:
        task.cancel()
        task.add_done_callback(end)
    return bool(attempts)
