"""The adapter between a scenario and a front-end: the interface that scenarios use on every front-end.

A scenario is a coroutine function whose first parameter is a :class:`World`. The world provides ends of connections,
clients, servers, scripted peers and the time. :meth:`World.start` starts concurrent activities. So the same code runs
on asyncio, on trio, and in threads, where each call blocks inside and no ``await`` ever suspends.

Adapters translate names that differ between front-ends. A feature that a front-end doesn't have is a
:class:`Capability` that its adapter lacks, with the reason. The names here are those of asyncio, so its adapter passes
most objects on unchanged.

May know: types of the library that all front-ends share, frames on the wire. Must not know: any front-end, asyncio,
threads, trio.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, Literal, ParamSpec, Protocol, TypeAlias, TypeVar

from _kit.site import Asked
from _kit.wire import Row
from websockets import Statistics
from websockets.http11 import Request, Response
from websockets.protocol import Side, State

__all__ = [
    "Answer",
    "Capability",
    "Connecting",
    "End",
    "Gate",
    "Listener",
    "Peer",
    "Running",
    "Server",
    "Site",
    "Step",
    "World",
]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)


class Capability(enum.Enum):
    """Something that a front-end or its adapter may lack. An adapter says why in :attr:`World.lacks`."""

    #: A call of the library can be cancelled while it waits; see :meth:`Running.cancel`.
    CANCELLATION = "cancellation"
    #: Time can pass while nothing runs; see :meth:`World.stall`.
    STALL = "stall"
    #: What is started, or waited at a gate, goes on in the order in which it came.
    ORDER = "order"
    #: The network is made up: what listens may have any name and any port, and bytes come in pieces of any size.
    ADDRESSES = "addresses"
    #: There are servers, clients, and scripted sites, and not only ends of connections.
    NETWORK = "network"
    #: A call of ``close`` that is cancelled leaves the connection as it is: it goes on closing.
    CANCELLED_CLOSE = "cancelled close"
    #: The option ``write_limit``: ``send`` returns while no more than so many bytes wait.
    WRITE_LIMIT = "write_limit"


class Step(enum.Enum):
    """A step of a client that may take too long."""

    RESPONSE = "the response of the server"
    TLS = "the TLS handshake with the server"
    TUNNEL = "the response of a proxy"


# What runs at the same time.


class Running(Protocol[_T_co]):
    """Something that :meth:`World.start` started."""

    def done(self) -> bool:
        """Tell whether it has ended."""
        ...

    async def result(self) -> _T_co:
        """Wait for its end; return what it returned, or raise what it raised."""
        ...

    async def stop(self) -> None:
        """End a helper of the scenario, which waits for a peer, a gate or the clock; return when it has ended.

        Whatever it returned or raised is forgotten.
        """
        ...

    async def cancel(self) -> None:
        """Cancel it while it waits for the library; return when it has ended. It takes Capability.CANCELLATION."""
        ...

    def cancelled(self) -> bool:
        """Tell whether it ended by :meth:`cancel` or :meth:`stop`."""
        ...


class Gate(Protocol):
    """A gate that is closed at first: who comes to it waits."""

    def open(self) -> None:
        """Let everybody pass, from now on."""
        ...

    def is_open(self) -> bool:
        """Tell whether it is open."""
        ...

    async def wait(self) -> None:
        """Wait until it is open."""
        ...


# Our ends of connections.


class End(Protocol):
    """One of our connections. Members are as in :class:`websockets.asyncio.connection.Connection`."""

    @property
    def state(self) -> State: ...
    @property
    def close_code(self) -> int | None: ...
    @property
    def close_reason(self) -> str | None: ...
    @property
    def latency(self) -> float: ...
    @property
    def buffered_amount(self) -> int: ...
    @property
    def statistics(self) -> Statistics: ...
    @property
    def subprotocol(self) -> Any: ...
    @property
    def request(self) -> Request | None: ...
    @property
    def response(self) -> Response | None: ...
    @property
    def protocol(self) -> Any: ...
    @property
    def local_address(self) -> Any: ...
    @property
    def remote_address(self) -> Any: ...
    async def recv(self, decode: bool | None = None) -> Any: ...
    def recv_streaming(self, decode: bool | None = None) -> Any: ...
    async def send(self, message: Any, *, text: bool | None = None, compress: bool | None = None) -> None: ...
    async def ping(self, data: Any = None) -> Awaitable[float]: ...
    async def pong(self, data: Any = b"") -> None: ...
    async def close(self, code: int = 1000, reason: str = "", *, timeout: float | None = None) -> None: ...
    async def wait_closed(self) -> None: ...
    def abort(self) -> None: ...
    def __aiter__(self) -> AsyncIterator[Any]: ...
    async def __aenter__(self) -> Any: ...
    async def __aexit__(self, *exc_info: Any) -> None: ...


class Connecting(Protocol):
    """A client that isn't connected yet: it is awaited, entered, or iterated over to connect again and again."""

    @property
    def uri(self) -> str: ...
    def __await__(self) -> Generator[Any, Any, Any]: ...
    async def __aenter__(self) -> Any: ...
    async def __aexit__(self, *exc_info: Any) -> None: ...
    def __aiter__(self) -> AsyncIterator[Any]: ...


class Server(Protocol):
    """One of our servers. Members are as in :class:`websockets.asyncio.server.Server`."""

    @property
    def connections(self) -> set[Any]: ...
    @property
    def statistics(self) -> Any: ...
    @property
    def all_connections(self) -> set[Any]: ...
    def close(
        self,
        close_connections: bool = True,
        code: int | None = 1001,
        reason: str | None = "",
        *,
        timeout: float | None = None,
    ) -> None: ...
    async def wait_closed(self) -> None: ...
    def is_serving(self) -> bool: ...


# The other ends: scripted, byte by byte.


class Peer(Protocol):
    """The other end of one of our connections, in the hands of the scenario.

    It reads all the time, so our end never waits for it, until :meth:`stop_reading`.

    Attributes:
        mask: whether it is a client, and masks what it sends.
    """

    mask: bool

    async def send(self, opcode: int, payload: bytes = b"", **options: Any) -> None:
        """Send a frame; see :func:`_kit.wire.frame`."""
        ...

    async def text(self, payload: str | bytes, **options: Any) -> None:
        """Send a text frame."""
        ...

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Send a Close frame."""
        ...

    async def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        ...

    async def frame(self) -> Row:
        """Wait for the next frame."""
        ...

    async def expect(self, opcode: int, payload: bytes) -> None:
        """Wait for the next frame, which must be this one."""
        ...

    async def expect_close(self, code: int, reason: str = "") -> None:
        """Wait for the next frame, which must be this Close."""
        ...

    async def finish(self, code: int = 1000) -> None:
        """Answer a Close, and end the TCP connection in the order that is right for this end."""
        ...

    async def read_until(self, separator: bytes = b"\r\n\r\n") -> bytes:
        """Wait for ``separator``; return all bytes up to its end."""
        ...

    async def read_until_eof(self) -> bytes:
        """Wait for the end of the stream; return the bytes before it."""
        ...

    @property
    def received(self) -> bytes:
        """All bytes received so far."""
        ...

    @property
    def unread(self) -> bytes:
        """The bytes received and not yet returned by a reading method."""
        ...

    @property
    def ended(self) -> Literal["eof", "reset"] | None:
        """How the stream of our end ended: None while it goes on."""
        ...

    @property
    def let_go(self) -> bool:
        """Whether our end closed its socket."""
        ...

    @property
    def address(self) -> Any:
        """The address of its own socket."""
        ...

    def stop_reading(self) -> None:
        """Read no more: buffers fill up, and our end has to wait."""
        ...

    def resume_reading(self) -> None:
        """Undo :meth:`stop_reading`."""
        ...

    def eof(self) -> None:
        """End the stream, and go on reading."""
        ...

    def hang_up(self) -> None:
        """Close the socket."""
        ...

    def reset(self) -> None:
        """Close the socket with a reset."""
        ...

    async def pause(self, seconds: float) -> None:
        """Do nothing for a while."""
        ...

    def delay(self, seconds: float) -> None:
        """Have everything take this long from now on, both ways."""
        ...

    def vanish(self) -> None:
        """Lose everything from now on, both ways, without a word."""
        ...


#: What a site answers to a request: bytes, after which it closes the connection, or a function that does it all.
Answer: TypeAlias = bytes | Callable[[Any, Asked], Awaitable[None]]


class Site(Protocol):
    """A scripted server for our clients; see :class:`_kit.site.Site`."""

    port: int
    asked: list[Asked]

    def uri(self, target: str = "/", host: str = "localhost") -> str: ...
    @property
    def targets(self) -> list[str]: ...
    @property
    def times(self) -> list[float]: ...
    @property
    def visitors(self) -> Sequence[Peer]:
        """The connections so far."""
        ...


class Listener(Protocol):
    """Where scripted peers are reached."""

    async def peer(self) -> Peer:
        """Wait for the next connection."""
        ...

    def close(self) -> None:
        """Listen no more."""
        ...


class World(Protocol):
    """Where a scenario takes place.

    Attributes:
        caller: how errors of the front-end call whoever uses a connection at the same time: a "coroutine", a "thread".
        refused: what a client raises if nobody listens.
        late: the text of the error of a client whose time is up, by the step that it came to.
        too_slow: what the base of the front-end raises when a time limit has passed.
        room: how many bytes the network takes of what our end sends while its peer doesn't read.
        client: the class of clients whose methods may be overridden.
        lacks: the capabilities that aren't there, and why.
    """

    caller: str
    refused: type[Exception]
    late: Mapping[Step, str]
    too_slow: type[Exception]
    room: int
    client: Any
    lacks: ClassVar[Mapping[Capability, str]]

    # Time.

    def now(self) -> float:
        """Return the time, in seconds."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        ...

    async def advance(self, seconds: float) -> None:
        """Let time pass, and then all that follows from it at once; not for two at a time."""
        ...

    async def settle(self) -> None:
        """Wait until nothing more happens unless time passes or somebody does something."""
        ...

    async def within(
        self, seconds: float, function: Callable[_P, Coroutine[Any, Any, _T]], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Call a function that may take this long.

        Raises:
            TimeoutError: it took longer, and was given up.
        """
        ...

    def stall(self, seconds: float) -> None:
        """Let time pass while nothing runs, as when a callback computes for that long; it takes Capability.STALL."""
        ...

    # What runs at the same time.

    def start(
        self, function: Callable[_P, Coroutine[Any, Any, _T]], *args: _P.args, **kwargs: _P.kwargs
    ) -> Running[_T]:
        """Call a function, and don't wait for its end."""
        ...

    def gate(self) -> Gate:
        """Return a gate that is closed."""
        ...

    def source(self, items: AsyncIterator[Any]) -> Any:
        """Return what ``send`` takes to send the items as fragments of a message, each as soon as it is there."""
        ...

    # Connections.

    def one_end(self, side: Side, **options: Any) -> AbstractAsyncContextManager[tuple[End, Peer]]:
        """Open a connection with one end of ours and a scripted peer, which breaks it at the end of the block.

        Parameters:
            side: which end is ours.
            options: for ``serve`` or ``connect``; no compression unless asked for.
        """
        ...

    def pair(
        self, *, client: Mapping[str, Any] | None = None, server: Mapping[str, Any] | None = None, **options: Any
    ) -> AbstractAsyncContextManager[tuple[End, End]]:
        """Open a connection with two ends of ours, a client and a server, closed at the end of the block.

        Parameters:
            client, server: options of one of them.
            options: options of both.
        """
        ...

    def is_reading(self, end: End) -> bool:
        """Tell whether our end reads from the network, or has paused as messages wait that nobody asks for."""
        ...

    def shut_down(self, end: End) -> None:
        """Begin to close the server that our end of a connection belongs to."""
        ...

    async def broadcast(self, connections: Iterable[Any], message: Any, **options: Any) -> None:
        """Call ``broadcast`` of the front-end."""
        ...

    # Servers and clients; they take Capability.NETWORK.

    def serve(self, handler: Callable[[Any], Any], **options: Any) -> AbstractAsyncContextManager[Any]:
        """Serve at a free port of this host until the end of the block.

        Handlers, and hooks among the options, are functions or coroutine functions.
        """
        ...

    def uri(self, server: Any, path: str = "/", user_info: str = "") -> str:
        """Return the URI of a path on a server."""
        ...

    def basic_auth(self, realm: str = "", **options: Any) -> Callable[..., Any]:
        """Call ``basic_auth`` of the front-end."""
        ...

    async def reach(self, server: Any, address: str | None = None) -> Peer:
        """Connect a scripted client, which hasn't said anything, to a server or a URI; from an address, if given."""
        ...

    def connect(self, uri: str, **options: Any) -> Connecting:
        """Make a client."""
        ...

    def listen(self, host: str, port: int) -> Listener:
        """Listen for connections that become scripted peers; it takes Capability.ADDRESSES."""
        ...

    def chop(self, size: int | None) -> None:
        """Have bytes come in pieces of this size, on later connections; it takes Capability.ADDRESSES."""
        ...

    def site(
        self, answers: Mapping[str, Answer] | Sequence[Answer], host: str = "localhost", port: int = 0
    ) -> AbstractAsyncContextManager[Site]:
        """Serve a scripted site until the end of the block: answers by target, or in their order, the last for ever."""
        ...
