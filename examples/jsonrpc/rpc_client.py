"""A client that calls methods, many at a time, on one connection. ``python examples/jsonrpc/rpc_client.py [uri]``"""

import asyncio
import sys

from rpc import Peer, RPCError

from websockets.asyncio.client import connect


async def name() -> str:
    return "Ada"


async def main(uri: str) -> None:
    async with connect(uri) as websocket, Peer(websocket, {"name": name}) as server:
        print("add:    ", await server.call("add", 1, 2))
        print("by name:", await server.call("divide", a=1, b=8))

        results = await asyncio.gather(*(server.call("sleep", 0.2) for _ in range(50)))
        print("at once:", len(results), "calls of 0.2 s each")

        try:
            await server.call("divide", 1, 0)
        except RPCError as exc:
            print("error:  ", exc, exc.data)

        try:
            async with asyncio.timeout(0.1):
                await server.call("sleep", 60)
        except TimeoutError:
            print("timeout: gave up, and told the server")

        print("both ways:", await server.call("greet"))


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8765"))
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
