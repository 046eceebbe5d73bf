"""The WebSocket transport of ``gql`` on our client, with a server of ours that plays a GraphQL service.

Charter: prints what both sides see, one line each, for the test to compare. Runs where the frameworks are installed.
"""

# pyright: reportMissingImports=false
# Frameworks are installed where they run, not where types are checked.

from __future__ import annotations

import asyncio
import json
from typing import Any

from gql import Client, gql
from gql.transport.exceptions import TransportQueryError
from gql.transport.websockets import WebsocketsTransport

import websockets
from websockets.asyncio.server import ServerConnection, serve

SUBPROTOCOLS = ("graphql-transport-ws", "graphql-ws")


async def answer(connection: ServerConnection, identifier: str, query: str) -> None:
    """Play the service: count to two, or complain."""
    data = "next" if connection.subprotocol == "graphql-transport-ws" else "data"
    if "count" in query:
        for number in (1, 2):
            await tell(connection, type=data, id=identifier, payload={"data": {"count": number}})
        await tell(connection, type="complete", id=identifier)
    else:
        error: Any = [{"message": "no such field"}] if data == "next" else {"message": "no such field"}
        await tell(connection, type="error", id=identifier, payload=error)


async def tell(connection: ServerConnection, **members: Any) -> None:
    """Send a message of the subprotocol."""
    await connection.send(json.dumps(members))


async def service(connection: ServerConnection) -> None:
    """Speak the subprotocol that was agreed on."""
    print("server: subprotocol", connection.subprotocol)
    async for message in connection:
        request = json.loads(message)
        print("server: received", request["type"])
        if request["type"] == "connection_init":
            await tell(connection, type="connection_ack")
        elif request["type"] in ("subscribe", "start"):
            await answer(connection, request["id"], request["payload"]["query"])
    print("server: closed with", connection.close_code)


async def subscribe(uri: str, subprotocol: str) -> None:
    """Print what a subscription gives, and how another one fails."""
    transport = WebsocketsTransport(url=uri, subprotocols=[subprotocol], headers={"X-Token": "secret"})
    async with Client(transport=transport) as session:
        async for result in session.subscribe(gql("subscription { count }")):
            print("client: received", result)
        try:
            async for result in session.subscribe(gql("subscription { other }")):
                print("client: received", result)
        except TransportQueryError as exc:
            print("client: failed", exc)


async def main() -> None:
    print("library: websockets", websockets.__version__)
    async with serve(service, "127.0.0.1", 0, subprotocols=list(SUBPROTOCOLS)) as server:  # type: ignore[arg-type]
        port = next(iter(server.sockets)).getsockname()[1]
        for subprotocol in SUBPROTOCOLS:
            await subscribe(f"ws://127.0.0.1:{port}/graphql", subprotocol)


asyncio.run(main())
