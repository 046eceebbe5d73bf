"""WebSocket clients on asyncio: connecting, and connecting again, in as far as they wait.

May know: the loop, what users pass to :class:`connect`. Must not know: what a good response is, whether to follow a
redirect, how long to wait: that is decided further down.
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
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self

from .._compat.deprecated import names_of_old
from .._compat.layout import share_names
from .._session.opening import (
    MAX_REDIRECTS,
    Backoff,
    GiveUp,
    describe,
    is_redirect,
    redirect_location,
    redirected,
    retry_after,
    timed_out,
)
from .._session.options import ClientOptions, check_tls, connection_arguments, renamed_argument
from ..client import ClientProtocol, backoff
from ..client import process_exception as process_exception
from ..datastructures import HeadersLike
from ..exceptions import InvalidHeader, InvalidURI, SecurityError
from ..extensions.base import ClientExtensionFactory
from ..frames import CloseCode
from ..http11 import USER_AGENT, Request, ResponseParser
from ..protocol import State
from ..typing import LoggerLike, Origin, Subprotocol
from ..uri import WebSocketURI
from ._dial import open_connection
from ._proxy import choose_route, connect_through, without_proxy
from .connection import Connection

__all__ = ["ClientConnection", "connect", "unix_connect"]

_process_exception = process_exception


class ClientConnection(Connection):
    """The client's end of a WebSocket connection; what ``await connect(...)`` returns.

    Parameters:
        protocol: sans-I/O connection.
        ping_interval, ping_timeout, close_timeout, max_queue, write_limit, idle_timeout: as for
            :class:`~websockets.asyncio.connection.Connection`.
    """

    protocol: ClientProtocol

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
    ) -> None:
        super().__init__(
            protocol,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            close_timeout=close_timeout,
            max_queue=max_queue,
            write_limit=write_limit,
            idle_timeout=idle_timeout,
        )

    _opening: asyncio.Future[None] | None = None

    async def _open(self, additional_headers: HeadersLike | None, user_agent_header: str | None) -> None:
        """Do the opening handshake.

        Raises:
            InvalidHandshake: the server refused, or what it said isn't one.
        """
        request = self.protocol.connect()
        if additional_headers is not None:
            request.headers.update(additional_headers)
        if user_agent_header and "User-Agent" not in request.headers:
            request.headers["User-Agent"] = user_agent_header
        self._ask(request)
        await self._hear()
        if self.protocol.handshake_exc is not None:
            raise self.protocol.handshake_exc

    def _ask(self, request: Request) -> None:
        self._session.request = request
        self.protocol._parser = self._new_parser()
        self.protocol.send_request(request)
        self._attend()

    def _new_parser(self) -> ResponseParser:
        """What reads the response. Who follows a redirect doesn't wait for its body, which may never end."""
        return ResponseParser(enough=is_redirect)

    async def _hear(self) -> None:
        """Wait for the response, be it none."""
        if self.protocol.state is State.CONNECTING and self.protocol.handshake_exc is None:
            self._opening = self.loop.create_future()
            await self._opening

    def _attend(self) -> None:
        super()._attend()
        opening = self._opening
        over = self.protocol.state is not State.CONNECTING or self.protocol.handshake_exc is not None
        if opening is not None and over and not opening.done():
            opening.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop: the TCP connection is over."""
        super().connection_lost(exc)
        failure = self.protocol.handshake_exc
        if exc is not None and failure is not None and failure.__cause__ is not None:
            failure.__cause__.__cause__ = exc


# fmt: off
share_names(
    ClientConnection,
    "protocol", "loop", "_shared", "_write_limit", "_session", "transport", "_opening", "_entry",
    "_receiver", "_burst", "_corked", "_closing", "_lost", "_drainers", "_queue", "_buffer", "_client",
    "_life", "_may_send", "_high", "_decoder", "_pack", "_inflate", "_plain", "_quick", "_muted", "_addresses",
)
# fmt: on


class connect:
    """Connect to a WebSocket server.

    Await it for a connection; use it as an async context manager for a connection that is closed on exit; iterate over
    it asynchronously for a new connection whenever the one before is closed.

    Parameters:
        uri: where to connect: ``ws://`` or ``wss://``.
        origin: value of the ``Origin`` header; None to send none.
        extensions: extensions to offer, in the order of preference.
        subprotocols: subprotocols to offer, in the order of preference.
        compression: "deflate" for permessage-deflate (RFC 7692), None for none.
        additional_headers: headers to add to the request; they are read anew for each attempt of an iteration.
        user_agent_header: value of the ``User-Agent`` header; None to leave it out.
        proxy: True for the proxy of the system, if there is one and the server isn't on this machine; None for none; or
            the URI of a proxy: ``http://``, ``https://``, ``socks5h://``, ``socks5://``, ``socks4a://`` or
            ``socks4://``, the last four with python-socks. It isn't used with Unix sockets or ``sock``.
        process_exception: ``f(exc)``, called when an attempt fails in an iteration: None to try again, or the exception
            to raise. Any exception but ``exc`` itself, returned or raised, has ``exc`` as its cause.
        open_timeout: seconds that connecting may take, redirects included; None for no limit.
        ping_interval, ping_timeout, close_timeout: times of a connection in seconds; see
            :class:`~websockets.asyncio.connection.Connection`.
        reconnect_delays: makes a series of delays in seconds between attempts in an iteration.
        max_size: limit of incoming messages in bytes, None for no limit, or a tuple of the limits of a message and of
            a fragment.
        max_queue, write_limit: buffers of a connection; see :class:`~websockets.asyncio.connection.Connection`.
        logger: where to log; ``websockets.client`` by default.
        create_connection: class or factory of connections, called like :class:`ClientConnection`.
        idle_timeout: seconds without data after which the connection is closed with 1001; see
            :class:`~websockets.asyncio.connection.Connection`.
        **kwargs: passed to :meth:`asyncio.loop.create_connection`: ``ssl``, ``server_hostname``, ``sock``, ``host`` and
            ``port`` to connect elsewhere than the URI says, ``family``, ``local_addr``... When a name has several
            addresses, they are tried as RFC 8305 says, on any loop: ``happy_eyeballs_delay`` is the time in seconds
            after which another one is tried while the one before doesn't answer, 0.25 by default; None to try the next
            one only when the one before has failed. ``interleave`` is how many addresses of the first family come
            before families take turns, 1 by default; ``all_errors=True`` has a failure be an :exc:`ExceptionGroup`.
            ``server_hostname`` is the host of the URI by default, without a dot at its end (RFC 6066 section 3) and
            without a zone. With a proxy, those about TLS apply to the server, while
            ``proxy_ssl``, ``proxy_server_hostname``, ``proxy_ssl_handshake_timeout`` and ``proxy_ssl_shutdown_timeout``
            apply to an ``https://`` proxy; the others, to the TCP connection to the proxy.

    Raises:
        InvalidURI: ``uri`` isn't a WebSocket URI.
        InvalidProxy: ``proxy``, or what the system says, isn't the URI of a proxy.
        OSError: the name isn't known, or the TCP connection fails, for each of its addresses.
        InvalidHandshake: the opening handshake fails, or the proxy doesn't lead to the server.
        TimeoutError: it takes too long.
        TypeError: an option has a wrong type, or nobody takes it.
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
        **kwargs: Any,
    ) -> None:
        create_connection = renamed_argument(kwargs, "create_protocol", "create_connection", create_connection)
        headers: Any = additional_headers
        additional_headers = renamed_argument(kwargs, "extra_headers", "additional_headers", headers)
        options = ClientOptions.of(locals(), logging.getLogger("websockets.client"))
        self.uri = uri
        self.ws_uri = self._first_uri = options.uri
        self.additional_headers: HeadersLike | None = options.additional_headers
        self.user_agent_header = options.user_agent_header
        self.proxy: str | Literal[True] | None = options.proxy
        self.process_exception = options.process_exception or _process_exception
        self.open_timeout = options.open_timeout
        self.reconnect_delays = options.reconnect_delays or backoff
        self.logger = options.logger
        self.create_connection_kwargs = options.arguments
        self._make_protocol = options.protocol
        # Classes that are derived have names of their own, so those of ours are long.
        self._make_connection: Callable[[ClientProtocol], ClientConnection] = functools.partial(
            options.create_connection or ClientConnection, **options.of_connection
        )

    # What makes the TCP connection, if not the loop: a network in memory, in tests.
    _streams: Any = None
    connection: ClientConnection | None = None
    _is_entered = False
    # What names the proxy in the error of an attempt through one.
    _route_context: contextlib.ExitStack | None = None

    # ------------------------------------------------------------------------------------------------------ connecting

    async def connect(self) -> ClientConnection:
        """Connect, following redirects; see the class for what it raises."""
        limit = asyncio.timeout(self.open_timeout)
        refusals: list[Exception] = []
        try:
            async with limit:
                return await self._follow_redirects(refusals)
        except TimeoutError as exc:
            # The operating system has time-outs of its own, which say what they are.
            if not limit.expired():
                raise
            if refusals:
                raise refusals[0] from exc
            raise timed_out(exc) from exc

    async def _follow_redirects(self, refusals: list[Exception]) -> ClientConnection:
        location, uri, headers = self.uri, self._first_uri, self.additional_headers
        for _ in range(self._max_redirects()):
            try:
                return await self._connect_once(uri, headers, refusals)
            except Exception as exc:
                target = self._find_target(exc, location)
                if target is exc:
                    raise
                if isinstance(target, Exception):
                    raise target from target.__cause__ or exc
                uri, headers = redirected(target, uri, self.create_connection_kwargs, headers)
                check_tls(uri, self.create_connection_kwargs)
                location = target
        raise SecurityError(f"more than {self._max_redirects()} redirects")

    def _max_redirects(self) -> int:
        """How many attempts there may be, redirects included."""
        return MAX_REDIRECTS

    def _find_target(self, exc: Exception, location: str) -> Exception | str:
        # Later attempts begin at the first URI; but who follows redirects needs the one that redirects.
        first, self.uri = self.uri, location
        try:
            return self.process_redirect(exc)
        finally:
            self.uri = first

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Whether a failed attempt is a redirect to follow. May be overridden.

        Parameters:
            exc: what ended the attempt to connect to ``uri``.

        Returns:
            The URI to go on with; or the exception to raise, ``exc`` itself if it isn't a redirect.
        """
        try:
            return redirect_location(exc, self.uri) or exc
        except (InvalidURI, InvalidHeader) as error:
            return error

    async def _connect_once(
        self, uri: WebSocketURI, headers: HeadersLike | None, refusals: list[Exception]
    ) -> ClientConnection:
        """Connect to one place. If time is up before all of a refusal is there, ``refusals`` gets it as it is."""
        self.ws_uri = uri
        with contextlib.ExitStack() as self._route_context:
            connection = await self.open_tcp_connection()
            try:
                await connection._open(headers, self.user_agent_header)
            except BaseException:
                if refusal := connection.protocol._wait_no_longer():
                    refusals.append(refusal)
                connection._abort()
                raise
        return connection

    async def open_tcp_connection(self) -> ClientConnection:
        """Open a TCP connection, through a proxy if there is one, without the opening handshake. May be overridden.

        Returns:
            The connection, in the state CONNECTING.
        """
        # Before anything waits: another attempt may begin then.
        uri, way = self.ws_uri, self._route_context or contextlib.ExitStack()

        def factory() -> ClientConnection:
            return self._make_connection(self._make_protocol(uri))

        streams = self._streams or asyncio.get_running_loop()
        kwargs = connection_arguments(uri, self.create_connection_kwargs, self._first_uri)
        route = await choose_route(self.proxy, uri, kwargs)
        if route is not None:
            way.enter_context(route)
            return await connect_through(route, factory, kwargs, self.user_agent_header)
        kwargs = without_proxy(kwargs)
        if kwargs.pop("unix", False):
            _, connection = await streams.create_unix_connection(factory, **kwargs)
        else:
            _, connection = await open_connection(streams, factory, **kwargs)
        return connection

    # ------------------------------------------------------------------------------------------------------ three uses

    def __await__(self) -> Generator[Any, None, ClientConnection]:
        return self.connect().__await__()

    async def __aenter__(self) -> ClientConnection:
        if self._is_entered:
            raise RuntimeError("connect() isn't reentrant")
        self._is_entered = True
        try:
            # A class may have a way of its own to be awaited.
            self.connection = await self
        except BaseException:
            self._is_entered = False
            raise
        return self.connection

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        connection, self.connection = self.connection, None
        self._is_entered = False
        if connection is None:
            raise AttributeError("connect() has no connection: it is left without having been entered")
        await connection.__aexit__(exc_type, exc, traceback)

    def __aiter__(self) -> AsyncIterator[ClientConnection]:
        """A connection, and another one whenever the body of the loop is done with it, as long as it is iterated.

        Raises:
            Exception: what ``process_exception`` says, or the last error once ``reconnect_delays`` has no more.
        """
        return _Connections(self)


class _Connections(AsyncGenerator[ClientConnection, None]):
    """The connections of an iteration over :class:`connect`, one after the other, as an async generator gives them.

    It has the methods of one, but isn't made by ``yield``. To close such a one that was left, asyncio makes a task; if
    the program ends then, nobody waits for that task. This here starts to close the connection, and needs no task.

    Parameters:
        connecting: what makes the connections.
    """

    def __init__(self, connecting: connect) -> None:
        self._connecting = connecting
        self._delays = Backoff(connecting.reconnect_delays)
        self._connection: ClientConnection | None = None
        self._opened = 0.0
        self._over = self._running = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ClientConnection:
        with self._run():
            if self._over:
                raise StopAsyncIteration
            # An error ends the iteration.
            self._over = True
            if (connection := await self._leave()) is not None:
                await self._wait_after_connection(connection)
            connection = await self._connect()
            self._over = False
            return connection

    async def asend(self, value: None) -> ClientConnection:
        """The next connection; nobody takes what is sent."""
        return await self.__anext__()

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None) -> NoReturn:
        """Close the last connection, end the iteration, and raise an exception."""
        await self.aclose()
        exc = typ if isinstance(typ, BaseException) else typ() if val is None else val
        raise exc.with_traceback(tb)

    async def aclose(self) -> None:
        """Close the last connection, and end the iteration."""
        with self._run():
            self._over = True
            await self._leave()

    def __del__(self) -> None:
        if self._connection is not None:
            # Any thread may collect this, and the loop may be closed.
            with contextlib.suppress(RuntimeError):
                self._connection.loop.call_soon_threadsafe(_start_closing, self._connection)

    @contextlib.contextmanager
    def _run(self) -> Iterator[None]:
        if self._running:
            raise RuntimeError("this iteration over connect() is waiting in another task")
        self._running = True
        try:
            yield
        finally:
            self._running = False

    async def _connect(self) -> ClientConnection:
        while True:
            try:
                self._connection = await self._connecting
            except Exception as exc:
                await self._wait_after(exc)
            else:
                self._opened = self._connection.loop.time()
                return self._connection

    async def _leave(self) -> ClientConnection | None:
        """Close the last connection, if there is one, and return it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
        return connection

    async def _wait_after_connection(self, connection: ClientConnection) -> None:
        """Wait before another attempt, or raise."""
        try:
            delay = self._delays.after_connection(connection.loop.time() - self._opened)
        except GiveUp:
            closed = connection._session.close_exc()
            raise closed from closed.__cause__
        if delay:
            closed = connection._session.close_exc()
            self._connecting.logger.info("connection closed early; reconnecting in %.1f seconds: %s", delay, closed)
            await asyncio.sleep(delay)

    async def _wait_after(self, exc: Exception) -> None:
        """Wait before another attempt, or raise."""
        try:
            fatal = self._connecting.process_exception(exc)
        except Exception as raised:
            fatal = raised
        if fatal is exc:
            raise exc
        if fatal is not None:
            raise fatal from exc
        try:
            delay = self._delays.after_failure(retry_after(exc, time.time()))
        except GiveUp:
            raise exc from exc.__cause__
        self._connecting.logger.info("connect failed; reconnecting in %.1f seconds: %s", delay, describe(exc))
        await asyncio.sleep(delay)


def _start_closing(connection: ClientConnection) -> None:
    """Close a connection that nobody waits for."""
    if type(connection).close is ClientConnection.close:
        connection._start_closing(CloseCode.NORMAL_CLOSURE)
    else:
        connection.loop.create_task(connection.close())  # overridden by the user


def unix_connect(path: str | bytes | os.PathLike[str] | None = None, uri: str | None = None, **kwargs: Any) -> connect:
    """Connect to a WebSocket server on a Unix socket; otherwise like :class:`connect`.

    Parameters:
        path: path of the socket; None if ``sock`` is given.
        uri: what the request says; ``ws://localhost/`` by default, or ``wss://localhost/`` with ``ssl``.
        **kwargs: as for :class:`connect`; what is left is passed to :meth:`asyncio.loop.create_unix_connection`.
    """
    if uri is None:
        uri = "ws://localhost/" if kwargs.get("ssl") is None else "wss://localhost/"
    return connect(uri, unix=True, path=path, **kwargs)


# Names of old.
if not TYPE_CHECKING:
    __getattr__ = names_of_old(__name__)
