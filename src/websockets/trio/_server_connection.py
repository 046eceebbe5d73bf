"""A server's end of a connection on trio: its opening handshake, as far as it waits for the user's hooks.

May know: cancel scopes, when hooks run. Must not know: what listens, who runs the handler; how a response is chosen,
which requests are valid, or the text of a refusal: ``_session`` and ``server`` decide that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import trio

from .._awaiting.hooks import carry_out
from .._session.answering import Answering
from .._session.properties import later
from .._session.server_session import HandlerState, ServerSession
from ..datastructures import HeadersLike
from ..http11 import Response
from ..server import ServerProtocol
from ..typing import BytesLike, StatusLike
from .connection import Connection

if TYPE_CHECKING:
    from ._serving import Server

__all__ = ["ServerConnection", "apart"]


class ServerConnection(Connection):
    """The server's end of a WebSocket connection; handlers receive it.

    Parameters:
        nursery: where the task of the connection runs.
        stream: stream to the client.
        protocol: sans-I/O connection.
        server: the server that accepted the connection.
        ping_interval, ping_timeout, close_timeout, max_queue, idle_timeout: as for
            :class:`~websockets.trio.connection.Connection`.
    """

    # The module where users find the class.
    __module__ = "websockets.trio.server"

    protocol: ServerProtocol
    username: str
    """The user name of the client, after :func:`basic_auth` has accepted it."""
    handler: Callable[..., Awaitable[None]]
    """The handler that :func:`~websockets.trio.router.route` chose."""
    handler_kwargs: Mapping[str, Any]
    """Variables that :func:`~websockets.trio.router.route` found in the path: keyword arguments of the handler."""
    if not TYPE_CHECKING:
        username = later("basic_auth sets it when it has accepted the client")
        handler = later("route sets it")
        handler_kwargs = later("route sets it")

    def __init__(
        self,
        nursery: trio.Nursery,
        stream: trio.abc.Stream,
        protocol: ServerProtocol,
        server: Server,
        *,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
        close_timeout: float | None = 10,
        max_queue: int | tuple[int | None, int | None] | None = 16,
        idle_timeout: float | None = None,
    ) -> None:
        self.server = server
        super().__init__(
            nursery,
            stream,
            protocol,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            close_timeout=close_timeout,
            max_queue=max_queue,
            idle_timeout=idle_timeout,
        )

    _ws_session: ServerSession
    _ws_make_session = ServerSession
    # Around the hooks that choose the response, while they run.
    _ws_asking: trio.CancelScope | None = None

    def respond(self, status: StatusLike, text: str | BytesLike, *, headers: HeadersLike | None = None) -> Response:
        """Make an HTTP response, for ``process_request`` or ``process_response`` to return.

        Parameters:
            status: HTTP status.
            text: body; a ``str`` is sent in UTF-8, as ``text/plain``, and bytes as ``application/octet-stream``.
            headers: headers to add; they replace the default ones, such as ``Content-Type``.

        Returns:
            The response, with ``Connection: close``; its headers may be changed.

        Raises:
            ValueError: the status is unknown, or ``headers`` has ``Connection``, ``Content-Length`` or
                ``Transfer-Encoding``, which follow from the body and the connection.
            TypeError: ``text`` is neither ``str`` nor bytes.
        """
        return self.protocol.reject(status, text, headers=headers)

    @property
    def _ws_farewell(self) -> tuple[int | None, str]:
        """The close code and the reason if the nursery is cancelled: those of the shutdown, if there is one."""
        registry = self.server._ws_registry
        return registry.code, registry.reason

    @property
    def _ws_answering(self) -> Answering:
        """The rules of the server for responses to requests."""
        return self.server._ws_answering

    def _ws_process_events(self) -> None:
        session = self._ws_session
        if session.handler is HandlerState.ABSENT and not self._ws_lost:
            answering = self._ws_answering
            request = answering.take_request(self, session)
            if request is not None:
                session.handler = HandlerState.RUNNING
                if answering.asks(session):
                    # Data after the request isn't read until the response is sent.
                    self._ws_pause_reading(True)
                else:
                    answering.answer_at_once(self, session, request)
        super()._ws_process_events()

    async def _ws_answer(self) -> None:
        """Answer a request as the user's hooks decide."""
        answering, session = self._ws_answering, self._ws_session
        response: Response | None = None
        with trio.CancelScope() as self._ws_asking:
            try:
                response = await carry_out(answering.steps(self, session))
            except BaseExceptionGroup as group:
                cancelled, failures = apart(group)
                self.logger.error("opening handshake failed", exc_info=failures)
                raise cancelled from None
        self._ws_asking = None
        if response is not None:
            answering.respond(self, session, response)
        self._ws_pause_reading(False)
        self._ws_process_events()
        self._ws_write_soon()

    def _ws_unavailable_unless_asked(self) -> None:
        """Tell a client that hasn't sent a request that the server closes; other clients are told later."""
        if self._ws_answering.unavailable_unless_asked(self._ws_session):
            self._ws_process_events()
            self._ws_write_soon()

    def _ws_connection_lost(self, exc: Exception | None) -> None:
        super()._ws_connection_lost(exc)
        if self._ws_session.asking and self._ws_asking is not None:
            # A response can't be sent any more, and ``open_timeout`` no longer limits the task that computes it.
            self._ws_asking.cancel()

    def _ws_abort(self) -> None:
        if self._ws_session.answerable:
            self.logger.info("opening handshake failed: %s", self._ws_session.cause)
        super()._ws_abort()


def apart(group: BaseExceptionGroup[BaseException]) -> tuple[BaseException, Exception]:
    """Return the cancellations and the failures in a group that a function of the user raised while it was cancelled.

    Its tasks may fail then. That mustn't end the server.

    Parameters:
        group: the group; it is raised if there is nothing of one kind, or more than these.
    """
    cancelled, failures = group.split(trio.Cancelled)
    if cancelled is None or not isinstance(failures, Exception):
        raise group
    return cancelled, failures
