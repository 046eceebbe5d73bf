"""The members of ``connect`` that never wait, the same for every front-end, and what it keeps between attempts.

May know: options of a client, redirects. Must not know: how connecting and waiting are done.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from ..client import ClientProtocol, backoff, process_exception
from ..datastructures import HeadersLike
from ..typing import LoggerLike
from ..uri import WebSocketURI
from .options import ClientOptions
from .redirects import MAX_REDIRECTS, Hop, redirect_target

__all__ = ["Connector", "ConnectorState", "unix_uri", "use_network"]


class ConnectorState:
    """What ``connect`` keeps for itself. It is in one object, as classes that derive from it have names of their own.

    Parameters:
        given: where the user wants to go, as it was written.
        options: what the user chose.
        default: class of connections, unless the user chose another one.

    Attributes:
        first: where the user wants to go, whatever redirects say.
        max_redirects: how many attempts there may be, redirects included.
        make_connection: called with the protocol of a connection.
        hop: the attempt that began last; before the first one, what would be it.
        network: what makes TCP connections in place of the front-end: a network in memory, in tests.
        entered: whether a ``with`` block is running.
    """

    def __init__(self, given: str, options: ClientOptions, default: Callable[..., Any]) -> None:
        self.options = options
        self.first = options.uri
        self.max_redirects = MAX_REDIRECTS
        self.make_connection: Callable[[ClientProtocol], Any] = functools.partial(
            options.create_connection or default, **options.of_connection
        )
        self.hop = Hop(given, options.uri, options.additional_headers)
        self.network: Any = None
        self.entered = False

    def enter(self) -> None:
        """Take in that a ``with`` block begins.

        Raises:
            RuntimeError: there is one already.
        """
        if self.entered:
            raise RuntimeError("connect() isn't reentrant")
        self.entered = True

    def connection(self, uri: WebSocketURI) -> Any:
        """Return a connection that isn't opened yet.

        Parameters:
            uri: where it leads.
        """
        return self.make_connection(self.options.protocol(uri))


class Connector:
    """The attributes of ``connect``, which a program may change between attempts, and its hook for redirects.

    Parameters:
        uri: where to connect.
        options: what the user chose.
        default: class of connections, unless the user chose another one.
    """

    def __init__(self, uri: str, options: ClientOptions, default: Callable[..., Any]) -> None:
        self._ws_connector_state = ConnectorState(uri, options, default)
        self.uri = uri
        self.ws_uri = options.uri
        self.additional_headers: HeadersLike | None = options.additional_headers
        self.user_agent_header = options.user_agent_header
        self.proxy: str | Literal[True] | None = options.proxy
        self.process_exception: Callable[[Exception], Exception | None] = options.process_exception or process_exception
        self.open_timeout = options.open_timeout
        self.reconnect_delays: Callable[[], Iterator[float]] = options.reconnect_delays or backoff
        self.logger: LoggerLike = options.logger
        self.create_connection_kwargs = options.arguments

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Decide whether a failed attempt is a redirect to follow. May be overridden.

        Parameters:
            exc: what ended the attempt to connect to ``uri``.

        Returns:
            The URI to go on with; or the exception to raise, ``exc`` itself if it isn't a redirect.
        """
        return redirect_target(exc, self.uri)


def use_network(connector: Connector, network: Any) -> None:
    """Choose what makes TCP connections in place of the front-end.

    Parameters:
        connector: the ``connect`` for which it does.
        network: what has the methods for that of the front-end's loop.
    """
    connector._ws_connector_state.network = network


def unix_uri(uri: str | None, arguments: Mapping[str, Any]) -> str:
    """Return the URI of a server on a Unix socket, which only its request shows.

    Parameters:
        uri: what the user says; None for ``localhost``.
        arguments: the other arguments of ``unix_connect``; ``ssl`` among them means ``wss``.
    """
    if uri is not None:
        return uri
    return "ws://localhost/" if arguments.get("ssl") is None else "wss://localhost/"
