"""Requests to one HTTP(S) URL over a persistent connection, with wall-clock timeouts."""

from __future__ import annotations

import queue
import ssl
import threading
import time
from base64 import b64encode
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpcore  # noqa: F401  # httpx would import it during the first request, within its timeout
import httpx

from floe_orchestrator_dagster.network.failures import Cause, NoAnswerError, explained, proxy_refuses, timed_out
from floe_orchestrator_dagster.network.proxies import Proxy, proxy_for
from floe_orchestrator_dagster.network.urls import UnusableSettingError, http_url

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


_ONE_CONNECTION = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=None)
_CONNECTS = ".connect_tcp.started"
# Events of httpcore's `trace` extension after which a proxy has established the tunnel.
_TUNNELLED = ("proxy.start_tls.started", "socks.setup_socks5_connection.complete")
_SENDS = "http11.send_request_headers.started"


@dataclass
class Answer:
    """An HTTP response.

    Attributes:
        status: Its status code.
        headers: Its headers.
        body: The part of the body that was read.
        complete: Whether the whole body was read.
        is_late: Whether reading stopped at the timeout.
    """

    status: int
    headers: httpx.Headers
    body: bytes = b""
    complete: bool = False
    is_late: bool = False


class Endpoint:
    """Sends requests to one URL without following redirects. Not thread-safe."""

    def __init__(self, url: str, headers: Mapping[str, str], *, longest_answer: int) -> None:
        """Prepare requests without connecting.

        Args:
            url: Complete URL. A login in it is sent as basic authentication, unless ``headers`` have another login.
            headers: Headers of each request.
            longest_answer: Maximum number of bytes to read of a response's body.

        Raises:
            UnusableSettingError: The URL is not valid. The message does not repeat it.
        """
        http_url(url)
        try:
            self._url = httpx.URL(url.strip())
            _ = self._url.host  # decoded on access, which can fail
        except (httpx.InvalidURL, UnicodeError):
            raise UnusableSettingError("the URL cannot be read") from None
        self._headers = httpx.Headers({"Authorization": basic_login(self._url)} if self._url.userinfo else {})
        self._headers.update(headers)
        self._longest_answer = longest_answer
        self._transport: httpx.HTTPTransport | None = None
        self._proxy: Proxy | None = None
        self._connected = False

    @property
    def connected(self) -> bool:
        """Whether an open connection of an earlier request exists."""
        return self._connected

    def redirect_target(self, reference: str) -> str:
        """Return the absolute URL of a redirect; empty when it is not valid."""
        try:
            return str(self._url.join(reference))
        except (httpx.InvalidURL, UnicodeError):
            return ""

    def post(self, content: bytes, seconds: float) -> Answer:
        """Post content and return the response, possibly with an incomplete body at the timeout.

        Args:
            content: The body of the request.
            seconds: Wall-clock seconds for name resolution, proxy, TLS, request and response.

        Raises:
            NoAnswerError: The request got no valid response.
        """
        return self._ask(httpx.Request("POST", self._url, headers=self._headers, content=content), seconds)

    def head(self, seconds: float) -> Answer:
        """Request only the headers of a response.

        Args:
            seconds: As in :meth:`post`.

        Raises:
            NoAnswerError: The request got no valid response.
        """
        return self._ask(httpx.Request("HEAD", self._url, headers=self._headers), seconds)

    def _ask(self, request: httpx.Request, seconds: float) -> Answer:
        transport = self._open()
        forwarded = self._proxy is not None and not self._proxy.is_socks and self._url.scheme == "http"
        attempt = _Attempt(
            transport=transport,
            longest_answer=self._longest_answer,
            deadline=time.monotonic() + seconds,
            events_past_proxy=(*_TUNNELLED, _SENDS) if forwarded else _TUNNELLED,
            is_past_proxy=self._connected,
        )
        request.extensions = {"timeout": httpx.Timeout(seconds).as_dict(), "trace": attempt.watch}
        try:
            answer = _answer_within(seconds, lambda: attempt.ask(request))
        except (OSError, httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            attempt.abandoned = True
            self.close()
            if attempt.answer is None:
                raise self._failure(error, seconds, at_proxy=not attempt.is_past_proxy) from None
            answer = attempt.answer
            answer.is_late = isinstance(error, (TimeoutError, httpx.TimeoutException))
        self._connected = answer.complete
        if not answer.complete:
            self.close()
        if self._proxy is not None and answer.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            raise proxy_refuses(self._proxy, str(answer.status))
        return answer

    def _failure(self, error: Exception, seconds: float, *, at_proxy: bool) -> NoAnswerError:
        if isinstance(error, (TimeoutError, httpx.TimeoutException)):
            return timed_out(seconds, self._proxy, at_proxy=at_proxy)
        return explained(error, self._proxy, at_proxy=at_proxy)

    def close(self) -> None:
        """Close the connection; the next request opens another one."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None
        self._connected = False

    def _open(self) -> httpx.HTTPTransport:
        if self._transport is None:
            self._proxy = proxy_for(self._url)
            needs_tls = "https" in (self._url.scheme, self._proxy.url.scheme if self._proxy else "")
            context = _tls() if needs_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._transport = httpx.HTTPTransport(
                verify=context, limits=_ONE_CONNECTION, proxy=self._httpx_proxy(context)
            )
        return self._transport

    def _httpx_proxy(self, context: ssl.SSLContext) -> httpx.Proxy | None:
        if self._proxy is None:
            return None
        is_encrypted = self._proxy.url.scheme == "https"
        return httpx.Proxy(self._proxy.url, ssl_context=context if is_encrypted else None)


@dataclass
class _Attempt:
    """One request, in a thread that can be abandoned.

    Attributes:
        transport: The transport.
        longest_answer: Maximum number of bytes to read of the body.
        deadline: Time (``time.monotonic``) at which reading of the body stops.
        events_past_proxy: httpcore's events that occur after a proxy has established the tunnel.
        is_past_proxy: Whether one of these events has occurred.
        answer: The response, as soon as its headers are read.
        abandoned: Whether the caller has stopped waiting.
    """

    transport: httpx.HTTPTransport
    longest_answer: int
    deadline: float
    events_past_proxy: tuple[str, ...]
    is_past_proxy: bool
    answer: Answer | None = None
    abandoned: bool = False

    def ask(self, request: httpx.Request) -> Answer:
        """Send the request and read the response."""
        response = self.transport.handle_request(request)
        try:
            self.answer = answer = Answer(response.status_code, response.headers)
            for piece in response.iter_raw():
                answer.body += piece
                answer.is_late = time.monotonic() > self.deadline
                if answer.is_late or len(answer.body) > self.longest_answer:
                    return answer
            answer.complete = True
        finally:
            response.close()
        return answer

    def watch(self, event: str, _info: object) -> None:
        """Track the progress of the request; cancel an abandoned one before it is sent."""
        if event.endswith(_CONNECTS):
            self.is_past_proxy = False
        elif event in self.events_past_proxy:
            self.is_past_proxy = True
        if event == _SENDS and self.abandoned:
            raise TimeoutError


def basic_login(url: httpx.URL) -> str:
    """Return the ``Authorization`` header for the login in a URL."""
    return f"Basic {b64encode(f'{url.username}:{url.password}'.encode()).decode('ascii')}"


def _tls() -> ssl.SSLContext:
    try:
        # With certifi's authorities, or those of SSL_CERT_FILE and SSL_CERT_DIR. Verification is always on.
        return httpx.create_ssl_context()
    except OSError:
        what = "the certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read"
        raise NoAnswerError(Cause.CERTIFICATE_FILE, what, "Correct the variable, or unset it.") from None


def _answer_within(seconds: float, ask: Callable[[], Answer]) -> Answer:
    """Return the result of ``ask``, or raise its exception.

    ``ask`` runs in a thread that can be abandoned, because Python cannot interrupt calls such as name resolution.

    Raises:
        TimeoutError: It does not return within ``seconds``. Its daemon thread continues, but does not keep the process
            alive.
    """
    answers: queue.SimpleQueue[Answer | BaseException] = queue.SimpleQueue()

    def answer() -> None:
        try:
            answers.put(ask())
        except BaseException as error:  # noqa: BLE001  # the waiting thread raises it
            answers.put(error)

    threading.Thread(target=answer, name=f"{__name__}: {seconds:g} s", daemon=True).start()
    try:
        answered = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"not done after {seconds:g} s") from None
    if isinstance(answered, BaseException):
        raise answered
    return answered
