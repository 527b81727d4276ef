"""Servers on this machine that answer as a test wants: slowly, endlessly, with something else, or as Dagster does."""

from __future__ import annotations

import json
import select
import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    Answer = Callable[[str], tuple[int, bytes]]


@dataclass(frozen=True)
class Asked:
    """A request that a server got: path, GraphQL question and headers."""

    path: str
    question: object
    headers: Mapping[str, str]


class HttpServer(ThreadingHTTPServer):
    """Answers every POST in the same way, and keeps what it was asked and how much it sent."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 16

    def __init__(self, answer: Answer, headers: Mapping[str, str], drip: float | None, repeat: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.headers, self.drip, self.repeat = answer, headers, drip, repeat
        self.asked: list[Asked] = []
        self.sent = 0
        self.stopped = threading.Event()
        self.closing = threading.Event()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return "127.0.0.1", self.server_port

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent: clients that go away are what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: HttpServer
    protocol_version: ClassVar[str] = "HTTP/1.1"  # type: ignore[misc]

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["query"]
        self.server.asked.append(Asked(self.path, question, dict(self.headers.items())))
        status, body = self.server.answer(question)
        self.send_response(status)
        length = str(len(body) * self.server.repeat)
        for name, value in {"Content-Length": length, **self.server.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            for _ in range(self.server.repeat):
                self._send(body)
        except OSError:
            self.close_connection = True
        finally:
            self.server.stopped.set()

    def _send(self, body: bytes) -> None:
        if self.server.drip is None:
            self.wfile.write(body)
            self.server.sent += len(body)
            return
        for byte in body:
            if self.server.closing.wait(self.server.drip):
                raise ConnectionAbortedError
            self.wfile.write(bytes([byte]))
            self.server.sent += 1

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Stay silent."""


@contextmanager
def serving(  # noqa: PLR0913  # what a server can be
    answer: bytes | Answer,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    drip: float | None = None,
    repeat: int = 1,
    tls: Path | None = None,
) -> Iterator[HttpServer]:
    """Serve HTTP on a free port.

    Args:
        answer: The body of every answer, or what makes status and body from the GraphQL question.
        status: Status of a fixed answer.
        headers: Headers of every answer.
        drip: Seconds before each byte.
        repeat: How often the body is sent.
        tls: PEM file with key and certificate, for HTTPS.
    """
    answers = (lambda _question: (status, answer)) if isinstance(answer, bytes) else answer
    server = HttpServer(answers, headers or {}, drip, repeat)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class BytesServer:
    """Sends the same bytes to each client, and records the received ones."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        self.heard = b""
        self.closing = threading.Event()


@contextmanager
def serving_bytes(
    said: bytes, *, drip: float | None = None, waits: bool = True, tunnel_to: tuple[str, int] | None = None
) -> Iterator[BytesServer]:
    """Serve bytes on a free port.

    Args:
        said: What it says to everybody.
        drip: Seconds before each byte.
        waits: Whether it sends them only after it has received a request.
        tunnel_to: Where it passes everything on to afterwards, as a proxy does.
    """
    server = BytesServer()

    def converse() -> None:
        while not server.closing.is_set():
            with suppress(OSError):
                connection, _ = server.listening.accept()
                with connection:
                    _converse(server, connection, said, drip, waits=waits, tunnel_to=tunnel_to)

    thread = threading.Thread(target=converse, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        with suppress(OSError):
            server.listening.shutdown(socket.SHUT_RDWR)
        server.listening.close()
        thread.join(5)


def _converse(  # noqa: PLR0913  # what serving_bytes() takes
    server: BytesServer,
    connection: socket.socket,
    said: bytes,
    drip: float | None,
    *,
    waits: bool,
    tunnel_to: tuple[str, int] | None,
) -> None:
    if waits:
        server.heard += connection.recv(65_536)
    for piece in [said] if drip is None else [bytes([byte]) for byte in said]:
        if drip is not None and server.closing.wait(drip):
            return
        connection.sendall(piece)
    if tunnel_to is not None:
        with socket.create_connection(tunnel_to) as onward:
            _pass_on(server, connection, onward)


def _pass_on(server: BytesServer, one: socket.socket, other: socket.socket) -> None:
    while not server.closing.is_set():
        readable, _, _ = select.select([one, other], [], [], 0.05)
        for end in readable:
            data = end.recv(65_536)
            if not data:
                return
            (other if end is one else one).sendall(data)


def free_port() -> int:
    """Find a free TCP port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def certificate(directory: Path, host: str) -> Path:
    """Write key and self-signed certificate of ``host`` into one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(tz=timezone.utc)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = directory / f"{host}.pem"
    path.write_bytes(secret + signed.public_bytes(serialization.Encoding.PEM))
    return path
