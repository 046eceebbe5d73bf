"""Servers of the legacy API, on top of the asyncio API.

May know: a server and its options before 14.0, and what replaces each of them. Must not know: how connections are
opened, closed and counted, which belongs to :mod:`websockets.asyncio.server`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import warnings
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, cast

from .._compat.deprecated import deprecated_names
from .._rules.option_table import LEGACY_SERVE, RUN, SERVE, check, check_all
from .._session.options import LEGACY_SERVER, check_keepalive, listening_arguments, server_extensions, shows_path
from ..asyncio._broadcast import broadcast as _broadcast
from ..asyncio._serving import connected, forget, prepare
from ..asyncio.server import Server
from ..extensions.base import ServerExtensionFactory
from ..http11 import SERVER
from ..typing import DataLike, LoggerLike, Origin, Subprotocol
from ._server_side import (
    Handler,
    HeadersLikeOrCallable,
    ProcessRequest,
    SelectSubprotocol,
    WebSocketServerProtocol,
    accepted_origins,
)
from ._server_side import HTTPResponse as HTTPResponse
from .exceptions import AbortHandshake as AbortHandshake
from .protocol import WebSocketCommonProtocol, chosen_class, closing_time, legacy_options

__all__ = ["WebSocketServer", "WebSocketServerProtocol", "broadcast", "serve", "unix_serve"]


# Options that are passed to each connection.
OF_CONNECTIONS = (
    "origins", "extensions", "subprotocols", "extra_headers", "server_header", "process_request", "select_subprotocol",
    "open_timeout", "ping_interval", "ping_timeout", "close_timeout", "max_size", "max_queue", "read_limit",
    "write_limit",
)  # fmt: skip


class WebSocketServer(Server):
    """The result of ``await serve(...)`` in the legacy API; replaced by :class:`~websockets.asyncio.server.Server`.

    Parameters:
        logger: where to log; ``websockets.server`` by default.
    """

    def __init__(self, logger: LoggerLike | None = None) -> None:
        # Each connection knows its handler, so the server has none.
        super().__init__(_not_served, _not_served, logger)

    @property
    def websockets(self) -> set[WebSocketServerProtocol]:
        """The connections, from the first byte to the end of the handler."""
        return cast(set[WebSocketServerProtocol], self._ws_registry.all)

    def register(self, protocol: WebSocketServerProtocol) -> None:
        """Called by a connection when it begins."""
        connected(self, protocol)

    def unregister(self, protocol: WebSocketServerProtocol) -> None:
        """Called by a connection when it is over."""
        forget(self, protocol)

    _ws_serves_forever = False

    async def serve_forever(self) -> None:
        """Accept connections until this task is cancelled or the server is closed.

        Raises:
            asyncio.CancelledError: the task was cancelled, which closes the server; or :meth:`close` was called,
                and the server is closed.
            RuntimeError: the server is already closed, or another task waits in this method.
        """
        if self._ws_serves_forever:
            raise RuntimeError(f"server {self.server!r} is already being awaited on serve_forever()")
        self._ws_serves_forever = True
        try:
            await super().serve_forever()
        finally:
            self._ws_serves_forever = False
        # The servers of asyncio do the same, and programs for the legacy API catch this exception.
        raise asyncio.CancelledError

    def wrap(self, server: asyncio.Server) -> None:
        """Attach a listening server, whose connections register here.

        Parameters:
            server: result of :meth:`asyncio.loop.create_server`.
        """
        self._ws_take(server)


async def _not_served(_: object) -> NoReturn:
    raise RuntimeError("a WebSocketServer is made by serve(), or listens once wrap() was called")


def broadcast(websockets: Iterable[WebSocketCommonProtocol], message: DataLike, raise_exceptions: bool = False) -> None:
    """Send a message to several connections; replaced by :func:`websockets.asyncio.server.broadcast`.

    Parameters:
        websockets: the connections.
        message: a ``str``, sent as text, or bytes, sent as binary.
        raise_exceptions: whether to raise errors at the end instead of logging them; False by default.

    Raises:
        TypeError: the message is neither a ``str`` nor bytes.
        ExceptionGroup: with ``raise_exceptions``, the errors of the connections that were left out.
    """
    _broadcast(websockets, message, raise_exceptions=raise_exceptions)


def remove_path_argument(ws_handler: Handler) -> Callable[[WebSocketServerProtocol], Awaitable[Any]]:
    """Return a handler with one parameter for a handler that also takes the path of the request, with a warning.

    Parameters:
        ws_handler: the handler; it is returned unchanged if it takes one parameter.
    """
    if not shows_path(ws_handler):
        return cast("Callable[[WebSocketServerProtocol], Awaitable[Any]]", ws_handler)
    handler = cast("Callable[[WebSocketServerProtocol, str], Awaitable[Any]]", ws_handler)
    warnings.warn("remove second argument of ws_handler", DeprecationWarning, stacklevel=2)

    async def without_path(websocket: WebSocketServerProtocol) -> Any:
        return await handler(websocket, websocket.path)

    return without_path


class Serve:
    """Create a WebSocket server. Await it, or use it in ``async with``, which closes it at the end of the block.

    Replaced by :func:`websockets.asyncio.server.serve`.

    Parameters:
        ws_handler: coroutine function that is called with the connection; if it takes two parameters, with the
            connection and the path of the request.
        host: where to listen, as for :meth:`asyncio.loop.create_server`; None for all interfaces.
        port: TCP port; 0 for a free one, which is found in ``server.sockets``.
        create_protocol: class or factory of connections, called like :class:`WebSocketServerProtocol`.
        logger: where to log; ``websockets.server`` by default.
        compression: "deflate" for permessage-deflate (RFC 7692), None for none.
        origins: acceptable origins; None in the list accepts requests without ``Origin``, and so does "", which is
            deprecated.
        extensions: extensions supported, in the order to try them.
        subprotocols: subprotocols supported, in the order of preference.
        extra_headers: headers to add to the response, or ``f(path, request_headers)`` that returns them.
        server_header: value of the ``Server`` header; None to leave it out.
        process_request: see :meth:`WebSocketServerProtocol.process_request`.
        select_subprotocol: see :meth:`WebSocketServerProtocol.select_subprotocol`.
        open_timeout: seconds that the opening handshake may take; None for no limit.
        ping_interval, ping_timeout, close_timeout, max_size, max_queue, read_limit, write_limit: as for
            :class:`~websockets.legacy.protocol.WebSocketCommonProtocol`.
        **kwargs: passed to :meth:`asyncio.loop.create_server`: ``ssl``, ``sock``, ``reuse_port``... And the deprecated
            ``klass`` for ``create_protocol``, ``timeout`` for ``close_timeout``, ``legacy_recv`` and ``loop``.

    Attributes:
        ws_server: the server.

    Raises:
        OSError: listening failed.
        TypeError: an option is unknown or has a wrong type.
        ValueError: an option has a wrong value, or options contradict each other.
    """

    def __init__(
        self,
        ws_handler: Handler,
        host: str | Sequence[str] | None = None,
        port: int | None = None,
        *,
        create_protocol: Callable[..., WebSocketServerProtocol] | None = None,
        logger: LoggerLike | None = None,
        compression: str | None = "deflate",
        origins: Sequence[Origin | None] | None = None,
        extensions: Sequence[ServerExtensionFactory] | None = None,
        subprotocols: Sequence[Subprotocol] | None = None,
        extra_headers: HeadersLikeOrCallable | None = None,
        server_header: str | None = SERVER,
        process_request: ProcessRequest | None = None,
        select_subprotocol: SelectSubprotocol | None = None,
        open_timeout: float | None = 10,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
        close_timeout: float | None = None,
        max_size: int | None = 2**20,
        max_queue: int | None = 2**5,
        read_limit: int = 2**16,
        write_limit: int = 2**16,
        **kwargs: Any,
    ) -> None:
        close_timeout = closing_time(close_timeout, kwargs.pop("timeout", None))
        create_protocol = chosen_class(create_protocol, kwargs) or WebSocketServerProtocol
        legacy_recv = legacy_options(kwargs)
        given = dict(locals())
        secure = kwargs.get("ssl") is not None
        check_all(given, LEGACY_SERVE)
        given["origins"] = accepted_origins(given["origins"])
        if create_protocol is WebSocketServerProtocol:
            # Only the library's own process_origin() needs valid origins; an override may accept other values.
            check("origins", given["origins"], SERVE)
            if process_request is None:
                check("ws_handler", ws_handler, RUN)
        listening = listening_arguments("serve", given, LEGACY_SERVER)
        check_keepalive(given)
        given["extensions"] = server_extensions(given["extensions"], compression)
        self.ws_server = server = WebSocketServer(logging.getLogger("websockets.server") if logger is None else logger)
        connection_options = {name: given[name] for name in OF_CONNECTIONS} | legacy_recv
        connection_options |= {"logger": server.logger, "host": host, "port": port, "secure": secure}
        if shows_path(ws_handler):
            warnings.warn("remove second argument of ws_handler", DeprecationWarning, stacklevel=2)
        factory = functools.partial(create_protocol, ws_handler, server, **connection_options)
        server._ws_create_server = functools.partial(_listen, factory, listening)

    def __await__(self) -> Generator[Any, None, WebSocketServer]:
        return self.ws_server._ws_start().__await__()

    async def __aenter__(self) -> WebSocketServer:
        return await self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.ws_server.__aexit__(exc_type, exc, traceback)


serve = Serve


async def _listen(
    factory: Callable[[], WebSocketServerProtocol], arguments: dict[str, Any], server: Server
) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    create: Callable[..., Awaitable[asyncio.Server]]
    create = loop.create_server if "host" in arguments else loop.create_unix_server
    return await create(prepare(server, factory, arguments), **arguments)


def unix_serve(ws_handler: Handler, path: str | bytes | os.PathLike[str] | None = None, **kwargs: Any) -> Serve:
    """Create a WebSocket server that listens on a Unix socket; otherwise like :class:`serve`.

    Parameters:
        ws_handler: as for :class:`serve`.
        path: path of the socket; None if ``sock`` is given.
        **kwargs: as for :class:`serve`; the rest is passed to :meth:`asyncio.loop.create_unix_server`.
    """
    return serve(ws_handler, path=path, unix=True, **kwargs)


# Names from earlier releases.
if not TYPE_CHECKING:
    __getattr__ = deprecated_names(__name__)
