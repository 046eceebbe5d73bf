"""A client that trusts only one certificate, or one authority.

``python client.py URI CA [CERT KEY]``; with the last two, it proves to the server who it is.
"""

import asyncio
import ssl
import sys

from websockets.asyncio.client import connect


async def main(uri: str, ca: str, *identity: str) -> None:
    context = ssl.create_default_context(cafile=ca)
    if identity:
        context.load_cert_chain(*identity)
    async with connect(uri, ssl=context) as websocket:
        await websocket.send("Hello!")
        print(await websocket.recv())
        print(websocket.transport.get_extra_info("ssl_object").version())


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
