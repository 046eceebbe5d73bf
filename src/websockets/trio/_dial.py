"""Opening a connection on trio: to a name or an address, to a Unix socket, or a stream that is open already; and TLS.

May know: trio's functions that open streams, TLS on a stream. Must not know: WebSocket, proxies; which options belong
to which hop: ``_session`` decides that.

trio tries the addresses of a name according to RFC 8305 (Happy Eyeballs) by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import trio

from .._rules.addresses import naming_path
from ._wire import start_tls

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = ["open_stream", "secure"]

# Arguments of trio.open_tcp_stream() beside the host and the port.
OPTIONS = ("happy_eyeballs_delay", "local_address")


async def open_stream(arguments: Mapping[str, Any], streams: Any = None) -> trio.abc.Stream:
    """Open a connection, with TLS if the arguments say so.

    Parameters:
        arguments: ``sock``, a stream that is open already; or ``unix`` and ``path``; or ``host``, ``port`` and perhaps
            arguments of :func:`trio.open_tcp_stream`. With a ``happy_eyeballs_delay`` of None, an address is tried
            after all previous ones have failed. For TLS, ``ssl`` and ``server_hostname``.
        streams: an object with trio's functions that open streams, in their place; None for those of trio.

    Raises:
        OSError: the name can't be resolved, none of its addresses can be reached, or TLS fails.
        ValueError: there is a name for TLS, but no TLS.
    """
    tls = arguments.get("ssl")
    if tls is None and arguments.get("server_hostname") is not None:
        raise ValueError("server_hostname is only meaningful with ssl")
    stream: trio.abc.Stream | None = arguments.get("sock")
    if stream is None:
        stream = await _connect(arguments, trio if streams is None else streams)
    return stream if tls is None else await secure(stream, tls, arguments.get("server_hostname"))


async def _connect(arguments: Mapping[str, Any], streams: Any) -> trio.abc.Stream:
    stream: trio.abc.Stream
    if arguments.get("unix"):
        with naming_path(arguments["path"]):
            stream = await streams.open_unix_socket(arguments["path"])
    else:
        options = {name: arguments[name] for name in OPTIONS if name in arguments}
        if options.get("happy_eyeballs_delay", 0) is None:
            options["happy_eyeballs_delay"] = math.inf
        stream = await streams.open_tcp_stream(arguments["host"], arguments["port"], **options)
    return stream


async def secure(
    stream: trio.abc.Stream, ssl: SSLContext | Literal[True], server_hostname: str | None
) -> trio.abc.Stream:
    """Start TLS as a client; if that fails, the stream is closed.

    Parameters:
        stream: an open stream.
        ssl: the context; True for the default one.
        server_hostname: the name that the certificate must have.

    Raises:
        OSError: TLS fails.
    """
    if ssl is True:
        # Import ssl only here, because some interpreters don't have it.
        from ssl import create_default_context

        ssl = create_default_context()
    return await start_tls(stream, ssl, server_side=False, server_hostname=server_hostname)
