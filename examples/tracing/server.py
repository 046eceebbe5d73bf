"""An echo server with traces of OpenTelemetry: a span for each connection, and one for each message.

``python server.py [PORT]`` writes spans to standard output as they end.
"""

# pyright: reportMissingImports=false

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator

from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.trace import Link, Span, SpanKind, StatusCode

from websockets.asyncio.server import ServerConnection, serve

tracer = trace.get_tracer("echo")


@contextlib.contextmanager
def connection_span(websocket: ServerConnection) -> Iterator[Span]:
    """A span for a connection, below the client's span from the opening handshake."""
    assert websocket.request is not None
    headers = {name.lower(): value for name, value in websocket.request.headers.raw_items()}
    attributes = {"url.path": websocket.request.path, "websocket.id": str(websocket.id)}
    with tracer.start_as_current_span(
        "connection", context=propagate.extract(headers), kind=SpanKind.SERVER, attributes=attributes
    ) as span:
        try:
            yield span
        finally:
            # None while the connection is open: then the handler ended first, and closes it with 1000 or 1011.
            if websocket.close_code is not None:
                span.set_attribute("websocket.close_code", websocket.close_code)
                if websocket.close_code not in (1000, 1001):
                    span.set_status(StatusCode.ERROR, websocket.close_reason or "")


@contextlib.contextmanager
def message_span(message: str | bytes, whole: Span) -> Iterator[Span]:
    """A span for a message: a trace of its own, with a link to the connection, which may last for days."""
    with tracer.start_as_current_span(
        "message",
        context=trace.set_span_in_context(trace.INVALID_SPAN),
        kind=SpanKind.CONSUMER,
        links=[Link(whole.get_span_context())],
        attributes={"messaging.message.body.size": len(message)},
    ) as span:
        yield span


async def echo(websocket: ServerConnection) -> None:
    with connection_span(websocket) as whole:
        async for message in websocket:
            with message_span(message, whole):
                await websocket.send(message)


async def main(port: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with serve(echo, "127.0.0.1", port):
        await stop.wait()


if __name__ == "__main__":
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
    trace.set_tracer_provider(provider)
    try:
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8765))
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
