"""A Starlette chat on this library: ``uvicorn app:app --ws websockets.asgi:UvicornProtocol``

Needs ``starlette`` and ``uvicorn``. FastAPI is Starlette underneath: ``@app.websocket("/chat")`` takes the same
function.
"""

# pyright: reportMissingImports=false

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

members: set[WebSocket] = set()


async def chat(websocket: WebSocket) -> None:
    """Send each message to all members."""
    await websocket.accept()
    members.add(websocket)
    try:
        async for text in websocket.iter_text():
            for member in list(members):
                try:
                    await member.send_text(text)
                except WebSocketDisconnect:
                    members.discard(member)  # it has gone, and its own task will notice
    finally:
        members.discard(websocket)


app = Starlette(routes=[WebSocketRoute("/chat", chat)])
