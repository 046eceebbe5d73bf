"""Ask several servers at once, and take the first answer; the others are cancelled. On trio.

``python examples/race/race_trio.py [uri]...``; without addresses, it starts three servers of its own.
"""

import sys

import trio

from websockets.exceptions import WebSocketException
from websockets.trio.client import connect
from websockets.trio.server import ServerConnection, serve


async def ask(uri: str, question: str, found: "trio.MemorySendChannel[tuple[str, str]]") -> None:
    try:
        async with connect(uri) as websocket:
            await websocket.send(question)
            await found.send((uri, str(await websocket.recv())))
    except (OSError, WebSocketException) as exc:
        print(f"{uri}: {exc}", file=sys.stderr)


async def first_answer(uris: list[str], question: str, seconds: float) -> tuple[str, str]:
    """Return the address of the fastest server, and its answer; TooSlowError if none answers in time."""
    found, answers = trio.open_memory_channel[tuple[str, str]](len(uris))
    with trio.fail_after(seconds):
        async with trio.open_nursery() as nursery:
            for uri in uris:
                nursery.start_soon(ask, uri, question, found)
            answer = await answers.receive()
            nursery.cancel_scope.cancel()
    return answer


async def start_server(nursery: trio.Nursery, delay: float) -> str:
    """Start a server that answers after a delay, and return its address."""

    async def answer(websocket: ServerConnection) -> None:
        async for message in websocket:
            await trio.sleep(delay)
            await websocket.send(f"{message!s} answered after {delay} s")

    async def run(task_status: "trio.TaskStatus[object]") -> None:
        await serve(answer, 0, host="127.0.0.1", task_status=task_status)

    server = await nursery.start(run)
    return f"ws://127.0.0.1:{server.listeners[0].socket.getsockname()[1]}/"


async def main(uris: list[str]) -> None:
    async with trio.open_nursery() as nursery:
        uris = uris or [await start_server(nursery, delay) for delay in (0.3, 0.1, 0.2)]
        uri, answer = await first_answer(uris, "Hello!", seconds=5)
        print(f"{uri}: {answer}")
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1:])
