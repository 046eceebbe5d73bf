"""WebSocket clients on asyncio: connecting and reconnecting, as far as they wait.

May know: the event loop, the arguments of :class:`connect`. Must not know: which responses are valid, whether to follow
a redirect, how long to wait, which options belong to which hop: ``_session`` decides that.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, Self

from .._compat.deprecated import deprecated_names
from .._compat.layout import share_names
from .._rules.addresses import naming_path
from .._session.client_session import ClientSession
from .._session.connector import Connector, unix_uri
from .._session.options import ClientOptions, connection_arguments, renamed_argument
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
from ._dial import open_connection
from ._proxy import choose_route, connect_through
from ._secure import method_for_tls
from .connection import Connection

__all__ = ["ClientConnection", "connect", "unix_connect"]

# The text of the error when two tasks advance the same iteration.
BUSY: Final = "this iteration over connect() is waiting in another task"


class ClientConnection(Connection):
    """The client's end of a WebSocket connection; ``await connect(...)`` returns it.

    Parameters:
        protocol: sans-I/O connection.
        ping_interval, ping_timeout, close_timeout, max_queue, write_limit, idle_timeout: as for
            :class:`~websockets.asyncio.connection.Connection`.
    """

    protocol: ClientProtocol
    _ws_session: ClientSession

    if TYPE_CHECKING:
        # The same as in the base class, with the protocol of a client.
        def __init__(
            self,
            protocol: ClientProtocol,
            *,
            ping_interval: float | None = 20,
            ping_timeout: float | None = 20,
            close_timeout: float | None = 10,
            max_queue: int | tuple[int | None, int | None] | None = 16,
            write_limit: int | tuple[int, int | None] = 2**15,
            idle_timeout: float | None = None,
        ) -> None: ...

    _ws_opening_waiter: asyncio.Future[None] | None = None

    async def handshake(
        self, additional_headers: HeadersLike | None = None, user_agent_header: str | None = USER_AGENT
    ) -> None:
        """Do the opening handshake; :func:`connect` calls this once. Subclasses may override this.

        Parameters:
            additional_headers: headers to add to the request.
            user_agent_header: value of the ``User-Agent`` header; None to leave it out.

        Raises:
            InvalidHandshake: the server refused, or its response isn't valid (RFC 6455 section 4.1).
        """
        session = self._ws_session
        session.send_request(session.make_request(additional_headers, user_agent_header))
        self._ws_process_events()
        await self._ws_opening_response()
        session.check_opened()

    async def _ws_opening_response(self) -> None:
        """Wait until the outcome of the opening handshake is known."""
        if self._ws_session.opening:
            self._ws_opening_waiter = self.loop.create_future()
            await self._ws_opening_waiter

    def _ws_process_events(self) -> None:
        super()._ws_process_events()
        waiter = self._ws_opening_waiter
        if waiter is not None and not waiter.done() and not self._ws_session.opening:
            waiter.set_result(None)


# fmt: off
share_names(
    ClientConnection,
    "protocol", "loop", "_ws_shared", "_ws_write_limit", "_ws_session", "transport", "_ws_opening_waiter",
    "_ws_entry", "_ws_receiver", "_ws_burst", "_ws_corked", "_ws_closing", "_ws_lost", "_ws_write_waiters",
    "_ws_queue", "_ws_buffer", "_ws_client", "_ws_life", "_ws_may_send", "_ws_high", "_ws_decoder", "_ws_pack",
    "_ws_inflate", "_ws_plain", "_ws_quick", "_ws_reading_paused", "_ws_addresses",
)
# fmt: on


@functools.cache
def _usual_logger() -> logging.Logger:
    """Return the logger by default; looking it up takes a lock, so this is done once."""
    return logging.getLogger("websockets.client")


class connect(Connector):
    """Connect to a WebSocket server.

    Await it to get a connection. Use it as an async context manager to get a connection that is closed on exit. Iterate
    over it with ``async for`` to reconnect: each iteration gives a new connection after the previous one is closed.

    Parameters:
        uri: where to connect: ``ws://`` or ``wss://``.
        origin: value of the ``Origin`` header; None to send none.
        extensions: extensions to offer, in order of preference.
        subprotocols: subprotocols to offer, in order of preference.
        compression: "deflate" for permessage-deflate (RFC 7692), None for no compression.
        additional_headers: headers to add to the request; they are read again for each attempt of an iteration.
        user_agent_header: value of the ``User-Agent`` header; None to leave it out.
        proxy: True for the proxy of the system, if there is one and the server isn't on this machine; None for no
            proxy; or the URI of a proxy: ``http://``, ``https://``, ``socks5h://``, ``socks5://``, ``socks4a://`` or
            ``socks4://``; the last four need python-socks. Not used with Unix sockets or ``sock``.
        process_exception: ``f(exc)``, called when an attempt fails in an iteration: return None to try again, or the
            exception to raise. Any exception except ``exc`` itself, returned or raised, has ``exc`` as its cause.
        open_timeout: seconds that connecting may take, including redirects; None for no limit.
        ping_interval, ping_timeout, close_timeout: timeouts of a connection in seconds; see
            :class:`~websockets.asyncio.connection.Connection`.
        reconnect_delays: function that returns an iterator over the delays in seconds between attempts in an iteration.
        max_size: maximum size of incoming messages in bytes; None for no limit; or a tuple of the limits of a message
            and of a fragment.
        max_queue, write_limit: buffers of a connection; see :class:`~websockets.asyncio.connection.Connection`.
        logger: where to log; ``websockets.client`` by default.
        create_connection: class or factory of connections, called like :class:`ClientConnection`.
        idle_timeout: seconds without data after which the connection is closed with code 1001; see
            :class:`~websockets.asyncio.connection.Connection`.
        max_rate, max_bytes_rate, on_rate: limits for what is received in a second; see
            :func:`~websockets.asyncio.server.serve`.
        tls_transport: what encrypts: "loop" for the transport of the event loop, "memory" for ours, "aiofastnet" for
            that of the extra ``fast``; None for the best one that there is.
        **kwargs: passed to :meth:`asyncio.loop.create_connection`: ``ssl``, ``server_hostname``, ``sock``, ``host`` and
            ``port`` to connect to another address than that of the URI, ``family``, ``local_addr``... If a name has
            several addresses, they are tried according to RFC 8305 (Happy Eyeballs), on any event loop:
            ``happy_eyeballs_delay`` is the time in seconds before the next address is tried while the previous one
            hasn't answered, 0.25 by default; None to try the next address only after the previous one has failed.
            ``interleave`` is the number of addresses of the first family before the families alternate, 1 by default.
            With ``all_errors=True`` a failure is an :exc:`ExceptionGroup`. ``server_hostname`` is the host of the URI
            by default, without a trailing dot (RFC 6066 section 3) and without a zone. With a proxy, options for TLS
            apply to the server, while ``proxy_ssl``, ``proxy_server_hostname``, ``proxy_ssl_handshake_timeout`` and
            ``proxy_ssl_shutdown_timeout`` apply to an ``https://`` proxy; the other options apply to the TCP connection
            to the proxy.

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
        origin: Origin | None = None,
        extensions: Sequence[ClientExtensionFactory] | None = None,
        subprotocols: Sequence[Subprotocol] | None = None,
        compression: str | None = "deflate",
        additional_headers: HeadersLike | None = None,
        user_agent_header: str | None = USER_AGENT,
        proxy: str | Literal[True] | None = True,
        process_exception: Callable[[Exception], Exception | None] = process_exception,
        open_timeout: float | None = 10,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
        close_timeout: float | None = 10,
        reconnect_delays: Callable[[], Iterator[float]] = backoff,
        max_size: int | tuple[int | None, int | None] | None = 2**20,
        max_queue: int | tuple[int | None, int | None] | None = 16,
        write_limit: int | tuple[int, int | None] = 2**15,
        logger: LoggerLike | None = None,
        create_connection: Callable[..., ClientConnection] | None = None,
        idle_timeout: float | None = None,
        max_rate: tuple[float, int] | None = None,
        max_bytes_rate: tuple[float, int] | None = None,
        on_rate: Literal["wait", "close"] = "wait",
        tls_transport: Literal["loop", "memory", "aiofastnet"] | None = None,
        **kwargs: Any,
    ) -> None:
        create_connection = renamed_argument(kwargs, "create_protocol", "create_connection", create_connection)
        headers: Any = additional_headers
        additional_headers = renamed_argument(kwargs, "extra_headers", "additional_headers", headers)
        options = ClientOptions.of(locals(), _usual_logger())
        super().__init__(uri, options, ClientConnection)

    connection: ClientConnection | None = None

    # ------------------------------------------------------------------------------------------------------ connecting

    async def connect(self) -> ClientConnection:
        """Connect and follow redirects; raises the exceptions that the class documents."""
        limit = asyncio.timeout(self.open_timeout)
        redirects = Redirects(self)
        try:
            async with limit:
                while True:
                    hop = redirects.next_hop()
                    try:
                        return await _connect_once(self, hop, redirects)
                    except Exception as exc:
                        if not redirects.follow(exc):
                            raise
        except TimeoutError as exc:
            # A timeout of the operating system also raises TimeoutError, with a message of its own.
            if not limit.expired():
                raise
            raise redirects.timed_out(exc.__cause__) from exc

    async def open_tcp_connection(self) -> ClientConnection:
        """Open a TCP connection, through a proxy if there is one, without the opening handshake. May be overridden.

        Returns:
            The connection, in the state CONNECTING.
        """
        # Read the state before the first wait: another attempt may change it during the wait.
        uri, state, hop = self.ws_uri, self._ws_connector_state, self._ws_connector_state.hop
        factory: Callable[[], ClientConnection] = functools.partial(state.connection, uri)
        streams = state.network or asyncio.get_running_loop()
        kwargs = connection_arguments(uri, self.create_connection_kwargs, state.first)
        route = await choose_route(self.proxy, uri, kwargs)
        if route is not None:
            hop.route = route
            plan = plan_tunnel(route, kwargs, self.user_agent_header, self.logger)
            return await connect_through(plan, factory, state.options.tls_transport)
        kwargs = without_proxy(kwargs)
        unix = kwargs.pop("unix", False)
        connection: ClientConnection
        name = "create_unix_connection" if unix else "create_connection"
        create = method_for_tls(streams, name, state.options.tls_transport, kwargs.get("ssl"))
        if unix:
            with naming_path(kwargs.get("path")):
                _, connection = await create(factory, **kwargs)
        else:
            _, connection = await open_connection(streams, factory, create, **kwargs)
        return connection

    # ------------------------------------------------------------------------------------------------------ three uses

    def __await__(self) -> Generator[Any, None, ClientConnection]:
        return self.connect().__await__()

    async def __aenter__(self) -> ClientConnection:
        self._ws_connector_state.enter()
        try:
            # A subclass may override __await__().
            self.connection = await self
        except BaseException:
            self._ws_connector_state.entered = False
            raise
        return self.connection

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        connection, self.connection = self.connection, None
        self._ws_connector_state.entered = False
        if connection is None:
            raise AttributeError("connect() has no connection: it is left without having been entered")
        await connection.__aexit__(exc_type, exc, traceback)

    def __aiter__(self) -> AsyncIterator[ClientConnection]:
        """Iterate over connections: a new one each time the body of the loop ends.

        Raises:
            Exception: the one that ``process_exception`` returns, or the last error when ``reconnect_delays`` ends.
        """
        return _Connections(self)


async def _connect_once(connecting: connect, hop: Hop, redirects: Redirects) -> ClientConnection:
    """Connect to one URI, without following redirects."""
    with hop:
        connection = await connecting.open_tcp_connection()
        try:
            # Connections of the legacy API have a method of that name with other parameters.
            begin = getattr(type(connection), "_ws_opening_handshake", None)
            opening = connection.handshake if begin is None else functools.partial(begin, connection)
            await opening(hop.headers, connecting.user_agent_header)
        except BaseException:
            redirects.stopped(connection._ws_session.stop_opening())
            connection._ws_abort()
            raise
    return connection


class _Connections(AsyncGenerator[ClientConnection, None]):
    """The connections of an iteration over :class:`connect`, one after the other.

    It has the methods of an async generator, but isn't written with ``yield``. When a loop over a real async generator
    is left, asyncio starts a task to close the generator, and at the end of the program nothing waits for that task.
    This class starts to close the connection without a task.

    Parameters:
        connecting: the object that opens the connections.
    """

    def __init__(self, connecting: connect) -> None:
        self._connecting = connecting
        self._reconnection = Reconnection(connecting)
        self._connection: ClientConnection | None = None

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
                delay = reconnection.after_connection(last._ws_session, last.loop.time())
                if delay:
                    await asyncio.sleep(delay)
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

    async def aclose(self) -> None:
        """Close the last connection, and end the iteration."""
        with self._reconnection.step(BUSY):
            self._reconnection.ended = True
            await self._leave()

    def __del__(self) -> None:
        if self._connection is not None:
            # The garbage collector may run this in any thread, and the event loop may be closed.
            with contextlib.suppress(RuntimeError):
                self._connection.loop.call_soon_threadsafe(_start_closing, self._connection)

    async def _connect(self) -> ClientConnection:
        while True:
            try:
                self._connection = await self._connecting
            except Exception as exc:
                await asyncio.sleep(self._reconnection.after_failure(exc, time.time()))
            else:
                self._reconnection.connected(self._connection.loop.time())
                return self._connection

    async def _leave(self) -> ClientConnection | None:
        """Close the last connection, if there is one, and return it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
        return connection


def _start_closing(connection: ClientConnection) -> None:
    """Start to close a connection, without waiting until it is closed."""
    if type(connection).close is ClientConnection.close:
        connection._ws_start_closing(CloseCode.NORMAL_CLOSURE)
    else:
        connection.loop.create_task(connection.close())  # overridden by the user


def unix_connect(path: str | bytes | os.PathLike[str] | None = None, uri: str | None = None, **kwargs: Any) -> connect:
    """Connect to a WebSocket server on a Unix socket; otherwise like :class:`connect`.

    Parameters:
        path: path of the socket; None if ``sock`` is given.
        uri: the URI for the request; ``ws://localhost/`` by default, or ``wss://localhost/`` with ``ssl``.
        **kwargs: as for :class:`connect`; other arguments are passed to :meth:`asyncio.loop.create_unix_connection`.

    Returns:
        As :class:`connect`: await it, or use it as a context manager or an iterator.

    Raises:
        Exception: as for :class:`connect`.
    """
    return connect(unix_uri(uri, kwargs), unix=True, path=path, **kwargs)


# Names from earlier releases.
if not TYPE_CHECKING:
    __getattr__ = deprecated_names(__name__)
