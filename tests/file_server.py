"""HTTP server of one file, with the headers of a web server."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CHANGED = "Tue, 24 Nov 2026 10:00:00 GMT"


@dataclass
class FileServer:
    """The server, and what it responds with.

    Attributes:
        url: URL of the file.
        headers: Headers of responses, beside the date. Empty ones are not sent.
        status: Their status code; 0 for no response.
        requests: Methods and headers of all requests.
    """

    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    requests: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)

    def change(self, etag: str = '"1"', changed: str = CHANGED, size: int = 100, **more: str) -> None:
        """Replace the headers."""
        self.headers = {"ETag": etag, "Last-Modified": changed, "Content-Length": str(size), **more}


@contextmanager
def file_server() -> Iterator[FileServer]:
    """Serve a file that was last changed a week before."""
    served = FileServer()
    served.change()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            served.requests.append((self.command, dict(self.headers)))
            if not served.status:
                self.close_connection = True
                return
            self.send_response_only(served.status)
            for name, value in {"Date": formatdate(usegmt=True), **served.headers}.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        served.url = f"http://127.0.0.1:{server.server_port}/orders.csv"
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
