"""ASGI applications on this library's connections: a WebSocket protocol for uvicorn.

An application of Starlette, FastAPI, Django Channels or any other framework stays as it is; only the setting ``ws`` of
uvicorn changes::

    uvicorn.run("app:app", ws="websockets.asgi:UvicornProtocol")

May know: connections on asyncio, the event loop, tasks, what uvicorn passes to a protocol. Must not know: uvicorn's
modules, which are never imported; which messages ASGI has, and what they mean: ``_rules.asgi`` decides that.

uvicorn reads the request, passes its bytes and the transport to the protocol, and forgets the connection. From then on,
the loop calls the connection directly, and messages take the same path as those of :mod:`websockets.asyncio.server`.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NoReturn, Protocol

from ._compat.layout import share_names
from ._rules import asgi
from ._rules.asgi import RECEIVE, SEND, Event, Head, Message, Phase
from ._rules.lifecycle import State
from ._session.outbox import take_end
from ._session.server_session import ServerSession
from .asyncio._fastpath import FULL, SLOW
from .asyncio.connection import Connection
from .exceptions import ConnectionClosed
from .extensions.base import ServerExtensionFactory
from .extensions.permessage_deflate import enable_server_permessage_deflate
from .frames import CloseCode
from .http11 import Request, Response
from .server import ServerProtocol, opens, unanswered_request
from .typing import BytesLike, Data

__all__ = ["Disconnected", "UvicornProtocol"]

Application = Callable[..., Awaitable[object]]

#: The level of uvicorn's log for the life of connections.
TRACE: Final = 5

#: Seconds that closing may take; uvicorn has no setting for it.
CLOSE_TIMEOUT: Final = 10

GONE: Final = "the connection is closed"

#: Bytes that a client may send before the application has answered; then reading pauses.
MAX_EARLY: Final = 2**16

# The answers to requests that the application doesn't answer.
FORBIDDEN: Final = (403, "")
FAILED: Final = (500, "Internal Server Error")
SHUTTING_DOWN: Final = (503, "Server is shutting down.\n")

# Until the head of a response is sent, what the client sends is kept.
UNANSWERED: Final = (Phase.ASKED, Phase.HEAD)

#: The extensions of connections that may compress; they share them.
DEFLATE: Final[Sequence[ServerExtensionFactory]] = enable_server_permessage_deflate(None)


class Disconnected(ConnectionError):
    """The client has gone, so that ``send`` can't send; an :exc:`OSError`, as ASGI 2.4 asks for."""


class Config(Protocol):
    """The settings of uvicorn that a connection uses; ``uvicorn.Config`` has them."""

    loaded_app: Application
    asgi_version: str
    root_path: str
    ws_max_size: int
    ws_max_queue: int
    ws_ping_interval: float | None
    ws_ping_timeout: float | None
    ws_per_message_deflate: bool


class ServerState(Protocol):
    """What the connections of a uvicorn server share: the connections, their tasks, headers of responses."""

    connections: set[Any]
    tasks: set[asyncio.Task[None]]
    default_headers: list[tuple[bytes, bytes]]


class Exchange:
    """An application and the request that it answers.

    Parameters:
        config: settings.
        server_state: what connections share.
        app_state: what the application's lifespan left.

    Attributes:
        phase: how far the application has come.
        told: whether ``receive`` has returned the first event.
        scope: the scope; None before the request.
        opening: the response that accepts the connection; None before the request, and after the answer.
        head: the head of an HTTP response, while the application sends one.
        answered: set when the phase changes from ASKED, or when the client has gone; None if nobody waits for it.
    """

    __slots__ = ("answered", "app_state", "config", "head", "opening", "phase", "scope", "server_state", "told")

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        self.config = config
        self.server_state = server_state
        self.app_state = app_state
        self.phase = Phase.ABSENT
        self.told = False
        self.scope: dict[str, Any] | None = None
        self.opening: Response | None = None
        self.head: Head | None = None
        self.answered: asyncio.Event | None = None

    def wake(self) -> None:
        """Wake the tasks that wait for the answer."""
        if self.answered is not None:
            self.answered.set()


class UvicornProtocol(Connection):
    """A WebSocket connection that runs an ASGI application, for uvicorn's setting ``ws``.

    uvicorn makes these objects. The settings ``ws_max_size``, ``ws_max_queue``, ``ws_ping_interval``,
    ``ws_ping_timeout`` and ``ws_per_message_deflate`` have the meaning that uvicorn documents. While ``ws_max_queue``
    messages wait for the application, no more are read; while the write buffer is full, ``send`` waits.

    Parameters:
        config: uvicorn's configuration, loaded.
        server_state: what the connections of the server share.
        app_state: state from the application's lifespan; each scope gets a copy.

    Raises:
        TypeError: a setting has a wrong type.
        ValueError: a setting has a wrong value.
    """

    protocol: ServerProtocol
    _ws_session: ServerSession
    _ws_make_session = ServerSession
    # Whether messages are what ``receive`` returns next: the connection is open, and the first event was told.
    _ws_receives: bool = False
    # Whether the application accepted the connection and hasn't closed it.
    _ws_open: bool = False

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        self._ws_exchange = Exchange(config, server_state, app_state)
        super().__init__(
            ServerProtocol(
                extensions=DEFLATE if config.ws_per_message_deflate else None,
                max_size=config.ws_max_size,
                logger=logging.getLogger("uvicorn.error"),
            ),
            # uvicorn's settings use 0 for no keepalive, too.
            ping_interval=config.ws_ping_interval or None,
            ping_timeout=config.ws_ping_timeout,
            close_timeout=CLOSE_TIMEOUT,
            max_queue=config.ws_max_queue,
        )

    # ------------------------------------------------------------------------------------------ what uvicorn calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to use a transport; uvicorn calls this, and then passes the request on."""
        super().connection_made(transport)
        self._ws_exchange.server_state.connections.add(self)
        self._ws_trace("WebSocket connection made")

    def shutdown(self) -> None:
        """Close the connection with code 1012, as the server ends; uvicorn calls this.

        A request that waits for its answer is refused with 503. If closing has already begun, don't wait for the
        client's answer any longer.
        """
        phase = self._ws_exchange.phase
        if phase is Phase.ASKED:
            self._ws_refuse(*SHUTTING_DOWN, phase=Phase.REFUSED)
        elif phase is Phase.OPEN and self.protocol.state is State.OPEN:
            self._ws_start_closing(CloseCode.SERVICE_RESTART)
        elif phase not in (Phase.HEAD, Phase.BODY) and not self._ws_lost:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Process the end of the TCP connection; the event loop calls this."""
        self._ws_trace("WebSocket connection lost")
        self._ws_exchange.server_state.connections.discard(self)
        super().connection_lost(exc)
        self._ws_exchange.wake()

    def _ws_trace(self, text: str) -> None:
        logger = self.protocol.logger
        if logger.isEnabledFor(TRACE):
            client = asgi.shown_client({"client": self.remote_address})
            logger.log(TRACE, "%s%s", f"{client} - " if client else "", text)

    # ------------------------------------------------------------------------------------------------- the request

    def _ws_process_events(self) -> None:
        exchange = self._ws_exchange
        if exchange.phase is Phase.ABSENT:
            request = unanswered_request(self.protocol)
            if request is not None:
                self._ws_begin(request)
        super()._ws_process_events()
        if self._ws_is_over():
            # Whoever waits for an event gets the last one.
            if self._ws_receiver is not None:
                self._ws_receiver.wake()
            exchange.wake()

    def _ws_begin(self, request: Request) -> None:
        """Run the application for a valid request, and refuse any other."""
        exchange = self._ws_exchange
        response = self.protocol.accept(request)
        if not opens(self.protocol, response):
            exchange.phase = Phase.OVER
            self.protocol.send_response(response)
            return
        config, ask = exchange.config, self.transport.get_extra_info
        secure = bool(ask("sslcontext"))
        place = asgi.Place(config.asgi_version, config.root_path, secure, ask("sockname"), ask("peername"))
        exchange.scope = asgi.make_scope(request, place, exchange.app_state)
        exchange.opening, exchange.phase = response, Phase.ASKED
        context = contextvars.Context() if getattr(config, "reset_contextvars", False) else None
        task = self.loop.create_task(self._ws_run(exchange.scope), context=context)
        exchange.server_state.tasks.add(task)
        task.add_done_callback(exchange.server_state.tasks.discard)

    def _ws_receive_data(self, data: BytesLike) -> None:
        if self.protocol.state is State.CLOSED:
            return  # on Windows, a read may end after the stream did
        super()._ws_receive_data(data)
        if self._ws_exchange.phase in UNANSWERED and self._ws_bytes_received > MAX_EARLY:
            self._ws_pause_reading(True)

    def _ws_choose_path(self) -> None:
        super()._ws_choose_path()
        # At the end, a receiver must come to _ws_wait_for_frames().
        self._ws_quick = self._ws_quick and not self._ws_is_over()

    # --------------------------------------------------------------------------------------------- the application

    async def _ws_run(self, scope: dict[str, Any]) -> None:
        """Run the application, and end the connection if it has not done so."""
        if self.loop.get_task_factory() is not None:
            # An eager task starts at once, in the middle of a read.
            await asyncio.sleep(0)
        exchange = self._ws_exchange
        failed = True
        try:
            result = await exchange.config.loaded_app(scope, self._ws_app_receive, self._ws_app_send)
        except Exception as exc:
            # After the end of this connection, send() raised it; it may be about another connection, too.
            if not (_is_disconnected(exc) and self._ws_is_over()):
                self.logger.error("Exception in ASGI application\n", exc_info=exc)
        else:
            failed = False
            if exchange.phase is Phase.ASKED and not self._ws_is_over():
                self.logger.error("ASGI callable returned without completing handshake.")
            elif result is not None:
                self.logger.error("ASGI callable should return None, but returned '%s'.", result)
        finally:
            self._ws_finish(failed)

    def _ws_finish(self, failed: bool) -> None:
        """End the connection after the application: refuse the request, complete the response, or end the stream."""
        exchange = self._ws_exchange
        if exchange.phase is Phase.OPEN and not self._ws_is_over():
            # The client sees code 1006, as with uvicorn's own protocols.
            self._ws_fail(CloseCode.ABNORMAL_CLOSURE, "", ConnectionAbortedError("the application has ended"))
            self._ws_close_transport()
        elif exchange.phase is Phase.ASKED:
            self._ws_refuse(*FAILED)
        elif exchange.phase is Phase.HEAD:
            assert exchange.head is not None
            if failed or exchange.head.left:
                # Nothing was sent yet.
                self._ws_refuse(*FAILED)
            else:
                self._ws_complete_response(b"")
        elif exchange.phase is Phase.BODY:
            # The body isn't complete, and without its end the client sees that.
            self._ws_limit_closing()
            self._ws_close_transport()

    def _ws_close_transport(self) -> None:
        """Close the TCP connection after what was written."""
        if not self._ws_lost:
            self.transport.close()

    def _ws_is_over(self) -> bool:
        """Whether the application has nothing more to send or to receive, because of the client or of itself."""
        phase = self._ws_exchange.phase
        if phase is Phase.OPEN:
            return self.protocol.state is not State.OPEN
        if phase is Phase.ASKED or phase is Phase.HEAD:
            return not self._ws_session.answerable
        return phase is Phase.OVER or phase is Phase.REFUSED or self._ws_lost

    # ----------------------------------------------------------------------------------------------------- receive

    async def _ws_app_receive(self) -> Event:
        """Return the next event: the function ``receive`` of ASGI."""
        if not self._ws_receives:
            event = await self._ws_other_event()
            if event is not None:
                return event
        try:
            message = await self._ws_next()
            return {"type": RECEIVE, "text": message} if type(message) is str else {"type": RECEIVE, "bytes": message}
        except Disconnected:
            return self._ws_disconnect()

    async def _ws_other_event(self) -> Event | None:
        """Return the next event, or None if it is a message."""
        exchange = self._ws_exchange
        if not exchange.told:
            exchange.told = True
            return {"type": asgi.CONNECT}
        while exchange.phase not in (Phase.OPEN, Phase.OVER) and not self._ws_is_over():
            # Another task may accept the connection meanwhile.
            exchange.answered = exchange.answered or asyncio.Event()
            exchange.answered.clear()
            await exchange.answered.wait()
        if exchange.phase is not Phase.OPEN:
            return self._ws_disconnect()
        self._ws_receives = True
        return None

    def _ws_disconnect(self) -> Event:
        protocol = self.protocol
        return asgi.disconnect(protocol.close_rcvd, protocol.close_sent, protocol.close_rcvd_then_sent)

    async def _ws_wait_for_frames(self) -> None:
        if self._ws_is_over():
            raise Disconnected(GONE)
        await super()._ws_wait_for_frames()

    async def _ws_raise_closed(self) -> NoReturn:
        # Don't wait for the end of the TCP connection: the application must know at once.
        raise Disconnected(GONE)

    # -------------------------------------------------------------------------------------------------------- send

    async def _ws_app_send(self, message: Message) -> None:
        """Send what an event says: the function ``send`` of ASGI."""
        if self._ws_write_waiters is not None:
            await self._ws_wait_for_room()
        # Almost all messages are texts on an open connection: they take no look at the tables.
        text = message.get("text") if self._ws_open and type(message) is dict and message.get("type") == SEND else None
        if type(text) is str and (sent := self._ws_send_now(text, None)) != SLOW:
            if sent == FULL:
                await self._ws_wait_for_room()
            return
        if self._ws_exchange.phase is Phase.REFUSED:
            # The application did nothing wrong.
            raise Disconnected(GONE)
        kind = asgi.check_type(self._ws_exchange.phase, message)
        if kind == SEND:
            await self._ws_send_message(asgi.payload_of(message))
        elif self._ws_is_over():
            raise Disconnected(GONE)
        elif kind == asgi.ACCEPT:
            self._ws_accept(message)
        elif kind == asgi.CLOSE:
            self._ws_close(message)
        elif kind == asgi.RESPONSE_START:
            self._ws_start_response(message)
        else:
            await self._ws_send_body(message)

    async def _ws_send_message(self, data: Data) -> None:
        sent = self._ws_send_now(data, None)
        if sent == SLOW:
            await self._ws_send_slowly(data, None, None)
        elif sent == FULL:
            await self._ws_wait_for_room()

    async def _ws_wait_for_room(self) -> None:
        try:
            await self._ws_drain()
        except ConnectionClosed:
            raise Disconnected(GONE) from None

    def _ws_set_phase(self, phase: Phase) -> None:
        self._ws_exchange.phase = phase
        self._ws_open, self._ws_receives = phase is Phase.OPEN, False
        self._ws_exchange.wake()

    def _ws_accept(self, message: Message) -> None:
        """Open the connection."""
        exchange = self._ws_exchange
        assert exchange.opening is not None
        response = asgi.accepted(exchange.opening, message, exchange.server_state.default_headers)
        self.protocol.subprotocol = asgi.subprotocol_of(message)
        exchange.opening = None
        self._ws_set_phase(Phase.OPEN)
        try:
            self._ws_log_answer("[accepted]")
        finally:
            # Middleware may have put anything into the scope, and the client isn't to wait because of that.
            self._ws_respond(response)

    def _ws_close(self, message: Message) -> None:
        """Start the closing handshake, or refuse the request."""
        if self._ws_exchange.phase is Phase.ASKED:
            self._ws_refuse(*FORBIDDEN)
        else:
            self._ws_start_closing(*asgi.close_of(message))
            self._ws_set_phase(Phase.OVER)

    def _ws_log_answer(self, answer: object) -> None:
        scope = self._ws_exchange.scope
        if scope is not None and self.logger.isEnabledFor(logging.INFO):
            self.logger.info('%s - "WebSocket %s" %s', asgi.shown_client(scope), asgi.shown_path(scope), answer)

    def _ws_respond(self, response: Response) -> None:
        self.protocol.send_response(response)
        self._ws_session.response = response
        self._ws_resume_reading()
        self._ws_process_events()

    def _ws_refuse(self, status: int, text: str, phase: Phase = Phase.OVER) -> None:
        """Refuse the request without the application."""
        if not self._ws_is_over():
            self._ws_set_phase(phase)
            try:
                self._ws_log_answer(status)
            finally:
                self._ws_respond(asgi.text_response(status, text, self._ws_exchange.server_state.default_headers))

    # ------------------------------------------------------------------------------- the application's own response

    def _ws_start_response(self, message: Message) -> None:
        exchange = self._ws_exchange
        exchange.head = asgi.head_of(message, exchange.server_state.default_headers)
        self._ws_set_phase(Phase.HEAD)
        self._ws_log_answer(exchange.head.status)

    async def _ws_send_body(self, message: Message) -> None:
        """Send a piece of the body; the first one together with the head."""
        exchange = self._ws_exchange
        body, more = asgi.body_of(message)
        assert exchange.head is not None
        exchange.head.take(len(body), more)
        if exchange.phase is Phase.HEAD and not more:
            self._ws_complete_response(body)
            return
        if exchange.phase is Phase.HEAD:
            self._ws_begin_body(asgi.streamed_response(exchange.head, body))
        else:
            self._ws_write_out(asgi.piece_of_body(exchange.head, body))
        if not more:
            self._ws_write_out(asgi.last_chunk(exchange.head))
            self._ws_set_phase(Phase.OVER)
            if not self.transport.is_closing():
                self._ws_half_close()
            self._ws_limit_closing()
        elif self._ws_write_waiters is not None:
            await self._ws_wait_for_room()

    def _ws_complete_response(self, body: bytes) -> None:
        """Send a response with the whole body, if the client is still there."""
        head = self._ws_exchange.head
        assert head is not None
        if not self._ws_is_over():
            self._ws_set_phase(Phase.OVER)
            self._ws_respond(asgi.full_response(head, body))

    def _ws_begin_body(self, response: Response) -> None:
        """Send the head and the first piece of the body, and keep the stream open for the rest."""
        # The application may take its time, so closing isn't limited until the body is complete.
        self._ws_session.set_time("close_timeout", None, self.loop.time())
        self.protocol.send_response(response)
        self._ws_session.response = response
        writes = self.protocol.data_to_send()
        take_end(writes)
        self._ws_set_phase(Phase.BODY)
        self._ws_resume_reading()
        self._ws_write_out(b"".join(writes))

    def _ws_limit_closing(self) -> None:
        self._ws_session.limit_closing(CLOSE_TIMEOUT, self.loop.time())
        if not self._ws_lost:
            self._ws_process_events()


def _is_disconnected(exc: Exception) -> bool:
    """Whether an exception says nothing but that a connection has ended; the tasks of a group raise a group."""
    return exc.split(Disconnected)[1] is None if isinstance(exc, ExceptionGroup) else isinstance(exc, Disconnected)


# fmt: off
share_names(
    UvicornProtocol,
    "protocol", "loop", "_ws_shared", "_ws_write_limit", "_ws_session", "transport", "_ws_entry", "_ws_exchange",
    "_ws_receives", "_ws_open", "_ws_logger", "_ws_receiver", "_ws_burst", "_ws_corked", "_ws_closing", "_ws_lost",
    "_ws_write_waiters", "_ws_queue", "_ws_buffer", "_ws_client", "_ws_life", "_ws_may_send", "_ws_high",
    "_ws_decoder", "_ws_pack", "_ws_inflate", "_ws_plain", "_ws_quick", "_ws_reading_paused",
)
# fmt: on
