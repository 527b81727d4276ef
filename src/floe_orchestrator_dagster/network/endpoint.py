"""One HTTP(S) URL that content is posted to, over one kept connection, bounded in wall-clock time."""

from __future__ import annotations

import queue
import ssl
import threading
import time
from base64 import b64encode
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

# httpx imports it with its first request, whose time is limited.
import httpcore  # noqa: F401
import httpx

from floe_orchestrator_dagster.network.failures import Cause, NoAnswerError, explained, proxy_refuses, timed_out
from floe_orchestrator_dagster.network.proxies import Proxy, proxy_for
from floe_orchestrator_dagster.network.urls import UnusableSettingError, http_url

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ONE_CONNECTION = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=None)
_CONNECTS = ".connect_tcp.started"
# The steps of httpcore's (`trace` extension) after which a proxy has done its part.
_TUNNELLED = ("proxy.start_tls.started", "socks.setup_socks5_connection.complete")
_SENDS = "http11.send_request_headers.started"


@dataclass
class Answer:
    """An HTTP answer.

    Attributes:
        status: Its status.
        headers: Its headers.
        body: What was read of its body.
        complete: Whether that is all of it.
        is_late: Whether the rest did not come in time.
    """

    status: int
    headers: httpx.Headers
    body: bytes = b""
    complete: bool = False
    is_late: bool = False


class Endpoint:
    """Posts to one URL, by one thread at a time. Redirects are answers, not followed."""

    def __init__(self, url: str, headers: Mapping[str, str], *, longest_answer: int) -> None:
        """Prepare to post; nothing connects yet.

        Args:
            url: Complete URL; a user in it is sent as basic authentication, unless ``headers`` have another login.
            headers: Headers of each request.
            longest_answer: Bytes after which a body is not read any further.

        Raises:
            UnusableSettingError: The URL cannot be read; the message does not repeat it.
        """
        http_url(url)
        try:
            self._url = httpx.URL(url.strip())
            _ = self._url.host  # decoded when it is read, which can fail
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
        """Whether an earlier request left a connection that the next one uses."""
        return self._connected

    def joined(self, reference: str) -> str:
        """Return the URL that a redirect points to; empty when it cannot be read."""
        try:
            return str(self._url.join(reference))
        except (httpx.InvalidURL, UnicodeError):
            return ""

    def post(self, content: bytes, seconds: float) -> Answer:
        """Post content; an answer whose body does not end in time is returned as far as it came.

        Args:
            content: The body.
            seconds: Wall-clock seconds for all of it: name resolution, proxy, TLS, request and answer.

        Raises:
            NoAnswerError: There is no answer.
        """
        request = httpx.Request("POST", self._url, headers=self._headers, content=content)
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
    """One request, in a thread that may be left behind.

    Attributes:
        transport: What it is sent with.
        longest_answer: Bytes after which the body is not read any further.
        deadline: The instant (``time.monotonic``) after which it is not read any further either.
        events_past_proxy: Steps of httpcore's that come once a proxy has done its part.
        is_past_proxy: Whether one of them has come.
        answer: The answer, from the moment that its headers are there.
        abandoned: Whether nobody waits any more.
    """

    transport: httpx.HTTPTransport
    longest_answer: int
    deadline: float
    events_past_proxy: tuple[str, ...]
    is_past_proxy: bool
    answer: Answer | None = None
    abandoned: bool = False

    def ask(self, request: httpx.Request) -> Answer:
        """Send the request, and read its answer."""
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
        """Follow the steps of the request; end one that nobody waits for before it is sent."""
        if event.endswith(_CONNECTS):
            self.is_past_proxy = False
        elif event in self.events_past_proxy:
            self.is_past_proxy = True
        if event == _SENDS and self.abandoned:
            raise TimeoutError


def basic_login(url: httpx.URL) -> str:
    """Make the value of the header that sends the user of a URL."""
    return f"Basic {b64encode(f'{url.username}:{url.password}'.encode()).decode('ascii')}"


def _tls() -> ssl.SSLContext:
    try:
        # certifi's authorities, or those of SSL_CERT_FILE and SSL_CERT_DIR; always verified.
        return httpx.create_ssl_context()
    except OSError:
        what = "the certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read"
        raise NoAnswerError(Cause.CERTIFICATE_FILE, what, "Correct the variable, or unset it.") from None


def _answer_within(seconds: float, ask: Callable[[], Answer]) -> Answer:
    """Return what ``ask`` returns, or raise what it raises.

    It runs in a thread: Python cannot interrupt, for example, the resolution of a name.

    Raises:
        TimeoutError: It takes longer than ``seconds``. The thread goes on, and does not keep the process alive.
    """
    answers: queue.SimpleQueue[Answer | BaseException] = queue.SimpleQueue()

    def answer() -> None:
        try:
            answers.put(ask())
        except BaseException as error:  # noqa: BLE001  # it is raised again, in the thread that waits
            answers.put(error)

    threading.Thread(target=answer, name=f"{__name__}: {seconds:g} s", daemon=True).start()
    try:
        answered = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"not done after {seconds:g} s") from None
    if isinstance(answered, BaseException):
        raise answered
    return answered
