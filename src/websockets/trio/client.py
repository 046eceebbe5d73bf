"""WebSocket clients on trio: connecting and reconnecting, as far as they wait.

May know: nurseries, cancel scopes, the arguments of :class:`connect`. Must not know: which responses are valid, whether
to follow a redirect, how long to wait, which options belong to which hop: ``_session`` decides that.

The connections of an iteration have their tasks in system tasks, see :mod:`._supervisor`: a nursery or a cancel
scope of the task that iterates would stay open when the loop is left (PEP 789).
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, Self

import trio

from .._session.client_session import ClientSession
from .._session.connector import Connector, unix_uri
from .._session.options import TRIO_CLIENT, ClientOptions, connection_arguments
from .._session.reconnection import Reconnection
from .._session.redirects import Hop, Redirects
from .._session.tunnel import plan_tunnel, without_proxy
from ..client import ClientProtocol, backoff
from ..client import process_exception as process_exception
from ..datastructures import HeadersLike
from ..extensions.base import ClientExtensionFactory
from ..frames import CloseCode
from ..http11 import USER_AGENT
from ..typing import LoggerLike, Origin, Subprotocol
from ._dial import open_stream
from ._proxy import choose_route, connect_through
from ._supervisor import Block, Home
from ._wire import close_now
from .connection import Connection

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = ["ClientConnection", "connect", "unix_connect"]

# The text of the error when two tasks advance the same iteration.
BUSY: Final = "this iteration over connect() is waiting in another task"


class ClientConnection(Connection):
    """The client's end of a WebSocket connection; ``async with connect(...)`` gives it.

    Parameters:
        nursery: where the task of the connection runs.
        stream: stream to the server.
        protocol: sans-I/O connection.
        ping_interval, ping_timeout, close_timeout, max_queue, idle_timeout: as for
            :class:`~websockets.trio.connection.Connection`.
    """

    protocol: ClientProtocol
    _ws_session: ClientSession
    # Bytes of the server that came in one read with the response of a proxy.
    _ws_early: bytes = b""

    if TYPE_CHECKING:
        # The same as in the base class, with the protocol of a client.
        def __init__(
            self,
            nursery: trio.Nursery,
            stream: trio.abc.Stream,
            protocol: ClientProtocol,
            *,
            ping_interval: float | None = 20,
            ping_timeout: float | None = 20,
            close_timeout: float | None = 10,
            max_queue: int | tuple[int | None, int | None] | None = 16,
            idle_timeout: float | None = None,
        ) -> None: ...

    async def _ws_opening_handshake(
        self, additional_headers: HeadersLike | None, user_agent_header: str | None
    ) -> None:
        """Do the opening handshake.

        Raises:
            InvalidHandshake: the server refused, or its response isn't a valid opening handshake.
        """
        session = self._ws_session
        session.send_request(session.make_request(additional_headers, user_agent_header))
        if self._ws_early:
            self._ws_receive_data(self._ws_early)
            self._ws_early = b""
        self._ws_start()
        await self._ws_flush()
        await self._ws_until(lambda: not session.opening)
        session.check_opened()


class connect(Connector):
    """Connect to a WebSocket server.

    Use it as an async context manager to get a connection that is closed on exit: with code 1000, or 1011 after an
    exception. Exceptions leave the block as they are, without a group around them. Iterate over it with ``async for``
    to reconnect: each iteration gives a new connection after the previous one is closed. :meth:`attempts` is an
    iteration whose tasks are in the caller's own nursery.

    Parameters:
        uri: where to connect: ``ws://`` or ``wss://``.
        stream: a stream to the server that is open already; with ``wss://``, TLS starts on it.
        ssl: TLS context; None for the default one with ``wss://``.
        server_hostname: name in the certificate of the server; the host of the URI by default, without a trailing dot
            (RFC 6066 section 3) and without a zone.
        origin: value of the ``Origin`` header; None to send none.
        extensions: extensions to offer, in order of preference.
        subprotocols: subprotocols to offer, in order of preference.
        compression: "deflate" for permessage-deflate (RFC 7692), None for no compression.
        additional_headers: headers to add to the request; they are read again for each attempt of an iteration.
        user_agent_header: value of the ``User-Agent`` header; None to leave it out.
        proxy: True for the proxy of the system, if there is one and the server isn't on this machine; None for no
            proxy; or the URI of a proxy: ``http://``, ``https://``, ``socks5h://``, ``socks5://``, ``socks4a://`` or
            ``socks4://``; the last four need python-socks. Not used with Unix sockets or ``stream``.
        proxy_ssl: TLS context for an ``https://`` proxy; None for the default one.
        proxy_server_hostname: name in the certificate of the proxy; its host by default.
        process_exception: ``f(exc)``, called when an attempt fails in an iteration: return None to try again, or the
            exception to raise. Any exception except ``exc`` itself, returned or raised, has ``exc`` as its cause.
        open_timeout: seconds that connecting may take, including redirects; None for no limit.
        ping_interval, ping_timeout, close_timeout, max_queue: see :class:`~websockets.trio.connection.Connection`.
        reconnect_delays: function that returns an iterator over the delays in seconds between attempts in an iteration.
        max_size: maximum size of incoming messages in bytes; None for no limit; or a tuple of the limits of a message
            and of a fragment.
        logger: where to log; ``websockets.client`` by default.
        create_connection: class or factory of connections, called like :class:`ClientConnection`.
        idle_timeout: seconds without data after which the connection is closed with code 1001; see
            :class:`~websockets.trio.connection.Connection`.
        max_rate, max_bytes_rate, on_rate: limits for what is received in a second; see
            :func:`~websockets.trio.server.serve`.
        **kwargs: ``host`` and ``port`` to connect to another address than that of the URI. Others are passed to
            :func:`trio.open_tcp_stream`: ``happy_eyeballs_delay``, the time in seconds before the next address is tried
            while the previous one hasn't answered (RFC 8305), None to try it only after the previous one has failed;
            and ``local_address``. With a proxy, they apply to the TCP connection to the proxy.

    Raises:
        InvalidURI: ``uri`` isn't a WebSocket URI.
        InvalidProxy: ``proxy``, or the proxy of the system, isn't the URI of a proxy.
        OSError: the name can't be resolved, or the TCP connection fails for each of its addresses.
        InvalidHandshake: the opening handshake fails, or the proxy can't connect to the server.
        TimeoutError: connecting takes longer than ``open_timeout``.
        TypeError: an option has a wrong type, or doesn't exist.
        ValueError: an option has a wrong value, or options contradict each other or the URI.
    """

    def __init__(
        self,
        uri: str,
        *,
        stream: trio.abc.Stream | None = None,
        ssl: SSLContext | Literal[True] | None = None,
        server_hostname: str | None = None,
        origin: Origin | None = None,
        extensions: Sequence[ClientExtensionFactory] | None = None,
        subprotocols: Sequence[Subprotocol] | None = None,
        compression: str | None = "deflate",
        additional_headers: HeadersLike | None = None,
        user_agent_header: str | None = USER_AGENT,
        proxy: str | Literal[True] | None = True,
        proxy_ssl: SSLContext | Literal[True] | None = None,
        proxy_server_hostname: str | None = None,
        process_exception: Callable[[Exception], Exception | None] = process_exception,
        open_timeout: float | None = 10,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
        close_timeout: float | None = 10,
        reconnect_delays: Callable[[], Iterator[float]] = backoff,
        max_size: int | tuple[int | None, int | None] | None = 2**20,
        max_queue: int | tuple[int | None, int | None] | None = 16,
        logger: LoggerLike | None = None,
        create_connection: Callable[..., ClientConnection] | None = None,
        idle_timeout: float | None = None,
        max_rate: tuple[float, int] | None = None,
        max_bytes_rate: tuple[float, int] | None = None,
        on_rate: Literal["wait", "close"] = "wait",
        **kwargs: Any,
    ) -> None:
        options = ClientOptions.of(locals(), logging.getLogger("websockets.client"), TRIO_CLIENT)
        super().__init__(uri, options, ClientConnection)

    connection: ClientConnection | None = None
    _ws_block: Block

    # ------------------------------------------------------------------------------------------------------ connecting

    async def open_tcp_connection(self, nursery: trio.Nursery) -> ClientConnection:
        """Open a TCP connection, through a proxy if there is one, without the opening handshake. May be overridden.

        Parameters:
            nursery: where the task of the connection will run.

        Returns:
            The connection, in the state CONNECTING.
        """
        # Read the state before the first wait: another attempt may change it during the wait.
        uri, state, hop = self.ws_uri, self._ws_connector_state, self._ws_connector_state.hop
        arguments = connection_arguments(uri, self.create_connection_kwargs, state.first)
        route = await choose_route(self.proxy, uri, arguments)
        early = b""
        if route is not None:
            hop.route = route
            plan = plan_tunnel(route, arguments, self.user_agent_header, self.logger)
            stream, early = await connect_through(plan, state.network)
        else:
            stream = await open_stream(without_proxy(arguments), state.network)
        try:
            connection: ClientConnection = state.connection(uri, nursery, stream)
        except BaseException:
            await close_now(stream)
            raise
        connection._ws_early = early
        return connection

    # ------------------------------------------------------------------------------------------------------ three uses

    async def __aenter__(self) -> ClientConnection:
        state = self._ws_connector_state
        state.enter()
        block = Block()
        nursery = await block.enter()
        try:
            self.connection = await _connect(self, nursery)
        except BaseException as exc:
            state.entered = False
            await block.leave(exc)
            raise
        self._ws_block = block
        return self.connection

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        # Type checkers read "bool" as a promise to swallow exceptions.
        connection, self.connection = self.connection, None
        self._ws_connector_state.entered = False
        if connection is None:
            raise AttributeError("connect() has no connection: it is left without having been entered")
        block = self._ws_block
        del self._ws_block
        return await block.leave(exc, connection.__aexit__(exc_type, exc, traceback))

    def __aiter__(self) -> AsyncIterator[ClientConnection]:
        """Iterate over connections: a new one each time the body of the loop ends.

        The loop may be left at any time. Then the last connection is closed in the background.

        Raises:
            Exception: the one that ``process_exception`` returns, or the last error when ``reconnect_delays`` ends.
        """
        return _Connections(self)

    def attempts(self) -> AbstractAsyncContextManager[AsyncIterator[ClientConnection]]:
        """Return a context manager for an iteration over connections whose tasks are in a nursery of the caller.

        ::

            async with connect(...).attempts() as attempts:
                async for websocket in attempts:
                    ...

        When the block is left, the last connection is closed, and nothing is left in the background.
        """
        return _Attempts(self)


async def _connect(connecting: connect, nursery: trio.Nursery) -> ClientConnection:
    """Connect and follow redirects; raises the exceptions that :class:`connect` documents."""
    redirects, late = Redirects(connecting), None
    timeout = connecting.open_timeout
    with trio.CancelScope(deadline=math.inf if timeout is None else trio.current_time() + timeout) as scope:
        try:
            return await _follow(connecting, redirects, nursery)
        except BaseException as exc:
            if scope.cancel_called:
                late = redirects.timed_out(exc)
            raise
    assert late is not None
    try:
        raise late from trio.TooSlowError()
    finally:
        # With its traceback, the exception would be in a reference cycle.
        del late


async def _follow(connecting: connect, redirects: Redirects, nursery: trio.Nursery) -> ClientConnection:
    while True:
        hop = redirects.next_hop()
        try:
            return await _connect_once(connecting, hop, redirects, nursery)
        except Exception as exc:
            if not redirects.follow(exc):
                raise


async def _connect_once(connecting: connect, hop: Hop, redirects: Redirects, nursery: trio.Nursery) -> ClientConnection:
    """Connect to one URI, without following redirects."""
    with hop:
        connection = await connecting.open_tcp_connection(nursery)
        try:
            await connection._ws_opening_handshake(hop.headers, connecting.user_agent_header)
        except BaseException:
            redirects.stopped(connection._ws_session.stop_opening())
            connection.abort()
            raise
    return connection


class _Connections(AsyncGenerator[ClientConnection, None]):
    """The connections of an iteration over :class:`connect`, one after the other.

    It has the methods of an async generator, but isn't written with ``yield``: nothing of the task that iterates stays
    open between two connections, so the loop may be left at any time.

    Parameters:
        connecting: the object that opens the connections.
        nursery: where the tasks of the connections run; None for system tasks.
    """

    def __init__(self, connecting: connect, nursery: trio.Nursery | None = None) -> None:
        self._connecting = connecting
        self._nursery = nursery
        self._reconnection = Reconnection(connecting)
        self._connection: ClientConnection | None = None
        self._token: trio.lowlevel.TrioToken | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ClientConnection:
        reconnection = self._reconnection
        with reconnection.step(BUSY):
            if reconnection.ended:
                raise StopAsyncIteration
            # This stays True if an error leaves this function: an error ends the iteration.
            reconnection.ended = True
            if (last := await self._leave()) is not None:
                delay = reconnection.after_connection(last._ws_session, trio.current_time())
                if delay:
                    await trio.sleep(delay)
            connection = await self._connect()
            reconnection.ended = False
            return connection

    async def asend(self, value: None) -> ClientConnection:
        """Return the next connection; the value is ignored."""
        return await self.__anext__()

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None) -> NoReturn:
        """Close the last connection, end the iteration, and raise an exception."""
        await self.aclose()
        exc = typ if isinstance(typ, BaseException) else typ() if val is None else val
        raise exc.with_traceback(tb)

    async def aclose(self, code: int = CloseCode.NORMAL_CLOSURE) -> None:
        """Close the last connection, and end the iteration.

        Parameters:
            code: close code.
        """
        with self._reconnection.step(BUSY):
            self._reconnection.ended = True
            await self._leave(code)

    def __del__(self) -> None:
        if self._connection is not None and self._token is not None:
            # The garbage collector may run this in any thread, and the run may be over.
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._connection._ws_start_closing, CloseCode.NORMAL_CLOSURE)

    async def _connect(self) -> ClientConnection:
        self._token = trio.lowlevel.current_trio_token()
        while True:
            try:
                self._connection = await self._try()
            except Exception as exc:
                delay = self._reconnection.after_failure(exc, time.time())
            else:
                self._reconnection.connected(trio.current_time())
                return self._connection
            await trio.sleep(delay)

    async def _try(self) -> ClientConnection:
        """Connect once."""
        if self._nursery is not None:
            return await _connect(self._connecting, self._nursery)
        home = Home()
        try:
            return await _connect(self._connecting, await home.open())
        finally:
            home.settle()

    async def _leave(self, code: int = CloseCode.NORMAL_CLOSURE) -> ClientConnection | None:
        """Close the last connection, if there is one, and return it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose(code)
        return connection


class _Attempts(AbstractAsyncContextManager[AsyncIterator[ClientConnection]]):
    """A context manager for an iteration over connections whose tasks are in a nursery of the caller.

    Parameters:
        connecting: the object that opens the connections.
    """

    _block: Block
    _connections: _Connections

    def __init__(self, connecting: connect) -> None:
        self._connecting = connecting

    async def __aenter__(self) -> AsyncIterator[ClientConnection]:
        self._block = Block()
        self._connections = _Connections(self._connecting, await self._block.enter())
        return self._connections

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        code = CloseCode.NORMAL_CLOSURE if exc is None else CloseCode.INTERNAL_ERROR
        return await self._block.leave(exc, self._connections.aclose(code))


def unix_connect(path: str | bytes | os.PathLike[str] | None = None, uri: str | None = None, **kwargs: Any) -> connect:
    """Connect to a WebSocket server on a Unix socket; otherwise like :class:`connect`.

    Parameters:
        path: path of the socket; None if ``stream`` is given.
        uri: the URI for the request; ``ws://localhost/`` by default, or ``wss://localhost/`` with ``ssl``.
        **kwargs: as for :class:`connect`.

    Returns:
        As :class:`connect`: use it as a context manager or an iterator.

    Raises:
        ValueError: there is neither a path nor a stream.
        Exception: otherwise as for :class:`connect`.
    """
    return connect(unix_uri(uri, kwargs), unix=True, path=path, **kwargs)
