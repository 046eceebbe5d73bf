"""Objects that there are thousands of stay small, also when they are made all at once."""

from __future__ import annotations

import ast
import inspect
import platform
import sys
from collections.abc import Callable
from types import ModuleType

import pytest

from _kit import virtual, wire
from websockets import client, server
from websockets._compat.layout import share_names
from websockets.asyncio import client as asyncio_client
from websockets.asyncio import server as asyncio_server
from websockets.client import ClientProtocol
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.testing import connected_pair
from websockets.uri import parse_uri

only_cpython = pytest.mark.skipif(platform.python_implementation() != "CPython", reason="this is about CPython")

COUNT = 100
NAMES = [f"attribute{number}" for number in range(10)]


def growth(make: Callable[[], object], use: Callable[..., None]) -> float:
    """Bytes that each instance takes for what happens to it when all of them were made."""
    import tracemalloc

    instances = [make() for _ in range(COUNT)]
    # What watches every line, as coverage does, takes memory for each.
    watcher = sys.gettrace()
    sys.settrace(None)
    tracemalloc.start()
    try:
        for instance in instances:
            use(instance)
        return tracemalloc.get_traced_memory()[0] / COUNT
    finally:
        tracemalloc.stop()
        sys.settrace(watcher)


def set_all(instance: object) -> None:
    for name in NAMES:
        setattr(instance, name, None)


def test_what_has_a_slot_needs_no_place() -> None:
    class Slotted:
        __slots__ = ("slot",)

    class Reserved(Slotted):
        pass

    share_names(Reserved, "slot", "other")
    instance = Reserved()
    instance.slot, instance.other = 1, 2  # type: ignore[attr-defined]
    assert vars(instance) == {"other": 2}


@only_cpython
def test_reserved_names_cost_nothing_but_their_place() -> None:
    class Plain:
        def __init__(self) -> None:
            self.always = None

    class Reserved(Plain):
        pass

    share_names(Reserved, "always", *NAMES)
    # Not a word for each; that something is made once, such as by the interpreter to trace, doesn't matter.
    assert growth(Reserved, set_all) < 8
    # What it is for; if CPython learns to do this by itself, this module can go.
    assert growth(Plain, set_all) > 200


def test_instances_do_not_have_what_is_only_reserved() -> None:
    class Reserved:
        attribute0 = "of the class"

    share_names(Reserved, *NAMES)
    assert vars(Reserved()) == {}
    assert Reserved().attribute0 == "of the class"


@only_cpython
def test_many_servers_at_once() -> None:
    request = wire.request()

    def serve(protocol: ServerProtocol) -> None:
        protocol.receive_data(request)
        (event,) = protocol.events_received()
        assert isinstance(event, Request)
        protocol.send_response(protocol.accept(event))
        protocol.data_to_send()
        assert protocol.state is State.OPEN

    # The protocol keeps neither the request nor the response; a dictionary would take 800 bytes.
    assert growth(ServerProtocol, serve) < 200


@only_cpython
def test_many_clients_at_once() -> None:
    uri = parse_uri("ws://localhost/")

    def connect(protocol: ClientProtocol) -> None:
        protocol.send_request(protocol.connect())
        protocol.receive_data(wire.response(key=protocol.key))
        protocol.events_received()
        protocol.data_to_send()
        assert protocol.state is State.OPEN

    assert growth(lambda: ClientProtocol(uri), connect) < 200


def reserved(module: ModuleType) -> set[object]:
    """The names for which a module reserves places."""
    (call,) = (
        node
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "share_names"
    )
    return {name.value for name in call.args if isinstance(name, ast.Constant)}


@pytest.mark.parametrize("compression", [None, "deflate"])
@virtual
async def test_messages_need_no_other_places(compression: str | None) -> None:
    """With one name more than that, each connection would have dictionaries of its own."""
    async with connected_pair(compression=compression) as (theirs, ours):
        for sender, receiver in [(theirs, ours), (ours, theirs)] * 2:
            await sender.send("a message" * 1000)
            await receiver.recv()
        places = [
            (theirs, asyncio_client),
            (theirs.protocol, client),
            (ours, asyncio_server),
            (ours.protocol, server),
        ]
        for instance, module in places:
            assert vars(instance).keys() - reserved(module) == set()
