"""A server on this machine that refuses every request and repeats all of it in its answer."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        lines = [self.requestline, *(f"{name}: {value}" for name, value in self.headers.items() if name != "Host")]
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _USUAL}
        body = (json.dumps({"path": self.path, **headers}) + "\n" + "\n".join(lines)).encode()
        self.send_response(400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Stay silent."""


_USUAL = {"host", "content-length", "content-type", "accept", "accept-encoding", "connection", "user-agent"}


@contextmanager
def mirroring() -> Iterator[str]:
    """Serve until the block ends; yields the URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
