"""A client with a token in a header. ``python examples/token_auth/token_client.py token [uri]``"""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus


async def main(token: str, uri: str) -> None:
    try:
        async with connect(uri, additional_headers={"Authorization": f"Bearer {token}"}) as websocket:
            print(await websocket.recv())
            await websocket.send(json.dumps({"say": "Hello!"}))
            print(await websocket.recv())
    except InvalidStatus as exc:
        sys.exit(f"{exc.response.status_code} {exc.response.reason_phrase}: {exc.response.body.decode().strip()}")


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "ws://127.0.0.1:8765/account"))
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
