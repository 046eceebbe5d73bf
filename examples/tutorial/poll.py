"""The poll, finished: polls at paths, a page for each, everybody sees each vote.

Run it with ``python examples/tutorial/poll.py [port]`` and open http://localhost:8765/drink; Ctrl-C or SIGTERM ends it.
"""

import asyncio
import contextlib
import dataclasses
import json
import signal
import sys
from http import HTTPStatus
from pathlib import Path
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.http11 import Request, Response

PAGE = Path(__file__).with_name("poll.html").read_text("utf-8")


@dataclasses.dataclass
class Poll:
    votes: dict[str, int]
    viewers: set[ServerConnection] = dataclasses.field(default_factory=set)

    def results(self) -> str:
        return json.dumps({"votes": self.votes})

    def vote(self, message: str | bytes) -> None:
        """Count a vote; raises ValueError if the message isn't a vote."""
        event: Any = json.loads(message)
        match event:
            case {"vote": str(option)} if option in self.votes:
                self.votes[option] += 1
            case _:
                raise ValueError("this is no vote")


polls = {
    "/drink": Poll({"tea": 0, "coffee": 0}),
    "/lunch": Poll({"pizza": 0, "salad": 0, "soup": 0}),
}


def process_request(connection: ServerConnection, request: Request) -> Response | None:
    if request.path not in polls:
        return connection.respond(HTTPStatus.NOT_FOUND, f"The polls are {', '.join(polls)}.\n")
    if "Upgrade" in request.headers:
        return None
    return connection.respond(HTTPStatus.OK, PAGE, headers={"Content-Type": "text/html; charset=utf-8"})


async def handler(websocket: ServerConnection, path: str) -> None:
    poll = polls[path]
    poll.viewers.add(websocket)
    try:
        await websocket.send(poll.results())
        async for message in websocket:
            try:
                poll.vote(message)
            except ValueError as exc:
                await websocket.send(json.dumps({"error": str(exc)}))
            else:
                broadcast(poll.viewers, poll.results())
    finally:
        poll.viewers.remove(websocket)


def close_on_signal(server: Server) -> None:
    """Shut the server down on SIGTERM, which process managers send. Windows doesn't have it."""
    with contextlib.suppress(NotImplementedError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.close)


async def main(port: int = 8765) -> None:
    async with serve(handler, "localhost", port, process_request=process_request, max_size=1000) as server:
        close_on_signal(server)
        await server.wait_closed()


if __name__ == "__main__":
    try:
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8765))
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
