"""The front-end for asyncio: only what waits, over the session and the protocol."""
