"""A proxy on this machine: CONNECT and plain HTTP, to whatever port a test says the hosts are at."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class ProxyServer:
    """A running proxy.

    Attributes:
        url: Its address.
        asked: What it was asked for, with the login of each request.
    """

    url: str
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@contextmanager
def proxying(port: int, *, status: int = 200, pause: float = 0) -> Iterator[ProxyServer]:
    """Run a proxy whose hosts are all at one port of this machine.

    Args:
        port: The port.
        status: What it answers; with another one than 200 it passes nothing on.
        pause: Seconds before it answers to CONNECT.
    """
    stopping = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            asked.asked.append((self.path, self.headers["Proxy-Authorization"]))
            self.close_connection = True
            if stopping.wait(pause):
                return
            self.wfile.write(f"HTTP/1.1 {status} X\r\n\r\n".encode())
            if status == 200:
                with socket.create_connection(("127.0.0.1", port)) as far:
                    pass_on(self.connection, far)

        def do_POST(self) -> None:
            asked.asked.append((self.path, self.headers["Proxy-Authorization"]))
            self.rfile.read(int(self.headers["Content-Length"]))
            self.wfile.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    asked = ProxyServer(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield asked
    finally:
        stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


def pass_on(near: socket.socket, far: socket.socket) -> None:
    """Send to each of two connections what the other one sends, until both have ended."""
    back = threading.Thread(target=_copy, args=(far, near))
    back.start()
    _copy(near, far)
    back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(65536):
            target.sendall(content)
        target.shutdown(socket.SHUT_WR)
