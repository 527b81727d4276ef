"""The connection check, against real servers on this machine: it proves Dagster, in bounded time, without secrets."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar

import pytest
from floe_core.plugins.orchestrator import ValidationResult

from floe_orchestrator_dagster.connection import validate_connection

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECRET = "hunter2-do-not-print"  # noqa: S105  # the value that no message may show
_NOT_DAGSTER = "Set webserver_url to the URL of a Dagster webserver, without /graphql."
_NOT_REACHABLE = "Start it (dagster dev), or set webserver_url to its URL."
_GOOD = b'{"data": {"version": "1.13.27"}}'


class _Server(ThreadingHTTPServer):
    """Answers every POST with the same bytes and keeps what it was asked."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, status: int, body: bytes, headers: dict[str, str], drip: float | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.body, self.headers, self.drip = status, body, headers, drip
        self.asked: list[tuple[str, object, str | None]] = []
        self.stopping = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version: ClassVar[str] = "HTTP/1.1"  # type: ignore[misc]

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        question = json.loads(self.rfile.read(length))
        self.server.asked.append((self.path, question, self.headers["Authorization"]))
        self.send_response(self.server.status)
        for name, value in {"Content-Length": str(len(self.server.body)), **self.server.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self._send_body()
        except OSError:
            self.close_connection = True

    def _send_body(self) -> None:
        if self.server.drip is None:
            self.wfile.write(self.server.body)
            return
        for byte in self.server.body:
            if self.server.stopping.wait(self.server.drip):
                self.close_connection = True
                return
            self.wfile.write(bytes([byte]))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Stay silent."""


@contextmanager
def _serving(
    body: bytes = _GOOD, *, status: int = 200, headers: dict[str, str] | None = None, drip: float | None = None
) -> Iterator[_Server]:
    server = _Server(status, body, headers or {}, drip)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _failure(url: str, problem: str) -> ValidationResult:
    return ValidationResult(success=False, message=f"No Dagster webserver at {url}", errors=[f"{url}: {problem}"])


# --- Dagster --------------------------------------------------------------------------------------------------------


def test_webserver_that_says_its_version_is_dagster() -> None:
    with _serving() as server:
        result = validate_connection(server.url)

    assert result == ValidationResult(success=True, message=f"Dagster 1.13.27 answers at {server.url}/")
    assert server.asked == [("/graphql", {"query": "{ version }"}, None)]


@pytest.mark.parametrize(
    ("path", "asked"), [("/", "/graphql"), ("/dagster", "/dagster/graphql"), ("/a/b/", "/a/b/graphql")]
)
def test_path_of_the_url_is_kept(path: str, asked: str) -> None:
    with _serving() as server:
        assert validate_connection(server.url + path).success

    assert [question[0] for question in server.asked] == [asked]


def test_check_can_be_repeated() -> None:
    with _serving() as server:
        assert validate_connection(server.url) == validate_connection(server.url)


def test_credentials_in_the_url_are_sent_and_not_shown() -> None:
    with _serving() as server:
        result = validate_connection(server.url.replace("http://", f"http://user:{_SECRET}@"))

    assert result == ValidationResult(success=True, message=f"Dagster 1.13.27 answers at {server.url}/")
    [(_, _, authorization)] = server.asked
    assert authorization is not None
    assert authorization.startswith("Basic ")


def test_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{_free_port()}")

    with _serving() as server:
        assert validate_connection(server.url).success


# --- something else -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [201, 204, 302, 401, 403, 404, 500, 503])
def test_other_http_status_is_not_dagster(status: int) -> None:
    body = b"" if status == 204 else _GOOD
    with _serving(body, status=status, headers={"Location": "/login"}) as server:
        result = validate_connection(server.url)

    problem = f"answers with HTTP {status}, not as Dagster's GraphQL API. {_NOT_DAGSTER}"
    assert result == _failure(f"{server.url}/", problem)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "body", [b"<html>Welcome</html>", b"", b'{"data": {"version"', b"\xff\xfe\x00", b'"\xe9"', b"[" * 60_000]
)
def test_answer_that_is_no_json_is_not_dagster(body: bytes) -> None:
    with _serving(body) as server:
        result = validate_connection(server.url, timeout=3)

    problem = f"answers, but not with JSON as Dagster's GraphQL API does. {_NOT_DAGSTER}"
    assert result == _failure(f"{server.url}/", problem)


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        "1.13.27",
        {},
        {"version": "1.13.27"},
        {"data": None},
        {"data": []},
        {"data": {"version": None}},
        {"data": {"version": 1.13}},
        {"errors": [{"message": "no such field"}]},
    ],
)
def test_other_json_is_not_dagster(content: object) -> None:
    with _serving(json.dumps(content).encode()) as server:
        result = validate_connection(server.url)

    assert result == _failure(f"{server.url}/", f"answers with JSON that is not Dagster's. {_NOT_DAGSTER}")


def test_answer_that_is_too_large_is_not_read_to_its_end() -> None:
    with _serving(b'{"data": {"version": "' + b"1" * 200_000 + b'"}}') as server:
        result = validate_connection(server.url)

    problem = f"answers with too much data for Dagster's GraphQL API. {_NOT_DAGSTER}"
    assert result == _failure(f"{server.url}/", problem)


def test_answer_in_a_broken_encoding_is_not_dagster() -> None:
    with _serving(headers={"Content-Encoding": "gzip"}) as server:
        result = validate_connection(server.url, timeout=3)

    assert not result.success
    assert result.errors[0].endswith(_NOT_DAGSTER)


# --- too slow -------------------------------------------------------------------------------------------------------


def test_server_that_drips_its_answer_is_left_in_time() -> None:
    with _serving(drip=0.05) as server:
        started = time.monotonic()
        result = validate_connection(server.url, timeout=0.4)
        elapsed = time.monotonic() - started

    problem = "no answer within 0.4 s. Check the address, and that the webserver is up."
    assert result == _failure(f"{server.url}/", problem)
    assert 0.4 <= elapsed < 1.4


def test_server_that_never_answers_is_left_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        result = validate_connection(url, timeout=0.3)
        elapsed = time.monotonic() - started

    assert not result.success
    assert elapsed < 1.3


_ODD_PATHS = ["http://h./a%3Fb", "http://h./a%23b"]


# --- nothing --------------------------------------------------------------------------------------------------------


def test_refused_port_says_how_to_start_dagster() -> None:
    url = f"http://127.0.0.1:{_free_port()}"

    assert validate_connection(url) == _failure(f"{url}/", f"not reachable (ConnectError). {_NOT_REACHABLE}")


@pytest.mark.parametrize(
    ("url", "shown", "reason"),
    [
        ("http://[::1", "the configured URL", "InvalidURL"),
        ("http://127.0.0.1:port", "the configured URL", "InvalidURL"),
        ("http://127.0.0.1:1/\n", "the configured URL", "InvalidURL"),
        ("http://\x00", "the configured URL", "InvalidURL"),
        ("ftp://dagster", "ftp://dagster/", "UnsupportedProtocol"),
    ],
)
def test_url_that_is_no_http_url_is_refused(url: str, shown: str, reason: str) -> None:
    assert validate_connection(url, timeout=3) == _failure(shown, f"not reachable ({reason}). {_NOT_REACHABLE}")


@pytest.mark.parametrize(
    "url",
    [
        "http://h./a%3Fb",
        "http://h./a%23b",
        "",
        "/",
        "dagster",
        "localhost:3000",
        "http://",
        "http://.",
        f"http://{'a' * 64}",
        "http://xn--a",
        "file:///etc",
    ],
)
def test_address_that_cannot_be_one_is_refused_at_once(url: str) -> None:
    started = time.monotonic()
    result = validate_connection(url, timeout=5)

    assert not result.success
    assert result.errors[0].endswith(_NOT_REACHABLE)
    assert time.monotonic() - started < 4


@pytest.mark.parametrize(
    "url",
    [
        "http://user:{secret}@127.0.0.1:{port}",
        "http://{secret}@127.0.0.1:{port}",
        "http://127.0.0.1:{port}/?token={secret}",
        "http://127.0.0.1:{port}/#{secret}",
        "http://user:{secret}@127.0.0.1:port",
        "ftp://user:{secret}@127.0.0.1",
        "http://127.0.0.1:{port}/{secret}",
        "user:{secret}@127.0.0.1:{port}",
        "http:user:{secret}@127.0.0.1",
        "//user:{secret}@127.0.0.1:{port}",
    ],
)
def test_credentials_are_never_shown(url: str) -> None:
    result = validate_connection(url.format(secret=_SECRET, port=_free_port()), timeout=3)

    assert not result.success
    assert _SECRET not in f"{result.message}{result.errors}{result.warnings}"
