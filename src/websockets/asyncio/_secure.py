"""Connections with TLS on asyncio, by the transport that was chosen: the loop's, ours over memory, or aiofastnet's.

May know: the event loop and its methods that make connections, aiofastnet if it is installed. Must not know: which
transport is chosen, which :mod:`websockets._rules.tls_transports` decides; how TLS works; WebSocket.

All functions take what the loop's methods take, do what they do, and raise what they raise.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .._rules.tls_transports import AIOFASTNET, LOOP, MEMORY, choose, is_known
from ._internals import ignore_lost_handshakes, network_of

if TYPE_CHECKING:
    import ssl as tls

    from ._handshakes import Handshakes
    from ._tls_transport import TLSTransport

__all__ = ["method_for_tls", "start_tls"]

P = TypeVar("P", bound=asyncio.BaseProtocol)


def method_for_tls(
    streams: Any, name: str, option: str | None, ssl: Any, handshakes: Handshakes | None = None
) -> Callable[..., Awaitable[Any]]:
    """Return the function that makes connections, or a listening server.

    Parameters:
        streams: the event loop; or an object that makes connections in its place.
        name: name of its method, such as "create_connection".
        option: the transport that the program chose; None for none.
        ssl: the argument for TLS. Without TLS, or with what the method will refuse, the result is the method itself.
        handshakes: for a server, those of its clients.
    """
    method: Callable[..., Awaitable[Any]] = getattr(streams, name)
    chosen = choose(network_of(streams, name), option) if ssl else LOOP
    if chosen == AIOFASTNET and isinstance(streams, asyncio.AbstractEventLoop):
        return functools.partial(getattr(_aiofastnet(streams), name), streams)
    if chosen == MEMORY:
        if name in ("create_server", "create_unix_server"):
            return method if ssl is True else functools.partial(_listen, method, handshakes)
        return functools.partial(_connect, method)
    return method


def _aiofastnet(loop: asyncio.AbstractEventLoop) -> Any:
    try:
        import aiofastnet  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as exc:
        raise ImportError("TLS by aiofastnet requires it; install the extra: websockets[fast]") from exc
    ignore_lost_handshakes(loop)
    return aiofastnet


def _default_context() -> tls.SSLContext:
    # Import ssl only here, because some interpreters, such as Pyodide, don't have it.
    from ssl import create_default_context

    return create_default_context()


async def _connect(
    method: Callable[..., Awaitable[tuple[Any, Any]]],
    factory: Callable[[], P],
    *,
    ssl: tls.SSLContext | bool,
    server_hostname: str | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
    **arguments: Any,
) -> tuple[asyncio.Transport, P]:
    """Connect by a method of the loop, and do TLS over memory."""
    from ._tls_transport import TLSTransport

    if server_hostname is None:
        server_hostname = arguments.get("host")
        if not server_hostname:
            raise ValueError("You must set server_hostname when using ssl without a host")
    context = _default_context() if ssl is True else ssl
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()
    made: list[tuple[P, TLSTransport]] = []

    def secured() -> TLSTransport:
        protocol = factory()
        transport = TLSTransport(
            loop,
            protocol,
            context,  # type: ignore[arg-type]
            server_hostname=server_hostname,
            handshake_timeout=ssl_handshake_timeout,
            shutdown_timeout=ssl_shutdown_timeout,
            waiter=waiter,
        )
        made.append((protocol, transport))
        return transport

    try:
        await method(secured, **arguments)
    except BaseException:
        for _, transport in made:
            transport.give_up()
        raise
    protocol, transport = made[0]
    await _wait(waiter, transport)
    return transport, protocol


async def _listen(
    method: Callable[..., Awaitable[Any]],
    handshakes: Handshakes | None,
    factory: Callable[[], asyncio.BaseProtocol],
    *,
    ssl: tls.SSLContext,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
    **arguments: Any,
) -> Any:
    """Listen by a method of the loop, and do TLS over memory."""
    from ._tls_transport import TLSTransport

    loop = asyncio.get_running_loop()

    def secured() -> TLSTransport:
        return TLSTransport(
            loop,
            factory(),
            ssl,
            server_side=True,
            handshake_timeout=ssl_handshake_timeout,
            shutdown_timeout=ssl_shutdown_timeout,
            handshakes=handshakes,
        )

    return await method(secured, **arguments)


async def start_tls(
    option: str | None, transport: Any, protocol: asyncio.BaseProtocol, sslcontext: tls.SSLContext, **options: Any
) -> asyncio.Transport | None:
    """Do TLS on a connection that is there already, like :meth:`asyncio.loop.start_tls`.

    Parameters:
        option: the transport that the program chose; None for none.
        transport: the transport below, on which reading is paused.
        protocol: the protocol that gets what arrives.
        sslcontext: the TLS context.
        **options: as for the method of the loop.

    Returns:
        The transport; None if the connection is already over.

    Raises:
        OSError: the handshake fails.
    """
    loop = asyncio.get_running_loop()
    # A loop without the usual method is one whose program does TLS itself.
    chosen = choose(network_of(loop), option) if is_known(network_of(loop, "start_tls")) else option or LOOP
    if chosen == AIOFASTNET:
        secured: asyncio.Transport | None = await _aiofastnet(loop).start_tls(
            loop, transport, protocol, sslcontext, **options
        )
        return secured
    if chosen == LOOP:
        return await loop.start_tls(transport, protocol, sslcontext, **options)
    return await _start_tls(loop, transport, protocol, sslcontext, **options)


async def _start_tls(
    loop: asyncio.AbstractEventLoop,
    below: asyncio.Transport,
    protocol: asyncio.BaseProtocol,
    context: tls.SSLContext,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
) -> asyncio.Transport:
    from ._tls_transport import TLSTransport

    waiter: asyncio.Future[None] = loop.create_future()
    transport = TLSTransport(
        loop,
        protocol,
        context,
        server_side=server_side,
        server_hostname=server_hostname,
        handshake_timeout=ssl_handshake_timeout,
        shutdown_timeout=ssl_shutdown_timeout,
        waiter=waiter,
        introduces=False,
    )
    below.set_protocol(transport)
    transport.connection_made(below)
    below.resume_reading()
    await _wait(waiter, transport)
    return transport


async def _wait(waiter: asyncio.Future[None], transport: TLSTransport) -> None:
    """Wait for the handshake; if it fails, the transport ends by itself, after its alert is sent."""
    try:
        await waiter
    except BaseException:
        # It may also be done already, and the task be cancelled before it goes on.
        if waiter.cancelled() or waiter.exception() is None:
            transport.abort()
        raise
