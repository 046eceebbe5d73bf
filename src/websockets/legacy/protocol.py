"""The common part of client and server connections in the legacy API, on top of the asyncio API.

May know: the members of a connection of the asyncio API, and their earlier names. Must not know: the opening handshake;
how a message is sent or received, which belongs to lower modules. Nothing here parses, or has its own state.

Programs derive classes from these, so the methods that they override matter as much as those that they call. Hooks work
as before. Some methods can still be called, but messages no longer pass through them, so overriding them is an error.
A name that was removed raises an error that says what to use instead.
"""

from __future__ import annotations

import asyncio
import inspect
import warnings
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from .._compat.deprecated import deprecated_names
from .._rules.option_table import LEGACY_CONNECTION, check_all
from ..asyncio.connection import Connection, _Messages
from ..datastructures import Headers
from ..datastructures._shortcuts import headers_from_pairs
from ..exceptions import ConcurrencyError, ConnectionClosed, InvalidState
from ..extensions.base import Extension
from ..frames import Close, CloseCode, Opcode
from ..protocol import Protocol, Side, State
from ..typing import Data, LoggerLike, Subprotocol

__all__ = ["WebSocketCommonProtocol"]

T = TypeVar("T")

BUSY: Final = "cannot call recv while another coroutine is already waiting for the next message"

_READ: Final = "messages are read by the library: call recv(), or iterate over the connection"
_KEEPALIVE: Final = "keepalive is the library's: set ping_interval and ping_timeout, or call ping()"
_CLOSE: Final = "closing is the library's: call close() and wait_closed(), or override connection_lost()"

# Names from before 14.0 that were removed, each with what to do instead.
GONE: Final = {
    "abort_pings": "whoever waits for a pong gets ConnectionClosed without being told to",
    "close_connection": _CLOSE,
    "close_connection_task": _CLOSE,
    "close_transport": "call transport.close() or transport.abort()",
    "keepalive_ping": _KEEPALIVE,
    "keepalive_ping_task": _KEEPALIVE,
    "messages": _READ,
    "pings": "ping() returns a future for each pong",
    "read_data_frame": _READ,
    "read_frame": _READ,
    "read_message": _READ,
    "reader": _READ,
    "transfer_data": _READ,
    "transfer_data_exc": "the exception of recv() or close_exc has the cause as its __cause__",
    "transfer_data_task": _READ,
}

# Methods that programs can call, but that the library doesn't call, so an override would have no effect.
_SENT: Final = "override send(), ping(), pong() and close() to see what the program sends"
UNCALLED: Final = {
    "connection_closed_exc": "catch ConnectionClosed where it is raised",
    "drain": _SENT,
    "ensure_open": _SENT,
    "fail_connection": "override connection_lost(), and look at close_code and close_exc",
    "wait_for_connection_lost": _CLOSE,
    "write_close_frame": _SENT,
    "write_frame": _SENT,
    "write_frame_sync": _SENT,
}


class WebSocketCommonProtocol(Connection):
    """A WebSocket connection of the legacy API; replaced by :class:`~websockets.asyncio.connection.Connection`.

    It has all members of a connection of the asyncio API, and the members from before 14.0.

    Parameters:
        logger: where to log.
        ping_interval, ping_timeout: keepalive in seconds; see :class:`~websockets.asyncio.connection.Connection`.
        close_timeout: seconds that closing may take before the TCP connection is aborted; 10 by default.
        max_size: limit of incoming messages in bytes; None for no limit.
        max_queue: number of received frames that wait to be read, above which reading pauses; None for no limit.
        read_limit: without effect, because all connections share a buffer for reading.
        write_limit: bytes waiting to be sent, above which :meth:`send` waits.
        host, port, secure: values of the deprecated attributes of these names.
        legacy_recv: whether :meth:`recv` returns None once the connection is closed. Deprecated.
        loop: without effect. Deprecated.
        timeout: deprecated name of ``close_timeout``.
        idle_timeout: see :class:`~websockets.asyncio.connection.Connection`; set by ``serve`` and ``connect`` of the
            asyncio API.
    """

    is_client: bool = False
    side: str = "undefined"

    path: str
    request_headers: Any
    response_headers: Any

    def __init__(
        self,
        *,
        logger: LoggerLike | None = None,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
        close_timeout: float | None = None,
        max_size: int | None = 2**20,
        max_queue: int | None = 2**5,
        read_limit: int = 2**16,
        write_limit: int = 2**16,
        host: str | None = None,
        port: int | None = None,
        secure: bool | None = None,
        legacy_recv: bool = False,
        loop: asyncio.AbstractEventLoop | None = None,
        timeout: float | None = None,
        idle_timeout: float | None = None,
    ) -> None:
        if legacy_recv:
            warnings.warn("legacy_recv is deprecated", DeprecationWarning, stacklevel=2)
        if loop is not None:
            warnings.warn("remove loop argument", DeprecationWarning, stacklevel=2)
        check_all(locals(), LEGACY_CONNECTION)
        self.max_queue = max_queue
        self.read_limit = read_limit
        self.write_limit = write_limit
        self.legacy_recv = legacy_recv
        self._ws_host, self._ws_port, self._ws_secure = host, port, secure
        # Don't call super(): the derived classes of the asyncio API need arguments that a legacy class doesn't get.
        Connection.__init__(
            self,
            self._ws_make_protocol(max_size, logger),
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            close_timeout=closing_time(close_timeout, timeout),
            max_queue=max_queue,
            write_limit=write_limit,
            idle_timeout=idle_timeout,
        )
        self.debug = self.protocol.debug

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, advice in (GONE | UNCALLED).items():
            if inspect.getattr_static(cls, name, None) is not inspect.getattr_static(
                WebSocketCommonProtocol, name, None
            ):
                raise TypeError(f"{cls.__name__}.{name} would never be used: {advice}")

    def __getattr__(self, name: str) -> Any:
        if name in GONE:
            raise AttributeError(f"{type(self).__name__} no longer has {name}: {GONE[name]}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _ws_make_protocol(self, max_size: int | None, logger: LoggerLike | None) -> Protocol:
        """Return the sans-I/O connection; here, one whose opening handshake was made elsewhere."""
        return Protocol(Side.CLIENT if self.is_client else Side.SERVER, max_size=max_size, logger=logger)

    def _ws_address(self, name: str) -> Any:
        # In the legacy API, the address is None before the connection is made.
        return None if getattr(self, "transport", None) is None else super()._ws_address(name)

    # ----------------------------------------------------------------------------------------------------------- asking

    @property
    def max_size(self) -> Any:
        """Limit of incoming messages in bytes, None for no limit. A change applies from the next frame on."""
        message, fragment = self.protocol.max_message_size, self.protocol.max_fragment_size
        return message if fragment is None else (message, fragment)

    @max_size.setter
    def max_size(self, size: int | None) -> None:
        self.protocol.max_message_size = size

    @property
    def host(self) -> str | None:
        """The ``host`` argument of the client or the server. Deprecated."""
        self._ws_use_address("[0] instead of host")
        return self._ws_host

    @property
    def port(self) -> int | None:
        """The ``port`` argument of the client or the server. Deprecated."""
        self._ws_use_address("[1] instead of port")
        return self._ws_port

    def _ws_use_address(self, what: str) -> None:
        whose = "remote" if self.is_client else "local"
        warnings.warn(f"use {whose}_address{what}", DeprecationWarning, stacklevel=3)

    @property
    def secure(self) -> bool | None:
        """Whether the connection is over TLS. Deprecated."""
        warnings.warn("don't use secure", DeprecationWarning, stacklevel=2)
        return self._ws_secure

    @property
    def open(self) -> bool:
        """Whether the connection is open; it may close at any time, even before the next statement."""
        return self.protocol.state is State.OPEN

    @property
    def closed(self) -> bool:
        """Whether the connection is closed; False while it is opening or closing."""
        return self.protocol.state is State.CLOSED

    @property
    def subprotocol(self) -> Subprotocol | None:
        """The negotiated subprotocol; a class with its own opening handshake may set it."""
        return self.protocol.subprotocol

    @subprotocol.setter
    def subprotocol(self, subprotocol: Subprotocol | None) -> None:
        self.protocol.subprotocol = subprotocol

    @property
    def extensions(self) -> list[Extension]:
        """The negotiated extensions; a class with its own opening handshake may set them."""
        return self.protocol.extensions

    @extensions.setter
    def extensions(self, extensions: Sequence[Extension]) -> None:
        self.protocol.extensions = list(extensions)

    @property
    def close_rcvd(self) -> Close | None:
        """The Close received from the peer; None if there is none."""
        return self.protocol.close_rcvd

    @property
    def close_sent(self) -> Close | None:
        """The Close sent to the peer; None if there is none."""
        return self.protocol.close_sent

    @property
    def close_rcvd_then_sent(self) -> bool | None:
        """Whether the peer sent its Close first; None until both have sent one."""
        return self.protocol.close_rcvd_then_sent

    # ------------------------------------------------------------------------------------------------------------ hooks

    def connection_open(self) -> None:
        """Hook that is called when the opening handshake has succeeded. May be overridden."""

    # -------------------------------------------------------------------------------------------------------- receiving

    def __aiter__(self) -> AsyncIterator[Data]:
        """Return an iterator over messages, until the connection closes normally.

        Raises:
            ConnectionClosedError: the connection closed abnormally.
        """
        # If a class or an object has its own recv(), iteration uses that.
        receives_plainly = getattr(self.recv, "__func__", None) is WebSocketCommonProtocol.recv
        return _Messages(self) if receives_plainly else self._ws_results()

    async def recv(self, decode: bool | None = None) -> Any:
        """Receive the next message; cancelling it never loses one.

        Parameters:
            decode: as for :meth:`websockets.asyncio.connection.Connection.recv`.

        Returns:
            A ``str`` for a text message, ``bytes`` for a binary one.

        Raises:
            ConnectionClosed: the connection is closed, and all messages received before have been read.
            RuntimeError: another task is already waiting in :meth:`recv`.
        """
        try:
            message = await self._ws_next()
        except ConcurrencyError:
            raise ConcurrencyError(BUSY) from None
        except ConnectionClosed:
            if self.legacy_recv:
                return None
            raise
        return message if decode is None else await self._ws_convert(message, decode)

    # ---------------------------------------------------------------------------------------------------------- sending

    async def _ws_send_fragments(self, message: object, text: bool | None, compress: bool | None) -> None:
        # In the legacy API, send() raises ConnectionClosed even if the message is invalid.
        await self.ensure_open()
        await super()._ws_send_fragments(message, text, compress)

    async def ensure_open(self) -> None:
        """Check that the connection is open; if it is closing, wait until it is closed.

        Raises:
            ConnectionClosed: the connection is closed.
            InvalidState: the connection isn't open yet.
        """
        if self.protocol.state is not State.OPEN:
            await self._ws_raise_closed()

    def write_frame_sync(self, fin: bool, opcode: int, data: bytes) -> None:
        """Send a frame without waiting.

        Parameters:
            fin: whether it is the last frame of its message.
            opcode: opcode of the frame.
            data: payload of the frame.

        Raises:
            ProtocolError: the frame can't be sent now.
            InvalidState: the connection isn't open.
        """
        protocol = self.protocol
        match Opcode(opcode):
            case Opcode.CONT:
                protocol.send_continuation(data, fin)
            case Opcode.TEXT:
                protocol.send_text(data, fin)
            case Opcode.BINARY:
                protocol.send_binary(data, fin)
            case Opcode.CLOSE:
                close = Close.parse(data)
                protocol.send_close(None if close.code == CloseCode.NO_STATUS_RCVD else close.code, close.reason)
            case Opcode.PING:
                protocol.send_ping(data)
            case _:
                protocol.send_pong(data)
        self._ws_process_events()

    async def write_frame(self, fin: bool, opcode: int, data: bytes, *, _state: int = State.OPEN) -> None:
        """Send a frame, and wait while the send buffer is full.

        Parameters:
            fin, opcode, data: as for :meth:`write_frame_sync`.

        Raises:
            ProtocolError: the frame can't be sent now.
            InvalidState: the connection isn't open.
        """
        if self.protocol.state is not _state:
            raise InvalidState(f"Cannot write to a WebSocket in the {self.protocol.state.name} state")
        self.write_frame_sync(fin, opcode, data)
        await self.drain()

    async def write_close_frame(self, close: Close, data: bytes | None = None) -> None:
        """Send a Close, unless one was already sent.

        Parameters:
            close: the code and the reason.
            data: payload of the frame; None (the default) to make it from ``close``.

        Raises:
            ProtocolError: the code or the reason can't be sent.
        """
        if self.protocol.state is State.OPEN:
            self.write_frame_sync(True, Opcode.CLOSE, close.serialize() if data is None else data)
            await self.drain()

    async def drain(self) -> None:
        """Wait while the send buffer is full.

        Raises:
            ConnectionClosed: the connection was lost while waiting.
        """
        if self._ws_write_waiters is not None:
            await self._ws_drain()

    # ---------------------------------------------------------------------------------------------------------- closing

    def fail_connection(self, code: int = CloseCode.ABNORMAL_CLOSURE, reason: str = "") -> None:
        """Fail the connection, without waiting (RFC 6455 section 7.1.7).

        Parameters:
            code: close code to send; 1006 (the default) to send no Close.
            reason: text for humans; empty by default.
        """
        self._ws_session.fail(code, reason)
        if not self._ws_lost and getattr(self, "transport", None) is not None:
            self._ws_resume_reading()
            self._ws_process_events()

    async def wait_for_connection_lost(self) -> bool:
        """Wait until the TCP connection is closed, ``close_timeout`` seconds at most.

        Returns:
            Whether it is closed.
        """
        try:
            async with asyncio.timeout(self.close_timeout):
                await self.wait_closed()
        except TimeoutError:
            return False
        return True

    def connection_closed_exc(self) -> ConnectionClosed:
        """Return the exception that later calls raise; replaced by ``close_exc``."""
        return self.close_exc


def headers_received(headers: Headers) -> Headers:
    """Return received headers in the form of the legacy API: each byte outside ASCII is a lone surrogate.

    Parameters:
        headers: headers in which each byte is a character of ISO-8859-1.

    Returns:
        A copy, or ``headers`` itself if all characters are ASCII.
    """
    return _recoded(headers, lambda value: value.encode("iso-8859-1").decode("ascii", "surrogateescape"))


def headers_to_send(headers: Headers) -> Headers:
    """Return headers that will be sent in UTF-8, as in the legacy API.

    Parameters:
        headers: headers from a program.

    Returns:
        A copy in which each byte to send is a character of ISO-8859-1, or ``headers`` itself if it is all ASCII.
    """
    return _recoded(headers, lambda value: value.encode("utf-8", "surrogateescape").decode("iso-8859-1"))


def _recoded(headers: Headers, recode: Callable[[str], str]) -> Headers:
    if str(headers).isascii():
        return headers
    return headers_from_pairs([(name, recode(value)) for name, value in headers.raw_items()])


def closing_time(close_timeout: float | None, timeout: float | None) -> float:
    """Return the close timeout in seconds, from the options ``close_timeout`` and ``timeout``."""
    if timeout is not None:
        warnings.warn("rename timeout to close_timeout", DeprecationWarning, stacklevel=3)
    if close_timeout is not None:
        return close_timeout
    return 10 if timeout is None else timeout


def chosen_class(create_protocol: Callable[..., T] | None, arguments: dict[str, Any]) -> Callable[..., T] | None:
    """Return ``create_protocol``, or its earlier name ``klass``, which is removed from ``arguments``."""
    klass: Callable[..., T] | None = arguments.pop("klass", None)
    if klass is not None:
        warnings.warn("rename klass to create_protocol", DeprecationWarning, stacklevel=3)
    return klass if create_protocol is None else create_protocol


def legacy_options(arguments: dict[str, Any]) -> dict[str, Any]:
    """Remove the legacy options of connections from ``arguments`` and return them; drop those without effect."""
    if arguments.pop("loop", None) is not None:
        warnings.warn("remove loop argument", DeprecationWarning, stacklevel=3)
    return {"legacy_recv": True} if arguments.pop("legacy_recv", False) else {}


# Names from earlier releases.
if not TYPE_CHECKING:
    __getattr__ = deprecated_names(__name__)
