"""An auction: the last bid wins when nobody bids more for a while. ``python examples/tested_app/auction.py [port]``

Bidders connect to a path that is their name, such as ``/ada``, and send bids: ``120``. The server sends the price
and its bidder, ``{"price": 120, "bidder": "ada"}``, to all bidders; ``{"refused": "..."}`` to a bidder whose bid
doesn't count; and at the end ``{"sold": 120, "to": "ada"}`` to all of them.
"""

import asyncio
import json
import sys
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, broadcast, serve

PATIENCE = 30  # seconds without a bid, after which the auction ends
STEP = 10  # a bid must be higher than the last one by this


class Auction:
    """One thing for sale.

    Parameters:
        price: the lowest allowed bid.
    """

    def __init__(self, price: int) -> None:
        self.price = price
        self.bidder: str | None = None
        self.bidders: set[ServerConnection] = set()
        self.over = False
        self._end: asyncio.TimerHandle | None = None

    async def handler(self, websocket: ServerConnection) -> None:
        """Serve one bidder until the auction ends or the bidder leaves; a bid then still counts."""
        assert websocket.request is not None
        name = websocket.request.path.strip("/")
        self.bidders.add(websocket)
        try:
            broadcast([websocket], json.dumps(self.state()))
            async for message in websocket:
                try:
                    self.bid(name, message)
                except ValueError as exc:
                    await websocket.send(json.dumps({"refused": str(exc)}))
        finally:
            self.bidders.remove(websocket)

    def bid(self, name: str, message: str | bytes) -> None:
        """Take a bid.

        Raises:
            ValueError: the bid doesn't count.
        """
        if self.over:
            raise ValueError("it is over")
        if not (isinstance(message, str) and message.isascii() and message.isdecimal() and len(message) < 10):
            raise ValueError("that is no bid")
        least = self.price if self.bidder is None else self.price + STEP
        if int(message) < least:
            raise ValueError(f"the least bid is {least}")
        self.price, self.bidder = int(message), name
        broadcast(self.bidders, json.dumps(self.state()))
        # The time starts again.
        if self._end is not None:
            self._end.cancel()
        self._end = asyncio.get_running_loop().call_later(PATIENCE, self.end)

    def end(self) -> None:
        """Sell it."""
        self.over = True
        broadcast(self.bidders, json.dumps(self.state()))

    def state(self) -> dict[str, Any]:
        """Return the state that bidders get."""
        if self.over:
            return {"sold": self.price, "to": self.bidder}
        return {"price": self.price, "bidder": self.bidder}


def auction(host: str, port: int, price: int = 100) -> Server:
    """Make a server with one auction; await it, or use it in ``async with``."""
    # Notice within ten seconds that a bidder's network is gone.
    return serve(Auction(price).handler, host, port, max_size=100, ping_interval=5, ping_timeout=5)


async def main(port: int) -> None:
    async with auction("127.0.0.1", port) as server:
        for listening in server.sockets:
            print(f"bid at ws://127.0.0.1:{listening.getsockname()[1]}/your-name", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8765))
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
