"""Opening a TCP connection on asyncio: look up a name, try its addresses concurrently, pass the socket to the loop.

May know: the event loop, sockets, tasks. Must not know: WebSocket; the order and the times of attempts, and the meaning
of failures: :mod:`websockets._rules.happy_eyeballs` decides that.

asyncio has Happy Eyeballs (RFC 8305), but only on request, and in some releases a cancelled attempt leaves its socket
open (CPython gh-124309). uvloop doesn't have it. So this module has its own, for every event loop. For a single address
the event loop does all the work.
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

# A result of getaddrinfo(): family, type, protocol, canonical name, and the address itself.
_Info = tuple[Any, ...]

# Arguments about Happy Eyeballs; about looking up names; and all that don't apply to a connected socket.
RACE = frozenset(("happy_eyeballs_delay", "interleave", "all_errors"))
LOOKUP = ("family", "proto", "flags")
PLACE = ("host", "port", "local_addr", *LOOKUP)


async def open_connection(
    streams: Any, factory: Callable[[], P], create: Callable[..., Any] | None = None, **arguments: Any
) -> tuple[asyncio.Transport, P]:
    """Connect like :meth:`asyncio.loop.create_connection`, and try the addresses of a name according to RFC 8305.

    Parameters:
        streams: the event loop; or an object that opens connections in its place, and then does all the work.
        factory: function that makes the protocol.
        create: function to use in place of the method of ``streams``, with the same arguments.
        **arguments: as for ``create_connection``; ``happy_eyeballs_delay``, ``interleave`` and ``all_errors`` work on
            any event loop. The delay is 0.25 seconds by default; with None, an address is tried after all previous ones
            have failed.

    Returns:
        The transport and the protocol.

    Raises:
        OSError: the name can't be resolved, or none of its addresses can be reached.
        ExceptionGroup: with ``all_errors``, if none of its addresses can be reached.
    """
    host = arguments.get("host")
    method: Callable[..., Any] = streams.create_connection if create is None else create
    is_name = _is_name(host)
    # For an address that isn't a name, the event loop does all the work.
    if (is_name or not RACE.isdisjoint(arguments)) and connects_as_known(streams):
        pace = Pace.taken_from(arguments)
        if arguments.get("sock") is None and host and (pace.all_errors or is_name):
            if arguments.get("ssl") and arguments.get("server_hostname") is None:
                arguments["server_hostname"] = host
            found = await _look_up(streams, (host, arguments.get("port")), arguments)
            if len(found) > 1 or pace.all_errors:
                return await _connect_to(streams, method, factory, found, pace, arguments)
            arguments["host"], arguments["port"] = with_zone(found[0][4])[:2]
    opened: tuple[asyncio.Transport, P] = await method(factory, **arguments)
    return opened


def _is_name(host: object) -> bool:
    """Return whether a host must be looked up, because it isn't an IP address or has a zone."""
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
    """Return the addresses of a host and a port, without duplicates."""
    hints = {name: arguments[name] for name in LOOKUP if name in arguments}
    found = address_order(await loop.getaddrinfo(*place, type=socket.SOCK_STREAM, **hints), 0)
    if not found:
        raise OSError(f"{place[0]} has no address")
    return found


async def _connect_to(
    loop: asyncio.AbstractEventLoop,
    create: Callable[..., Any],
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
        opened: tuple[asyncio.Transport, P] = await create(made, **rest)
        return opened
    finally:
        # After that the event loop owns the socket, even if something fails.
        if not taken:
            sock.close()


async def _connect_socket(loop: asyncio.AbstractEventLoop, local: Sequence[_Info] | None, info: _Info) -> socket.socket:
    """Return a socket that is connected to an address."""
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
    """Bind a socket to the first local address that is possible."""
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
    """Return the first connection that succeeds.

    Parameters:
        found: addresses, as for :class:`~websockets._rules.happy_eyeballs.Race`.
        pace: the order and the delays of attempts.
        connect: function that connects to an address; after an OSError the next address is tried.
        discard: function that closes a connection that isn't needed any more.

    Raises:
        OSError: all attempts failed.
        ExceptionGroup: all attempts failed, and the pace asks for all errors.
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
            # Wait until the cancelled attempts have ended, because the caller may close the event loop after this.
            await asyncio.wait(attempts)
        raise


def _settle(attempts: list[asyncio.Task[S]], contest: Race[A]) -> asyncio.Task[S] | None:
    """Return the first attempt that has succeeded, if any, and remove all that have ended."""
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
    """Cancel attempts, discard those that have succeeded, and return whether there are any."""

    def end(task: asyncio.Task[S]) -> None:
        if not task.cancelled() and task.exception() is None:
            discard(task.result())

    for task in attempts:
        task.cancel()
        task.add_done_callback(end)
    return bool(attempts)
