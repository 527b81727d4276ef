"""Events by HTTP(S): one kept connection, one POST each, bounded in wall-clock time whatever the server does.

Written on http.client because openlineage's HTTP transport bounds single reads only (a server that drips holds it for
ever) and takes ten times the CPU per event, in a process whose run it must not slow.
"""

from __future__ import annotations

import base64
import http.client
import io
import socket
import ssl
import time
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from floe_orchestrator_dagster.lineage.sender import BackendUnavailableError, check_answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _typeshed import WriteableBuffer

_LONGEST_ANSWER = 64 * 1024
_SERVER_HAD_LEFT = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)


class HttpSender:
    """Posts events to one complete URL."""

    def __init__(
        self, url: str, *, api_key: str | None = None, headers: Mapping[str, str] | None = None, timeout: float = 2
    ) -> None:
        """Prepare to send; nothing connects yet.

        Args:
            url: Complete URL of the endpoint, ``http`` or ``https``; a user in it is sent as basic authentication.
            api_key: Sent as a bearer token; never shown.
            headers: Further headers of each request.
            timeout: Seconds that one event may take, connecting included.

        Raises:
            ValueError: No HTTP URL, or a key that cannot be sent; the message repeats neither.
        """
        self._url = http_url(url)
        self._timeout = timeout
        api_key = (api_key or "").strip()  # a secret read from a file ends with a line break
        if not (api_key.isascii() and api_key.isprintable()):
            raise ValueError("the api key has letters that a header must not have")
        self._secrets = [secret for secret in (api_key, self._url.password) if secret]
        self._headers = {"Content-Type": "application/json", **_authorization(self._url, api_key), **(headers or {})}
        self._connection: http.client.HTTPConnection | None = None
        self._proxied_without_tunnel = False
        self._deadline = _Deadline()

    def __repr__(self) -> str:
        """Show the address, never a credential."""
        return f"{type(self).__name__}({shown_url(self._url.geturl())!r})"

    def send(self, line: bytes) -> None:
        """Post one event; see :class:`~floe_orchestrator_dagster.lineage.sender.Sender`."""
        self._deadline.set(self._timeout)
        kept = self._connection is not None
        try:
            response = self._post(line)
        except BackendUnavailableError as error:
            # A kept connection may have been closed meanwhile, which says nothing about the server.
            if not (kept and error.server_error):
                raise
            response = self._post(line)
        check_answer(response.status, response.getheader("Retry-After"), self._detail(response))

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _post(self, line: bytes) -> http.client.HTTPResponse:
        try:
            connection = self._connection or self._connect()
            connection.request("POST", self._target(), line, self._headers)
            return connection.getresponse()
        # The text of a ValueError may repeat a header.
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            had_left = isinstance(error, _SERVER_HAD_LEFT)
            raise BackendUnavailableError(_reason(error, self._timeout), server_error=had_left) from None

    def _target(self) -> str:
        target = f"{self._url.path or '/'}{f'?{self._url.query}' if self._url.query else ''}"
        host = self._url.netloc.rpartition("@")[2]
        return f"{self._url.scheme}://{host}{target}" if self._proxied_without_tunnel else target

    def _connect(self) -> http.client.HTTPConnection:
        proxy = _proxy_for(self._url)
        self._proxied_without_tunnel = proxy is not None and self._url.scheme == "http"
        near = proxy or self._url
        host, port = near.hostname or "", near.port
        seconds = self._deadline.remaining()
        connection: http.client.HTTPConnection
        if self._url.scheme == "https":
            connection = http.client.HTTPSConnection(host, port or 443, timeout=seconds, context=_tls())
            if proxy is not None:
                connection.set_tunnel(self._url.hostname or "", self._url.port or 443, _proxy_authorization(proxy))
        else:
            connection = http.client.HTTPConnection(host, port or 80, timeout=seconds)
            if proxy is not None:
                self._headers |= _proxy_authorization(proxy)
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        # What a connection asks of its socket afterwards is just this much.
        connection.sock = _BoundedSocket(connection.sock, self._deadline)
        self._connection = connection
        return connection

    def _detail(self, response: http.client.HTTPResponse) -> str:
        """Read what the server says; its status has arrived, so a body that does not end changes nothing."""
        try:
            body = response.read(_LONGEST_ANSWER)
            complete = response.isclosed() or not response.read(1)
        except (OSError, http.client.HTTPException):
            body, complete = b"", False
        if not complete or response.will_close:
            self.close()
        text = body.decode("utf-8", errors="replace")
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


class _Deadline:
    """The instant by which one request has to be over."""

    def __init__(self) -> None:
        self._instant = 0.0

    def set(self, seconds: float) -> None:
        self._instant = time.monotonic() + seconds

    def remaining(self) -> float:
        left = self._instant - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class _BoundedSocket:
    """A connected socket whose every operation ends by the deadline, however little each one brings."""

    def __init__(self, sock: socket.socket, deadline: _Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(self._deadline.remaining())
        self._sock.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_BoundedReader(self._sock, self._deadline))

    def close(self) -> None:
        self._sock.close()


class _BoundedReader(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: _Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        self._sock.settimeout(self._deadline.remaining())
        return self._sock.recv_into(buffer)


def http_url(url: str) -> SplitResult:
    """Split an HTTP URL.

    Raises:
        ValueError: It is none; the message does not repeat it, there may be a password in it.
    """
    parsed = urlsplit(url.strip())
    if parsed.scheme not in {"http", "https"} or not parsed.hostname:
        raise ValueError("is no http:// or https:// URL with a host")
    if not parsed.netloc.isascii() or any(ord(letter) <= ord(" ") for letter in f"{parsed.path}{parsed.query}"):
        raise ValueError("has letters that a URL must not have")
    _ = parsed.port  # raises for a port that is no number
    return parsed


def shown_url(url: str) -> str:
    """Show a URL without its user, query and fragment: any of them may hold a secret."""
    try:
        parsed = http_url(url)
    except ValueError:
        return "the configured URL"
    return f"{parsed.scheme}://{parsed.netloc.rpartition('@')[2]}{parsed.path}"


def _authorization(url: SplitResult, api_key: str | None) -> dict[str, str]:
    if api_key:
        return {"Authorization": f"Bearer {api_key}"}
    return {"Authorization": _basic(url)} if url.username else {}


def _proxy_authorization(proxy: SplitResult) -> dict[str, str]:
    return {"Proxy-Authorization": _basic(proxy)} if proxy.username else {}


def _basic(url: SplitResult) -> str:
    user = f"{unquote(url.username or '')}:{unquote(url.password or '')}"
    return f"Basic {base64.b64encode(user.encode()).decode('ascii')}"


def _proxy_for(url: SplitResult) -> SplitResult | None:
    """Find the proxy of the environment (``HTTPS_PROXY``, ``NO_PROXY``, …)."""
    named = getproxies().get(url.scheme)
    if not named or proxy_bypass(url.netloc.rpartition("@")[2]):
        return None
    return http_url(named if "://" in named else f"http://{named}")


def _tls() -> ssl.SSLContext:
    import httpx

    # certifi's authorities, or those of SSL_CERT_FILE and SSL_CERT_DIR; always verified.
    return httpx.create_ssl_context()


def _reason(error: Exception, timeout: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, socket.gaierror):
        return "its name is not resolved"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its TLS certificate is not trusted: {error.verify_message}"
    if isinstance(error, _SERVER_HAD_LEFT):
        return "it closed the connection without an answer"
    return f"no usable answer ({type(error).__name__})"
