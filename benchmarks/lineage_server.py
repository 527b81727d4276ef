"""A lineage backend in a separate process with a selectable fault: ``lineage_server.py FAULT PORT``."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from typing_extensions import Self

FAULTS = ("answers", "500", "429", "400", "1 s each", "hangs", "drips", "refuses")


class Server:
    """A server process with the given fault; reports the events that it acknowledged."""

    def __init__(self, fault: str, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/api/v1/lineage"
        command = [sys.executable, __file__, fault, str(port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)

    def __enter__(self) -> Self:
        assert self._process.stdout is not None  # noqa: S101  # it is piped
        self._process.stdout.readline()
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.kill()
        self._process.communicate()

    def held(self) -> list[str]:
        with urlopen(Request(self.url), timeout=10) as answer:  # noqa: S310  # the server above
            return list(json.loads(answer.read()))


class Handler(BaseHTTPRequestHandler):
    protocol_version: ClassVar[str] = "HTTP/1.1"  # type: ignore[misc]
    disable_nagle_algorithm: ClassVar[bool] = True
    fault: ClassVar[str] = "answers"
    held: ClassVar[list[str]] = []
    lock: ClassVar[threading.Lock] = threading.Lock()

    def do_GET(self) -> None:
        with self.lock:
            self.answer(200, json.dumps(self.held).encode())

    def do_POST(self) -> None:
        name = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["job"]["name"]
        if self.fault == "hangs":
            time.sleep(3600)
        if self.fault == "1 s each":
            time.sleep(1)
        if self.fault == "drips":
            for byte in b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n":
                time.sleep(1)
                self.wfile.write(bytes([byte]))
        if self.fault.isdigit():
            self.answer(int(self.fault), b"")
            return
        with self.lock:
            self.held.append(name)
        self.answer(201, b"")

    def answer(self, status: int, body: bytes) -> None:
        self.wfile.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Stay silent."""


def serve(fault: str, port: int) -> None:
    Handler.fault = fault
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients leave, which is what is measured
    print("serving", flush=True)
    server.serve_forever()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
