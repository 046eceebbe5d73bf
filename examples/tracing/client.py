"""A client whose span goes on in the server: its context travels in the headers of the opening handshake.

``python client.py [URI]``
"""

# pyright: reportMissingImports=false

import asyncio
import sys

from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind

from websockets.asyncio.client import connect

tracer = trace.get_tracer("client")


async def main(uri: str) -> None:
    with tracer.start_as_current_span("conversation", kind=SpanKind.CLIENT) as span:
        headers: dict[str, str] = {}
        propagate.inject(headers)
        async with connect(uri, additional_headers=headers) as websocket:
            await websocket.send("Hello!")
            print(await websocket.recv())
        print(f"trace {span.get_span_context().trace_id:032x}")


if __name__ == "__main__":
    trace.set_tracer_provider(TracerProvider())
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8765"))
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
