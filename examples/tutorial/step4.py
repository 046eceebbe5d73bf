"""Step 4: a poll at each path. ``python examples/tutorial/step4.py``; Ctrl-C ends it."""

import asyncio
import dataclasses
import json
import sys
from http import HTTPStatus
from pathlib import Path

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.http11 import Request, Response

PAGE = Path(__file__).with_name("step3.html").read_text("utf-8")


@dataclasses.dataclass
class Poll:
    votes: dict[str, int]
    viewers: set[ServerConnection] = dataclasses.field(default_factory=set)

    def results(self) -> str:
        return json.dumps({"votes": self.votes})


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
            event = json.loads(message)
            poll.votes[event["vote"]] += 1
            broadcast(poll.viewers, poll.results())
    finally:
        poll.viewers.remove(websocket)


async def main() -> None:
    async with serve(handler, "localhost", 8765, process_request=process_request) as server:
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
