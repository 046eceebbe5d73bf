"""Servers with a handler for each path, as far as they wait.

May know: the arguments of :func:`route`. Must not know: the choice of a handler, and the text of a refusal:
``_session`` decides that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import trio

from .._awaiting.hooks import carry_out
from .._rules.option_checks import awaited
from .._session.routing import Routes, after, require_werkzeug, routes_of
from ..http11 import Request, Response
from .server import ProcessRequest, Server, ServerConnection, serve

if TYPE_CHECKING:
    import ssl as ssl_module

    from werkzeug.routing import Map

__all__ = ["Router", "route"]


class Router(Routes):
    """A router that chooses the handler of each connection by a URL map; :func:`route` creates it.

    Parameters:
        url_map: :class:`werkzeug.routing.Map` whose endpoints are handlers; its rules become rules for WebSocket.
        server_name: host and port that clients use for the server; None to use the ``Host`` of each request.
        url_scheme: "ws" or "wss".
    """

    async def handler(self, connection: ServerConnection) -> None:
        """Run the handler of a connection, with the variables from its path.

        Parameters:
            connection: connection that was routed.
        """
        handler = connection.handler
        await awaited(handler, handler(connection, **connection.handler_kwargs))


async def route(
    url_map: Map,
    *args: Any,
    server_name: str | None = None,
    ssl: ssl_module.SSLContext | Literal[True] | None = None,
    create_router: type[Router] | None = None,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
    **kwargs: Any,
) -> None:
    """Run a WebSocket server with a handler for each path; otherwise like :func:`~websockets.trio.server.serve`.

    Variables in the path are passed to the handler as keyword arguments. A request that matches no rule is refused with
    404. If the map has a canonical URL for a request, it is redirected with 302. Other errors of the map have their own
    status, such as 405.

    Parameters:
        url_map: :class:`werkzeug.routing.Map` whose endpoints are handlers; its rules become rules for WebSocket.
        *args: port, as for :func:`~websockets.trio.server.serve`.
        server_name: host and port that clients use for the server, for redirects; None to use each request's ``Host``.
        ssl: TLS context; True if a proxy in front of the server does TLS.
        create_router: subclass of :class:`Router` to use.
        task_status: as for :func:`~websockets.trio.server.serve`.
        **kwargs: as for :func:`~websockets.trio.server.serve`; ``process_request`` is called before the routing.

    Raises:
        ImportError: Werkzeug isn't installed.
        OSError: the server can't listen on the address.
        TypeError: an option has a wrong type, or doesn't exist.
        ValueError: an option has a wrong value, or options contradict each other.
    """
    require_werkzeug("route")
    process_request = kwargs.pop("process_request", None)
    router = routes_of(
        Router,
        url_map,
        server_name=server_name,
        ssl=ssl,
        create_router=create_router,
        process_request=process_request,
    )
    if ssl is not None and ssl is not True:
        kwargs["ssl"] = ssl
    routing = _after(process_request, router)
    await serve(router.handler, *args, process_request=routing, task_status=task_status, **kwargs)


def _after(process_request: ProcessRequest | None, router: Router) -> ProcessRequest:
    """Route the requests for which the user's ``process_request`` returns None."""
    if process_request is None:
        return router.route_request
    steps = after(process_request, router)

    async def process_and_route(connection: ServerConnection, request: Request) -> Response | None:
        return await carry_out(steps(connection, request))

    return process_and_route
