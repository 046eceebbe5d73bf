"""Frameworks that were written for the published package, on ours.

Charter: runs servers of frameworks against the clients of the interoperability tests, and programs that use clients of
frameworks against expected output.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import websockets.version
from interop.conversation import conversation
from interop.frameworks import run
from interop.scenarios import SCENARIOS

HERE = Path(__file__).resolve().parent

PROGRAM_TIMEOUT = 60


@pytest.fixture
def servers(frameworks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell where the programs of the interoperability tests find the frameworks."""
    monkeypatch.setenv("INTEROP_FRAMEWORKS", str(frameworks))


# What a framework doesn't let an application do, or doesn't have.
LACKING = {
    "uvicorn": lambda scenario: scenario.path == "/ping",
    "sanic": lambda scenario: scenario.deflate,
}

# Frameworks, and how they are run.
SERVERS = {
    "uvicorn": ("uvicorn", ["--ws", "websockets-sansio"]),
    "uvicorn-legacy": ("uvicorn", ["--ws", "websockets"]),
    "sanic": ("sanic", []),
}

CLIENTS = ("ours", "aiohttp", "chromium")


@pytest.mark.usefixtures("servers")
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("name", SERVERS)
def test_server(name: str, client: str, subtests: pytest.Subtests) -> None:
    server, options = SERVERS[name]
    with conversation(server, client, options) as talk:
        assert talk.server.hello["library"].startswith(f"{server} ")
        assert talk.server.hello["library"].endswith(f" on websockets {websockets.version.version}")
        for name, scenario in SCENARIOS.items():
            if LACKING[server](scenario) or (client == "chromium" and scenario.ping):
                continue
            with subtests.test(name):
                talk.check(name)


EXPECTED = {
    "asgi_servers": """
        library: websockets {version}
        client: uvicorn on asyncio is asyncio
        client: chose a header 1
        client: extensions ['permessage-deflate']
        client: received hello 127.0.0.1
        server: disconnected with 3001 bye
        client: refused with 402 not today
        client: page page
        client: through a proxy hello 192.0.2.1
        server: disconnected with 1012 -
        client: shutdown: received 1012 (service restart)
        client: FastAPI {{"item":7}}
        client: closed with 4001 sold out
        client: uvicorn on uvloop is uvloop
        client: chose a header 1
        client: extensions ['permessage-deflate']
        client: received hello 127.0.0.1
        server: disconnected with 3001 bye
        client: refused with 402 not today
        client: page page
        client: through a proxy hello 192.0.2.1
        server: disconnected with 1012 -
        client: shutdown: received 1012 (service restart)
        client: FastAPI {{"item":7}}
        client: closed with 4001 sold out
        client: gunicorn received hello 127.0.0.1
        client: gunicorn received text
        client: gunicorn ended with 0
    """,
    "uvicorn_legacy": """
        library: websockets {version}
        server: /echo?x=1 offers ['a', 'b']
        server: disconnected with 3001 bye
        server: /plain offers []
        server: disconnected with 1000
        server: /forbidden offers []
        server: /busy offers []
        server: /broken offers []
        server: /silent offers []
        server: disconnected with 1006
        server: /shutdown offers []
        server: disconnected with 1012
        client: aiohttp chose a, header 1
        client: aiohttp received 'text'
        client: aiohttp received b'bytes'
        client: ours chose None, header 1
        client: ours received 'text'
        client: ours received 1048576 bytes
        client: aiohttp was refused with 403
        client: aiohttp was refused with 503
        client: aiohttp was refused with 500
        client: ours was refused with 503, busy, later
        client: no pong: ping, close 1011 keepalive ping timeout
        client: shutdown: received 1012 (service restart)
    """,
    "sanic_client": """
        library: websockets {version}
        server: received hello
        server: received b'bytes'
        client: sent ['hello', b'bytes', '']
        client: received ['HELLO', b'BYTES']
    """,
    "openai_realtime": """
        library: websockets {version}
        server: path /v1/realtime?model=m
        server: authorization Bearer secret
        server: received session.update
        server: received response.create
        server: closed with 1000
        server: path /v1/realtime?model=moved
        server: authorization Bearer secret
        server: received session.update
        server: received response.create
        server: closed with 1000
        client: received session.created
        client: received response.output_text.delta Hel
        client: received response.output_text.delta lo!
        client: received response.done
        client: received session.created
        client: received response.output_text.delta Hel
        client: received response.output_text.delta lo!
        client: received response.done
        client: refused Cross-origin WebSocket redirects are not allowed
    """,
    "gevent_threads": """
        library: websockets {version}
        client: all were closed with 1000
        server: ended
    """,
    "gql_subscriptions": """
        library: websockets {version}
        server: subprotocol graphql-transport-ws
        server: received connection_init
        server: received subscribe
        server: received subscribe
        server: closed with 1000
        server: subprotocol graphql-ws
        server: received connection_init
        server: received start
        server: received start
        server: received connection_terminate
        server: closed with 1000
        client: received {{'count': 1}}
        client: received {{'count': 2}}
        client: failed {{'message': 'no such field'}}
        client: received {{'count': 1}}
        client: received {{'count': 2}}
        client: failed {{'message': 'no such field'}}
    """,
}


@pytest.mark.parametrize("name", EXPECTED)
def test_client(name: str, frameworks: Path) -> None:
    printed = run(frameworks, HERE / "services" / f"{name}.py", timeout=PROGRAM_TIMEOUT).splitlines()
    expected = EXPECTED[name].format(version=websockets.version.version).strip().splitlines()
    # Both sides run at the same time: only the lines of one of them have an order.
    for side in ("library: ", "server: ", "client: "):
        lines = [line.strip() for line in printed if line.startswith(side)]
        assert lines == [line.strip() for line in expected if line.strip().startswith(side)]
    assert len(printed) == len(expected)
