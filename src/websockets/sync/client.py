"""WebSocket clients in threads: connecting and reconnecting, as far as they wait.

May know: the system's clock and sockets, the arguments of :func:`connect`. Must not know: which responses are valid,
whether to follow a redirect, how long to wait, which options belong to which hop: ``_session`` decides that.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, overload

from .._rules import option_table as allowed
from .._session.client_session import ClientSession
from .._session.connector import Connector, ConnectorState, unix_uri
from .._session.options import SYNC_CLIENT, ClientOptions, connection_arguments, renamed_argument
from .._session.reconnection import Reconnection
from .._session.redirects import Hop, Redirects
from .._session.tunnel import plan_tunnel, without_proxy
from ..client import ClientProtocol, backoff
from ..client import process_exception as process_exception
from ..datastructures import HeadersLike
from ..extensions.base import ClientExtensionFactory
from ..http11 import USER_AGENT
from ..typing import Data, LoggerLike, Origin, Subprotocol
from ._dial import open_connection, open_unix_connection
from ._line import Line, is_late, seconds_until
from ._proxy import SECURING_SERVER, choose_route, connect_through
from ._system import current
from .connection import Connection

if TYPE_CHECKING:
    from ssl import SSLContext

    from .._session.tls_in_tls import Channel

__all__ = ["ClientConnection", "connect", "reconnect", "unix_connect", "unix_reconnect"]

# The text of the error when the deadline passes.
WAITING_FOR_RESPONSE: Final = "timed out while waiting for handshake response"

# The warning at the first use of a connection from connect() outside of a with block.
NOT_IN_A_BLOCK: Final = (
    "connect() must be used as a context manager: with connect(...) as websocket: ...; "
    "alternatively, use websocket = connect(..., legacy=True) to connect directly"
)

# A connection without TLS, and no data.
NOTHING: Final = (None, b"")

# The uses of a connection that warn.
USES: Final = ("recv", "recv_streaming", "send", "ping", "pong", "close")


class ClientConnection(Connection):
    """The client's end of a WebSocket connection, for threads; ``with connect(...)`` gives it.

    Parameters:
        sock: connected socket.
        protocol: sans-I/O connection.
        ping_interval, ping_timeout, close_timeout, max_queue, idle_timeout: as for
            :class:`~websockets.sync.connection.Connection`.
    """

    protocol: ClientProtocol
    _ws_session: ClientSession
    # TLS, and data from the server, until the opening handshake.
    _ws_opened: tuple[Channel | None, bytes] = NOTHING

    if TYPE_CHECKING:
        # The same as in the base class, with the protocol of a client.
        def __init__(
            self,
            sock: socket.socket,
            protocol: ClientProtocol,
            *,
            ping_interval: float | None = 20,
            ping_timeout: float | None = 20,
            close_timeout: float | None = 10,
            max_queue: int | tuple[int | None, int | None] | None = 16,
            idle_timeout: float | None = None,
        ) -> None: ...

    def handshake(
        self,
        additional_headers: HeadersLike | None = None,
        user_agent_header: str | None = USER_AGENT,
        timeout: float | None = None,
    ) -> None:
        """Do the opening handshake; :func:`connect` calls this once.

        Parameters:
            additional_headers: headers to add to the request.
            user_agent_header: value of the ``User-Agent`` header; None to leave it out.
            timeout: seconds that it may take; None for no limit.

        Raises:
            InvalidHandshake: the server refused, or its response isn't valid (RFC 6455 section 4.1).
            TimeoutError: it takes longer than ``timeout``.
        """
        session = self._ws_session
        deadline = None if timeout is None else self._ws_system.now() + timeout
        request = session.make_request(additional_headers, user_agent_header)
        with self._ws_lock:
            session.send_request(request)
            # What the server said too early is an answer to this.
            self._ws_adopt(*self._ws_opened)
            self._ws_process_events()
        self._ws_opened = NOTHING
        self._ws_flush()
        if not self._ws_wait_until(lambda: not session.opening, deadline):
            with self._ws_lock:
                refusal = session.stop_opening()
            late = TimeoutError(WAITING_FOR_RESPONSE)
            if refusal is None:
                raise late
            raise refusal from late
        session.check_opened()

    # ------------------------------------------------------------------------------------- use outside of a with block

    def _ws_expect_block(self) -> None:
        """Warn at the first use, unless it is a ``with`` block. Later uses cost nothing."""
        for name in USES:
            self.__dict__[name] = functools.partial(_used_first, self, name)

    def _ws_expect_no_block(self) -> bool:
        """Return whether this is the first use, and don't warn at later ones."""
        expected = USES[0] in self.__dict__
        for name in USES if expected else ():
            self.__dict__.pop(name, None)
        return expected

    def __enter__(self) -> Self:
        self._ws_expect_no_block()
        return super().__enter__()

    def __iter__(self) -> Iterator[Data]:
        """Iterate over incoming messages; see :class:`~websockets.sync.connection.Connection`."""
        if self._ws_expect_no_block():
            warnings.warn(NOT_IN_A_BLOCK, DeprecationWarning, stacklevel=2)
        return super().__iter__()


def _used_first(connection: ClientConnection, name: str, *args: Any, **kwargs: Any) -> Any:
    """Warn, and call a method; this function replaces the method until then."""
    if connection._ws_expect_no_block():
        warnings.warn(NOT_IN_A_BLOCK, DeprecationWarning, stacklevel=2)
    return getattr(connection, name)(*args, **kwargs)


class reconnect(Connector):
    """Connect to a WebSocket server, and again when the connection ends.

    Use it as a context manager to get a connection that is closed on exit. Iterate over it with ``for`` to reconnect:
    each iteration gives a new connection after the previous one is closed. Each thread needs an object of its own.

    Parameters:
        uri: where to connect: ``ws://`` or ``wss://``.
        process_exception: ``f(exc)``, called when an attempt fails in an iteration: return None to try again, or the
            exception to raise. Any exception except ``exc`` itself, returned or raised, has ``exc`` as its cause.
        reconnect_delays: function that returns an iterator over the delays in seconds between attempts in an iteration.
        sock, ssl, server_hostname, origin, extensions, subprotocols, compression: as for :func:`connect`.
        additional_headers, user_agent_header, proxy, proxy_ssl, proxy_server_hostname: as for :func:`connect`.
        open_timeout, ping_interval, ping_timeout, close_timeout, idle_timeout: as for :func:`connect`.
        max_size, max_queue, max_rate, max_bytes_rate, on_rate, logger, create_connection: as for :func:`connect`.
        **kwargs: as for :func:`connect`.

    Raises:
        Exception: as for :func:`connect`; those about options are raised at once.
    """

    def __init__(
        self,
        uri: str,
        *,
        sock: socket.socket | None = None,
        ssl: SSLContext | None = None,
        server_hostname: str | None = None,
        origin: Origin | None = None,
        extensions: Sequence[ClientExtensionFactory] | None = None,
        subprotocols: Sequence[Subprotocol] | None = None,
        compression: str | None = "deflate",
        additional_headers: HeadersLike | None = None,
        user_agent_header: str | None = USER_AGENT,
        proxy: str | Literal[True] | None = True,
        proxy_ssl: SSLContext | None = None,
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
        ssl = renamed_argument(kwargs, "ssl_context", "ssl", ssl)
        options = ClientOptions.of(locals(), logging.getLogger("websockets.client"), SYNC_CLIENT)
        super().__init__(uri, options, ClientConnection)

    connection: ClientConnection | None = None

    def connect(self) -> ClientConnection:
        """Connect and follow redirects; raises the exceptions that :func:`connect` documents. May be overridden."""
        deadline = None if self.open_timeout is None else current().now() + self.open_timeout
        redirects = Redirects(self)
        while True:
            hop = redirects.next_hop()
            try:
                return _connect_once(self, self._ws_connector_state, hop, deadline)
            except Exception as exc:
                if is_late(exc) or not redirects.follow(exc):
                    raise

    def __enter__(self) -> ClientConnection:
        self._ws_connector_state.enter()
        try:
            self.connection = self.connect()
        except BaseException:
            self._ws_connector_state.entered = False
            raise
        return self.connection

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        connection, self.connection = self.connection, None
        self._ws_connector_state.entered = False
        if connection is None:
            raise AttributeError("connect() has no connection: it is left without having been entered")
        connection.__exit__(exc_type, exc, traceback)

    def __iter__(self) -> Iterator[ClientConnection]:
        """Iterate over connections: a new one each time the body of the loop ends.

        Raises:
            Exception: the one that ``process_exception`` returns, or the last error when ``reconnect_delays`` ends.
        """
        system, reconnection = current(), Reconnection(self)
        while True:
            try:
                connection = self.connect()
            except Exception as exc:
                delay = reconnection.after_failure(exc, system.date())
            else:
                reconnection.connected(system.now())
                try:
                    yield connection
                finally:
                    connection.close()
                delay = reconnection.after_connection(connection._ws_session, system.now())
                del connection
            if delay:
                system.sleep(delay)


def _connect_once(connecting: reconnect, state: ConnectorState, hop: Hop, deadline: float | None) -> ClientConnection:
    """Connect to one URI, without following redirects."""
    with hop:
        arguments = connection_arguments(hop.uri, connecting.create_connection_kwargs, state.first)
        line = _open_line(connecting, hop, arguments, deadline)
        try:
            connection: ClientConnection = state.make_connection(line.release(), state.options.protocol(hop.uri))
            connection._ws_opened = line.channel, line.received
        except BaseException:
            line.close()
            raise
        try:
            left = None if deadline is None else seconds_until(deadline, WAITING_FOR_RESPONSE)
            connection.handshake(hop.headers, connecting.user_agent_header, left)
        except BaseException:
            connection.abort()
            raise
    return connection


def _open_line(connecting: reconnect, hop: Hop, arguments: dict[str, Any], deadline: float | None) -> Line:
    """Open a TCP connection to the server, through a proxy if there is one, and start TLS if the URI asks for it."""
    if (address := arguments.pop("address", None)) is not None:
        arguments["host"], arguments["port"] = address[:2]
    hop.route = choose_route(connecting.proxy, hop.uri, arguments)
    if hop.route is not None:
        plan = plan_tunnel(hop.route, arguments, connecting.user_agent_header, connecting.logger)
        return connect_through(plan, deadline)
    arguments = without_proxy(arguments)
    context, server_hostname = arguments.pop("ssl", None), arguments.pop("server_hostname", None)
    line = Line(_open_socket(arguments, deadline), deadline)
    if context is not None:
        try:
            line.start_tls(SECURING_SERVER, ssl=context, server_hostname=server_hostname)
        except BaseException:
            line.close()
            raise
    return line


def _open_socket(arguments: dict[str, Any], deadline: float | None) -> socket.socket:
    """Return a connected socket, or the one from the user."""
    unix, sock = arguments.pop("unix", False), arguments.pop("sock", None)
    if sock is not None:
        given: socket.socket = sock
        return given
    opened = open_unix_connection if unix else open_connection
    return opened(deadline=deadline, **arguments)


# ------------------------------------------------------------------------------------------------- functions to connect


@overload
def connect(
    uri: str,
    *,
    sock: socket.socket | None = None,
    ssl: SSLContext | None = None,
    server_hostname: str | None = None,
    origin: Origin | None = None,
    extensions: Sequence[ClientExtensionFactory] | None = None,
    subprotocols: Sequence[Subprotocol] | None = None,
    compression: str | None = "deflate",
    additional_headers: HeadersLike | None = None,
    user_agent_header: str | None = USER_AGENT,
    proxy: str | Literal[True] | None = True,
    proxy_ssl: SSLContext | None = None,
    proxy_server_hostname: str | None = None,
    open_timeout: float | None = 10,
    ping_interval: float | None = 20,
    ping_timeout: float | None = 20,
    close_timeout: float | None = 10,
    max_size: int | tuple[int | None, int | None] | None = 2**20,
    max_queue: int | tuple[int | None, int | None] | None = 16,
    logger: LoggerLike | None = None,
    create_connection: Callable[..., ClientConnection] | None = None,
    idle_timeout: float | None = None,
    max_rate: tuple[float, int] | None = None,
    max_bytes_rate: tuple[float, int] | None = None,
    on_rate: Literal["wait", "close"] = "wait",
    legacy: Literal[True] | None = None,
    **kwargs: Any,
) -> ClientConnection: ...
@overload
def connect(uri: str, *, legacy: Literal[False], **kwargs: Any) -> reconnect: ...
@overload
def connect(uri: str, *, legacy: bool | None, **kwargs: Any) -> ClientConnection | reconnect: ...


def connect(
    uri: str,
    *,
    sock: socket.socket | None = None,
    ssl: SSLContext | None = None,
    server_hostname: str | None = None,
    origin: Origin | None = None,
    extensions: Sequence[ClientExtensionFactory] | None = None,
    subprotocols: Sequence[Subprotocol] | None = None,
    compression: str | None = "deflate",
    additional_headers: HeadersLike | None = None,
    user_agent_header: str | None = USER_AGENT,
    proxy: str | Literal[True] | None = True,
    proxy_ssl: SSLContext | None = None,
    proxy_server_hostname: str | None = None,
    open_timeout: float | None = 10,
    ping_interval: float | None = 20,
    ping_timeout: float | None = 20,
    close_timeout: float | None = 10,
    max_size: int | tuple[int | None, int | None] | None = 2**20,
    max_queue: int | tuple[int | None, int | None] | None = 16,
    logger: LoggerLike | None = None,
    create_connection: Callable[..., ClientConnection] | None = None,
    idle_timeout: float | None = None,
    max_rate: tuple[float, int] | None = None,
    max_bytes_rate: tuple[float, int] | None = None,
    on_rate: Literal["wait", "close"] = "wait",
    legacy: bool | None = None,
    **kwargs: Any,
) -> ClientConnection | reconnect:
    """Connect to a WebSocket server, in the calling thread.

    Use it as a context manager: ``with connect(...) as websocket: ...`` closes the connection on exit.

    Parameters:
        uri: where to connect: ``ws://`` or ``wss://``.
        sock: connected socket to use; it is closed if connecting fails.
        ssl: TLS context; None for the default one if the URI is ``wss://``.
        server_hostname: the name in the server's certificate; by default the host of the URI, without a trailing dot
            (RFC 6066 section 3) and without a zone.
        origin: value of the ``Origin`` header; None to send none.
        extensions: extensions to offer, in order of preference.
        subprotocols: subprotocols to offer, in order of preference.
        compression: "deflate" for permessage-deflate (RFC 7692), None for no compression.
        additional_headers: headers to add to the request.
        user_agent_header: value of the ``User-Agent`` header; None to leave it out.
        proxy: True for the proxy of the system, if there is one and the server isn't on this machine; None for no
            proxy; or the URI of a proxy: ``http://``, ``https://``, ``socks5h://``, ``socks5://``, ``socks4a://`` or
            ``socks4://``; the last four need python-socks. Not used with Unix sockets or ``sock``.
        proxy_ssl, proxy_server_hostname: as ``ssl`` and ``server_hostname``, for an ``https://`` proxy.
        open_timeout: seconds that connecting may take, including redirects; None for no limit. Looking up a name is the
            exception: the system does that, and nothing can interrupt it.
        ping_interval, ping_timeout, close_timeout: timeouts of a connection in seconds; see
            :class:`~websockets.sync.connection.Connection`.
        max_size: maximum size of incoming messages in bytes; None for no limit; or a tuple of the limits of a message
            and of a fragment.
        max_queue: buffer of a connection; see :class:`~websockets.sync.connection.Connection`.
        logger: where to log; ``websockets.client`` by default.
        create_connection: class or factory of connections, called like :class:`ClientConnection`.
        idle_timeout: seconds without data after which the connection is closed with code 1001; see
            :class:`~websockets.sync.connection.Connection`.
        max_rate, max_bytes_rate, on_rate: limits for what is received in a second; see
            :func:`~websockets.sync.server.serve`.
        legacy: True to return a connection that needs no ``with`` block; False to return a :class:`reconnect`, which
            connects when it is used; None to return a connection whose first use outside of a ``with`` block gives a
            :exc:`DeprecationWarning`.
        **kwargs: for the TCP connection: ``address``, a tuple of a host and a port to connect to in place of those of
            the URI; ``source_address``, a local address for the socket; ``timeout``, seconds for each attempt to
            connect; ``all_errors``, True to raise an :exc:`ExceptionGroup` when all addresses of a name fail. The
            addresses are tried according to RFC 8305 (Happy Eyeballs): ``happy_eyeballs_delay`` is the time in seconds
            before the next one is tried while the previous one hasn't answered, 0.25 by default, None to try the next
            one only after the previous one has failed; ``interleave`` is the number of addresses of the first family
            before the families alternate, 1 by default. With a proxy, these apply to the connection to the proxy,
            except ``address``.

    Returns:
        The connection; or a :class:`reconnect` with ``legacy=False``.

    Raises:
        InvalidURI: ``uri`` isn't a WebSocket URI.
        InvalidProxy: ``proxy``, or the proxy of the system, isn't the URI of a proxy.
        OSError: the name can't be resolved, or the TCP connection or TLS fails.
        InvalidHandshake: the opening handshake fails, or the proxy can't connect to the server.
        TimeoutError: connecting takes longer than ``open_timeout``.
        TypeError: an option has a wrong type, or doesn't exist.
        ValueError: an option has a wrong value, or options contradict each other or the URI.
    """
    given = dict(locals())
    del given["legacy"], given["kwargs"]
    given["ssl"] = renamed_argument(kwargs, "ssl_context", "ssl", ssl)
    legacy = allowed.check("legacy", legacy, allowed.SYNC_LEGACY)
    connecting = reconnect(**given, **kwargs)
    if legacy is not None and not legacy:
        return connecting
    connection = connecting.connect()
    if legacy is None:
        connection._ws_expect_block()
    return connection


@overload
def unix_connect(
    path: str | bytes | os.PathLike[str] | None = None,
    uri: str | None = None,
    *,
    legacy: Literal[True] | None = None,
    **kwargs: Any,
) -> ClientConnection: ...
@overload
def unix_connect(
    path: str | bytes | os.PathLike[str] | None = None,
    uri: str | None = None,
    *,
    legacy: Literal[False],
    **kwargs: Any,
) -> reconnect: ...
@overload
def unix_connect(
    path: str | bytes | os.PathLike[str] | None = None,
    uri: str | None = None,
    *,
    legacy: bool | None,
    **kwargs: Any,
) -> ClientConnection | reconnect: ...


def unix_connect(
    path: str | bytes | os.PathLike[str] | None = None,
    uri: str | None = None,
    *,
    legacy: bool | None = None,
    **kwargs: Any,
) -> ClientConnection | reconnect:
    """Connect to a WebSocket server on a Unix socket; otherwise like :func:`connect`.

    Parameters:
        path: path of the socket; None if ``sock`` is given.
        uri: the URI for the request; ``ws://localhost/`` by default, or ``wss://localhost/`` with ``ssl``.
        legacy: as for :func:`connect`.
        **kwargs: as for :func:`connect`; of the arguments for the TCP connection only ``timeout``.

    Returns:
        As :func:`connect`.

    Raises:
        Exception: as for :func:`connect`.
    """
    return connect(unix_uri(uri, kwargs), unix=True, path=path, legacy=legacy, **kwargs)


def unix_reconnect(
    path: str | bytes | os.PathLike[str] | None = None, uri: str | None = None, **kwargs: Any
) -> reconnect:
    """Connect to a WebSocket server on a Unix socket, and again when the connection ends.

    Parameters:
        path: path of the socket; None if ``sock`` is given.
        uri: the URI for the request; ``ws://localhost/`` by default, or ``wss://localhost/`` with ``ssl``.
        **kwargs: as for :class:`reconnect`; of the arguments for the TCP connection only ``timeout``.

    Returns:
        As :class:`reconnect`: use it as a context manager or an iterator.

    Raises:
        Exception: as for :class:`reconnect`.
    """
    return reconnect(unix_uri(uri, kwargs), unix=True, path=path, **kwargs)
