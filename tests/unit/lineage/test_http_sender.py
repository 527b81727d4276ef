"""Posting events: what counts as an acknowledgement, TLS, proxies, and bounds in wall-clock time."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.lineage.http_sender import HttpSender, shown_url
from floe_orchestrator_dagster.lineage.sender import BackendUnavailableError, EventRefusedError
from lineage_backend import LineageServer, free_port, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_EVENT = b'{"job": {"name": "a"}}'
_SECRET = "hunter2-do-not-print"  # noqa: S105  # the value that nothing may show


def post(url: str, timeout: float = 2, **settings: object) -> None:
    sender = HttpSender(url, timeout=timeout, **settings)  # type: ignore[arg-type]
    try:
        sender.send(_EVENT)
    finally:
        sender.close()


# --- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_2xx_is_an_acknowledgement(status: int) -> None:
    with serving() as backend:
        backend.answer = lambda _event: status
        post(backend.url)

    assert backend.names == ["a"]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_event_is_refused(status: int) -> None:
    with serving() as backend:
        backend.answer = lambda _event: status
        with pytest.raises(EventRefusedError, match=f"^HTTP {status}: answer {status}, you sent None$"):
            post(backend.url)


@pytest.mark.parametrize("status", [301, 302, 307, 401, 403, 404, 405, 408, 409, 415, 429, 500, 502, 503, 504])
def test_another_time_may_do(status: int) -> None:
    with serving() as backend:
        backend.answer = lambda _event: (status, {"Location": "/login"})
        with pytest.raises(BackendUnavailableError, match=f"^HTTP {status}: ") as raised:
            post(backend.url)

    assert raised.value.server_error == (status >= 500)
    assert raised.value.retry_after is None
    assert len(backend.asked) == 1


@pytest.mark.parametrize("value", ["7", " 7 "])
def test_wait_is_read_as_seconds(value: str) -> None:
    with serving() as backend:
        backend.answer = lambda _event: (429, {"Retry-After": value})
        with pytest.raises(BackendUnavailableError) as raised:
            post(backend.url)

    assert raised.value.retry_after == 7


@pytest.mark.parametrize(("ahead", "least", "most"), [(60, 50, 60), (-60, 0, 0)])
def test_wait_is_read_as_a_date(ahead: float, least: float, most: float) -> None:
    date = dt.datetime.now(tz=dt.timezone.utc) + dt.timedelta(seconds=ahead)
    with serving() as backend:
        backend.answer = lambda _event: (503, {"Retry-After": format_datetime(date, usegmt=True)})
        with pytest.raises(BackendUnavailableError) as raised:
            post(backend.url)

    assert raised.value.retry_after is not None
    assert least <= raised.value.retry_after <= most


@pytest.mark.parametrize(
    "value", ["99999999999", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT", "Fri, 31 Dec 9999 23:59:59 -1200"]
)
def test_wait_of_years_is_an_hour(value: str) -> None:
    with serving() as backend:
        backend.answer = lambda _event: (503, {"Retry-After": value})
        with pytest.raises(BackendUnavailableError) as raised:
            post(backend.url)

    assert raised.value.retry_after == 3600


@pytest.mark.parametrize(
    "value",
    ["soon", "", "-5", "1e3", "\xb2", "inf", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "Mon, 32 Jan 2026"],
)
def test_wait_that_cannot_be_read_is_none(value: str) -> None:
    with serving() as backend:
        backend.answer = lambda _event: (503, {"Retry-After": value})
        with pytest.raises(BackendUnavailableError) as raised:
            post(backend.url)

    assert raised.value.retry_after is None


def test_what_the_backend_says_is_shown_without_credentials_and_short() -> None:
    with serving() as backend:
        backend.answer = lambda _event: 400
        with pytest.raises(EventRefusedError) as raised:
            post(backend.url, api_key=_SECRET)

    assert str(raised.value) == "HTTP 400: answer 400, you sent Bearer ***"


# --- connections ----------------------------------------------------------------------------------------------------


def test_connection_is_kept_between_events() -> None:
    with serving() as backend:
        sender = HttpSender(backend.url)
        sender.send(_EVENT)
        first = sender._connection
        sender.send(_EVENT)
        assert sender._connection is first
        sender.close()

    assert len(backend.events) == 2


def test_connection_that_the_backend_has_closed_meanwhile_is_made_anew() -> None:
    with serving() as backend:
        sender = HttpSender(backend.url)
        sender.send(_EVENT)
    with serving(backend.server_port) as again:
        sender.send(_EVENT)
        sender.close()

    assert (len(backend.events), len(again.events)) == (1, 1)


def test_user_of_the_url_is_sent_as_basic_authentication() -> None:
    with serving() as backend:
        post(backend.url.replace("http://", "http://user:p%40ss@"))

    assert backend.asked == [("/api/v1/lineage", "Basic dXNlcjpwQHNz")]


def test_line_break_at_the_end_of_a_key_is_not_sent() -> None:
    with serving() as backend:
        post(backend.url, api_key=f"{_SECRET}\n")

    assert backend.asked == [("/api/v1/lineage", f"Bearer {_SECRET}")]


@pytest.mark.parametrize("key", [f"{_SECRET}\nX: y", f"{_SECRET}ü"])
def test_key_that_no_header_can_carry_is_refused_without_its_value(key: str) -> None:
    with pytest.raises(ValueError, match="api key") as raised:
        HttpSender("http://h/", api_key=key)

    assert _SECRET not in str(raised.value)


def test_header_that_cannot_be_sent_is_told_without_its_value() -> None:
    with serving() as backend, pytest.raises(BackendUnavailableError) as raised:
        post(backend.url, headers={"X-Key": f"{_SECRET}\n"})

    assert str(raised.value) == "no usable answer (ValueError)"


def test_query_of_the_url_is_kept_and_headers_are_added() -> None:
    with serving() as backend:
        post(f"{backend.url}?tenant=1", headers={"Authorization": "Token x"})

    assert backend.asked == [("/api/v1/lineage?tenant=1", "Token x")]


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_backend_that_does_not_answer_is_left_in_time(fault: str) -> None:
    with serving() as backend:
        backend.delay, backend.drip = (60.0, None) if fault == "hang" else (0.0, 0.05)
        started = time.monotonic()
        with pytest.raises(BackendUnavailableError, match=r"^no answer within 0\.3 s$"):
            post(backend.url, timeout=0.3)

    assert time.monotonic() - started < 1


def test_acknowledgement_counts_though_its_body_never_ends() -> None:
    with _saying(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\nx") as url:
        post(url, timeout=0.3)


def test_long_answer_is_not_read_to_its_end() -> None:
    with _saying(b"HTTP/1.1 500 X\r\nContent-Length: 500000\r\n\r\n" + b"y" * 500_000) as url:
        with pytest.raises(BackendUnavailableError) as raised:
            post(url)
        assert str(raised.value) == "HTTP 500: " + "y" * 300


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "it closed the connection without an answer"),
        (b"SSH-2.0-OpenSSH\r\n", "no usable answer (BadStatusLine)"),
        (b"HTTP/1.1 201 Created\r\n" + b"x: y\r\n" * 200, "no usable answer (HTTPException)"),
    ],
)
def test_answer_that_is_no_http_is_another_time(answer: bytes, reason: str) -> None:
    with _saying(answer) as url, pytest.raises(BackendUnavailableError) as raised:
        post(url)

    assert str(raised.value) == reason


def test_refused_connection_and_unknown_name_say_so() -> None:
    with pytest.raises(BackendUnavailableError, match=r"^connection refused$"):
        post(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(BackendUnavailableError, match=r"^its name is not resolved$"):
        post("http://no-such-host.invalid/", timeout=5)


@pytest.mark.parametrize(
    "url",
    ["", "marquez", "marquez:5000", "ftp://h/", "http://", "http:///x", "http://h/a b", "http://h:x/", "http://ü/"],
)
def test_url_that_cannot_be_one_is_refused_without_its_value(url: str) -> None:
    with pytest.raises(ValueError, match=r"^(is no http|has letters|Port could not)") as raised:
        HttpSender(url.replace("//", f"//{_SECRET}@"))

    assert _SECRET not in str(raised.value)
    assert shown_url(url) == "the configured URL"


def test_sender_shows_no_credential() -> None:
    sender = HttpSender(f"https://user:{_SECRET}@h/x?token={_SECRET}#{_SECRET}", api_key=_SECRET)

    assert repr(sender) == "HttpSender('https://h/x')"


# --- proxies --------------------------------------------------------------------------------------------------------


def test_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.server_port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        post("http://marquez.invalid:5000/api/v1/lineage")

    assert proxy.asked == [("http://marquez.invalid:5000/api/v1/lineage", None)]


def test_no_proxy_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as backend:
        post(backend.url)

    assert len(backend.events) == 1


def test_tls_goes_through_a_proxy_in_a_tunnel(monkeypatch: pytest.MonkeyPatch, certificate: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with _tls_backend(certificate) as backend, _tunnel() as (port, tunnelled):
        monkeypatch.setenv("https_proxy", f"http://user:{_SECRET}@127.0.0.1:{port}")
        post(backend.url.replace("http:", "https:"))

    assert backend.names == ["a"]
    assert tunnelled == [(f"127.0.0.1:{backend.server_port}", "Basic dXNlcjpodW50ZXIyLWRvLW5vdC1wcmludA==")]


# --- TLS ------------------------------------------------------------------------------------------------------------


def test_certificate_that_nobody_vouches_for_is_not_trusted(certificate: Path) -> None:
    with _tls_backend(certificate) as backend, pytest.raises(BackendUnavailableError) as raised:
        post(backend.url.replace("http:", "https:"), api_key=_SECRET)

    assert str(raised.value).startswith("its TLS certificate is not trusted: ")
    assert backend.asked == []


def test_certificate_that_the_environment_vouches_for_is_trusted(
    monkeypatch: pytest.MonkeyPatch, certificate: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with _tls_backend(certificate) as backend:
        post(backend.url.replace("http:", "https:"), api_key=_SECRET)

    assert backend.asked == [("/api/v1/lineage", f"Bearer {_SECRET}")]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate and key for 127.0.0.1, in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(tz=dt.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


@contextmanager
def _tls_backend(certificate: Path) -> Iterator[LineageServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serving() as backend:
        backend.socket = context.wrap_socket(backend.socket, server_side=True)
        yield backend


@contextmanager
def _saying(answer: bytes) -> Iterator[str]:
    """Answer one connection with these bytes, and leave it open unless there are none."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        done = threading.Event()

        def answer_one() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)
                if answer:
                    done.wait(5)

        thread = threading.Thread(target=answer_one)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        done.set()
        thread.join()


@contextmanager
def _tunnel() -> Iterator[tuple[int, list[tuple[str, str | None]]]]:
    """Serve CONNECT as a proxy does; yields its port and what it was asked."""
    asked: list[tuple[str, str | None]] = []

    class Tunnel(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            asked.append((self.path, self.headers["Proxy-Authorization"]))
            host, _, port = self.path.partition(":")
            with socket.create_connection((host, int(port))) as far:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=_copy, args=(far, self.connection))
                back.start()
                _copy(self.connection, far)
                back.join()
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Tunnel)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port, asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while content := source.recv(65536):
            target.sendall(content)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


def test_event_is_posted_as_it_is() -> None:
    with serving() as backend:
        post(backend.url)

    assert backend.events == [json.loads(_EVENT)]
