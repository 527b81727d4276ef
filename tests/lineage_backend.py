"""A lineage backend on a real port of this machine, with configurable answers, which records acknowledged events."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

from openlineage.client import event_v2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    # Says how to answer an event: a status, or a status with headers.
    Answer = Callable[[dict[str, Any]], "int | tuple[int, dict[str, str]]"]

RUN_ID = "01941f29-7c00-7000-8000-000000000001"


class LineageServer(ThreadingHTTPServer):
    """Accepts events on any path, and returns them for a GET.

    Attributes:
        events: What it acknowledged, in order.
        asked: Path and authorization of every request.
        answer: How it answers; 201 unless changed.
        delay: Seconds before each answer.
        drip: Seconds between the bytes of an answer; all at once when None.
        keep: Whether connections are kept open after an answer.
        connections: How many connections there were.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.events: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str | None]] = []
        self.answer: Answer = lambda _event: 201
        self.delay = 0.0
        self.drip: float | None = None
        self.keep = True
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.connections = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/api/v1/lineage"

    @property
    def names(self) -> list[str]:
        """Job names of the acknowledged events."""
        return [event["job"]["name"] for event in self.events]

    @property
    def repeated(self) -> list[str]:
        return [name for name, count in Counter(self.names).items() if count > 1]

    def get_request(self) -> tuple[socket.socket, object]:
        """Count the connection."""
        accepted = super().get_request()
        self.connections += 1
        return accepted

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent about clients that leave."""


class _Handler(BaseHTTPRequestHandler):
    server: LineageServer
    protocol_version: ClassVar[str] = "HTTP/1.1"  # type: ignore[misc]
    disable_nagle_algorithm: ClassVar[bool] = True

    def do_GET(self) -> None:
        with self.server.lock:
            body = json.dumps(self.server.events).encode()
        self.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    def do_POST(self) -> None:
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        backend = self.server
        with backend.lock:
            backend.asked.append((self.path, self.headers["Authorization"]))
        if backend.stopping.wait(backend.delay):
            self.close_connection = True
            return
        answer = backend.answer(event)
        status, headers = answer if isinstance(answer, tuple) else (answer, {})
        body = b"" if status < 300 else f"answer {status}, you sent {self.headers['Authorization']}".encode()
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in headers.items())]
        self.close_connection = not backend.keep
        if 200 <= status < 300 and backend.drip is None:
            with backend.lock:
                backend.events.append(event)
        self._write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    def _write(self, content: bytes) -> None:
        if self.server.drip is None:
            self.wfile.write(content)
            return
        for byte in content:
            if self.server.stopping.wait(self.server.drip):
                break
            self.wfile.write(bytes([byte]))
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Stay silent."""


@contextmanager
def serving(port: int = 0) -> Iterator[LineageServer]:
    """Serve until the block ends; connections are cut then."""
    backend = LineageServer(port)
    thread = threading.Thread(target=backend.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield backend
    finally:
        backend.stopping.set()
        backend.shutdown()
        backend.server_close()
        thread.join()


def free_port() -> int:
    """Find a port that refuses connections."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def event(job: str, state: str = "COMPLETE", **facets: Any) -> event_v2.RunEvent:  # noqa: ANN401  # any facet
    """Make an event of a job."""
    return event_v2.RunEvent(
        eventTime="2026-03-01T06:00:00+00:00",
        eventType=event_v2.RunState(state),
        producer="https://example.com/tests",
        run=event_v2.Run(RUN_ID, dict(facets)),
        job=event_v2.Job("shop", job),
        inputs=[event_v2.InputDataset("duckdb://shop", "shop.main.raw_orders")],
        outputs=[event_v2.OutputDataset("duckdb://shop", f"shop.main.{job}")],
    )
