"""HTTP delivery: acknowledgements, TLS, proxies and wall-clock timeouts."""

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
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.lineage.delivery.http_sender import HttpSender
from floe_orchestrator_dagster.lineage.delivery.sender import BackendUnavailableError, EventRefusedError
from floe_orchestrator_dagster.network.urls import shown_url
from hostile import serving_bytes
from lineage_backend import LineageServer, free_port, serving
from proxy import proxying

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_EVENT = b'{"job": {"name": "a"}}'
_SECRET = "hunter2-do-not-print"  # noqa: S105  # the value that nothing may show


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def post(url: str, timeout: float = 30, **settings: object) -> None:
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
def test_other_statuses_are_retried(status: int) -> None:
    with serving() as backend:
        backend.answer = lambda _event: (status, {"Location": "/login"})
        with pytest.raises(BackendUnavailableError, match=f"^HTTP {status}: ") as raised:
            post(backend.url)

    assert raised.value.server_error == (status >= 500)
    assert raised.value.retry_after is None
    assert len(backend.asked) == 1


@pytest.mark.parametrize("value", ["7", " 7 "])
def test_retry_after_is_parsed_as_seconds(value: str) -> None:
    with serving() as backend:
        backend.answer = lambda _event: (429, {"Retry-After": value})
        with pytest.raises(BackendUnavailableError) as raised:
            post(backend.url)

    assert raised.value.retry_after == 7


@pytest.mark.parametrize(("ahead", "least", "most"), [(60, 50, 60), (-60, 0, 0)])
def test_retry_after_is_parsed_as_a_date(ahead: float, least: float, most: float) -> None:
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
def test_retry_after_of_years_is_an_hour(value: str) -> None:
    with serving() as backend:
        backend.answer = lambda _event: (503, {"Retry-After": value})
        with pytest.raises(BackendUnavailableError) as raised:
            post(backend.url)

    assert raised.value.retry_after == 3600


@pytest.mark.parametrize(
    "value",
    ["soon", "", "-5", "1e3", "\xb2", "inf", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "Mon, 32 Jan 2026"],
)
def test_invalid_retry_after_is_ignored(value: str) -> None:
    with serving() as backend:
        backend.answer = lambda _event: (503, {"Retry-After": value})
        with pytest.raises(BackendUnavailableError) as raised:
            post(backend.url)

    assert raised.value.retry_after is None


def test_message_of_the_backend_is_shown_short_and_without_credentials() -> None:
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
        sender.send(_EVENT)
        sender.close()

    assert (len(backend.events), backend.connections) == (2, 1)


def test_idle_connection_that_the_backend_has_closed_is_reopened() -> None:
    with serving() as backend:
        sender = HttpSender(backend.url)
        sender.send(_EVENT)
    with serving(backend.server_port) as again:
        sender.send(_EVENT)
        sender.close()

    assert (len(backend.events), len(again.events)) == (1, 1)


def test_login_of_the_url_is_sent_as_basic_authentication() -> None:
    with serving() as backend:
        post(backend.url.replace("http://", "http://user:p%40ss@"))

    assert backend.asked == [("/api/v1/lineage", "Basic dXNlcjpwQHNz")]


def test_line_break_at_the_end_of_a_key_is_not_sent() -> None:
    with serving() as backend:
        post(backend.url, api_key=f"{_SECRET}\n")

    assert backend.asked == [("/api/v1/lineage", f"Bearer {_SECRET}")]


def test_line_break_at_the_end_of_a_header_is_not_sent() -> None:
    with serving() as backend:
        post(backend.url, headers={"Authorization": f"Token {_SECRET}\n"})

    assert backend.asked == [("/api/v1/lineage", f"Token {_SECRET}")]


@pytest.mark.parametrize("key", [f"{_SECRET}\nX: y", f"{_SECRET}ü"])
def test_key_that_is_not_valid_in_a_header_is_refused_without_its_value(key: str) -> None:
    with pytest.raises(ValueError, match="api key") as raised:
        HttpSender("http://h/", api_key=key)

    assert _SECRET not in str(raised.value)


@pytest.mark.parametrize("value", [f"{_SECRET}\nX: y", f"{_SECRET}ü"])
def test_invalid_header_is_refused_without_its_value(value: str) -> None:
    with pytest.raises(ValueError, match=r"^the header X-Key contains characters that are not valid in a header$"):
        HttpSender("http://h/", headers={"X-Key": value})


def test_query_of_the_url_is_kept_and_headers_are_added() -> None:
    with serving() as backend:
        post(f"{backend.url}?tenant=1", headers={"Authorization": "Token x"})

    assert backend.asked == [("/api/v1/lineage?tenant=1", "Token x")]


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_backend_that_does_not_respond_times_out(fault: str) -> None:
    with serving() as backend:
        backend.delay, backend.drip = (60.0, None) if fault == "hang" else (0.0, 0.05)
        started = time.monotonic()
        with pytest.raises(BackendUnavailableError, match=r"^no answer within 0\.3 s$"):
            post(backend.url, timeout=0.3)

    assert time.monotonic() - started < 10  # 0.3 seconds where nothing else runs


def test_acknowledgement_with_an_endless_body_counts() -> None:
    with _saying(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\nx") as url:
        post(url, timeout=3)


def test_long_response_is_not_read_to_its_end() -> None:
    with _saying(b"HTTP/1.1 500 X\r\nContent-Length: 500000\r\n\r\n" + b"y" * 500_000) as url:
        with pytest.raises(BackendUnavailableError) as raised:
            post(url)
        assert str(raised.value) == "HTTP 500: " + "y" * 300


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "it closed the connection without an answer"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "it does not answer with HTTP"),
        (b"HTTP/1.1 201 Created\r\n" + b"x: y\r\n" * 20_000, "it does not answer with HTTP"),
    ],
)
def test_response_that_is_not_http_is_retried(answer: bytes, reason: str) -> None:
    with _saying(answer) as url, pytest.raises(BackendUnavailableError) as raised:
        post(url)

    assert str(raised.value) == reason


def test_refused_connection_and_unknown_name_say_so() -> None:
    with pytest.raises(BackendUnavailableError, match=r"^connection refused$"):
        post(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(BackendUnavailableError, match=r"^its name cannot be resolved$"):
        post("http://no-such-host.invalid/", timeout=30)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "marquez",
        "marquez:5000",
        "ftp://h/",
        "http://",
        "http:///x",
        "http://h/a b",
        "http://h:x/",
        "http://[::1",
        "http://a\x00b/",
    ],
)
def test_invalid_url_is_refused_without_its_value(url: str) -> None:
    with pytest.raises(ValueError, match=r"^the URL (is not an http|contains characters|cannot be read)") as raised:
        HttpSender(url.replace("//", f"//{_SECRET}@"))

    assert _SECRET not in str(raised.value)
    assert shown_url(url) == "the configured URL"


def test_sender_shows_no_credential() -> None:
    sender = HttpSender(f"https://user:{_SECRET}@h/x?token={_SECRET}#{_SECRET}", api_key=_SECRET)

    assert repr(sender) == "HttpSender('https://h/x')"


# --- proxies --------------------------------------------------------------------------------------------------------


def test_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.server_port}\n")
        post("http://marquez.invalid:5000/api/v1/lineage")

    assert proxy.asked == [("http://marquez.invalid:5000/api/v1/lineage", None)]


def test_proxy_is_never_used_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with serving() as backend:
        post(backend.url)
        post(backend.url.replace("127.0.0.1", "localhost"))

    assert len(backend.events) == 2


def test_tls_goes_through_a_proxy_in_a_tunnel(monkeypatch: pytest.MonkeyPatch, certificate: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with _tls_backend(certificate) as backend, proxying(backend.server_port) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("//", f"//user:{_SECRET}@"))
        sender = HttpSender("https://marquez.test/api", timeout=20)
        sender.send(_EVENT)
        sender.send(_EVENT)
        sender.close()

    assert backend.names == ["a", "a"]
    assert proxy.asked == [("marquez.test:443", "Basic dXNlcjpodW50ZXIyLWRvLW5vdC1wcmludA==")]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_dead_proxy_is_at_fault_not_the_backend(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    proxy = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("ALL_PROXY", proxy.replace("//", f"//user:{_SECRET}@"))

    with pytest.raises(BackendUnavailableError) as raised:
        post(f"{scheme}://marquez.test/", timeout=20)

    fix = "Correct ALL_PROXY, or name the host in NO_PROXY."
    assert str(raised.value) == f"the proxy {proxy} (ALL_PROXY): connection refused. {fix}"
    assert not raised.value.server_error


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy_that_requires_a_login_is_at_fault(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    with proxying(free_port(), status=407) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", proxy.url)
        with pytest.raises(BackendUnavailableError) as raised:
            post(f"{scheme}://marquez.test/", timeout=20)

    variable = f"{scheme.upper()}_PROXY"
    fix = f"Put user and password into {variable}, as in http://user:password@proxy:3128."
    assert str(raised.value) == f"the proxy {proxy.url} ({variable}) asks for a login (HTTP 407). {fix}"


def test_proxy_that_refuses_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with proxying(free_port(), status=503) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with pytest.raises(BackendUnavailableError) as raised:
            post("https://marquez.test/", timeout=20)

    fix = "Correct HTTPS_PROXY, or name the host in NO_PROXY."
    assert str(raised.value) == f"the proxy {proxy.url} (HTTPS_PROXY) refuses to connect to it (HTTP 503). {fix}"
    assert not raised.value.server_error


def test_proxy_that_does_not_respond_to_connect_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with proxying(free_port(), pause=60) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        started = time.monotonic()
        with pytest.raises(BackendUnavailableError) as raised:
            post("https://marquez.test/", timeout=0.5)
        elapsed = time.monotonic() - started

    fix = "Correct HTTPS_PROXY, or name the host in NO_PROXY."
    assert str(raised.value) == f"the proxy {proxy.url} (HTTPS_PROXY): no answer within 0.5 s. {fix}"
    assert elapsed < 5


def test_backend_that_does_not_respond_behind_a_proxy_is_at_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, proxying(silent.getsockname()[1]) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with pytest.raises(BackendUnavailableError) as raised:
            post("https://marquez.test/", timeout=5)

    assert str(raised.value) == f"no answer within 5 s through the proxy {proxy.url} (HTTPS_PROXY)"


@pytest.mark.skipif(find_spec("socksio") is not None, reason="SOCKS proxies work here")
def test_socks_proxy_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", f"socks5://user:{_SECRET}@proxy.test:1080")

    with pytest.raises(BackendUnavailableError) as raised:
        post("http://marquez.test/")

    what = "ALL_PROXY names a SOCKS proxy, and the package socksio is not installed"
    assert str(raised.value) == f"{what}. Run `pip install 'httpx[socks]'`, or name the host in NO_PROXY."


# --- too slow -------------------------------------------------------------------------------------------------------


def _left_in_time(url: str) -> None:
    started = time.monotonic()
    with pytest.raises(BackendUnavailableError, match=r"^no answer within 0\.5 s$"):
        post(url, timeout=0.5)
    # Much less than the server would take, much more than a busy machine needs.
    assert time.monotonic() - started < 5


def test_name_resolution_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    # The resolver of the system knows no timeout; a slow one is all that is played here.
    ended = threading.Event()

    def resolve(*_arguments: object, **_options: object) -> None:
        ended.wait(30)
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    try:
        _left_in_time("http://marquez.test/")
    finally:
        ended.set()


def test_tls_handshake_that_never_starts_is_bounded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        _left_in_time(f"https://127.0.0.1:{silent.getsockname()[1]}/")


def test_slow_tls_handshake_is_bounded() -> None:
    # A TLS record of 16 KiB is announced, and comes byte by byte.
    with serving_bytes(b"\x16\x03\x03\x40\x00" + b"\x00" * 200, drip=0.1, waits=False) as server:
        _left_in_time(server.url.replace("http://", "https://"))


def test_slow_headers_are_bounded() -> None:
    with serving_bytes(b"HTTP/1.1 201 Created\r\n" + b"X-Slow: 1\r\n" * 100, drip=0.05) as server:
        _left_in_time(server.url)


# --- TLS ------------------------------------------------------------------------------------------------------------


def test_certificate_of_an_unknown_authority_is_not_trusted(certificate: Path) -> None:
    with _tls_backend(certificate) as backend, pytest.raises(BackendUnavailableError) as raised:
        post(backend.url.replace("http:", "https:"), api_key=_SECRET)

    assert str(raised.value).startswith("its TLS certificate is not trusted: ")
    assert backend.asked == []


def test_certificate_of_an_authority_in_the_environment_is_trusted(
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
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("marquez.test")]
    now = dt.datetime.now(tz=dt.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
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


def test_event_is_posted_unchanged() -> None:
    with serving() as backend:
        post(backend.url)

    assert backend.events == [json.loads(_EVENT)]
