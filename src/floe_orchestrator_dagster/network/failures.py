"""Causes of failed HTTP requests, and whether the server or a proxy is at fault."""

from __future__ import annotations

import socket
import ssl
from enum import Enum, auto
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator

    from floe_orchestrator_dagster.network.proxies import Proxy


class Cause(Enum):
    """Reasons for a missing or invalid response."""

    TIMEOUT = auto()
    REFUSED = auto()
    UNKNOWN_HOST = auto()
    UNTRUSTED = auto()
    TLS = auto()
    CERTIFICATE_FILE = auto()
    CLOSED = auto()
    NOT_HTTP = auto()
    UNREACHABLE = auto()
    NO_URL = auto()
    PROXY = auto()
    PROXY_SETTING = auto()


class NoAnswerError(Exception):
    """A request got no valid HTTP response. The message contains no credentials.

    Attributes:
        cause: The cause; ``PROXY`` and ``PROXY_SETTING`` when the proxy is at fault.
        what: The problem, such as ``connection refused``.
        fix: The fix; empty when it depends on the server.
    """

    def __init__(self, cause: Cause, what: str, fix: str = "") -> None:
        super().__init__(f"{what}. {fix}" if fix else what)
        self.cause = cause
        self.what = what
        self.fix = fix


def timed_out(seconds: float, proxy: Proxy | None, *, at_proxy: bool) -> NoAnswerError:
    """Return the error of a request that exceeded its timeout."""
    what = f"no answer within {seconds:g} s"
    if proxy is None:
        return NoAnswerError(Cause.TIMEOUT, what)
    if at_proxy:
        return NoAnswerError(Cause.PROXY, f"{proxy}: {what}", proxy.fix)
    return NoAnswerError(Cause.TIMEOUT, f"{what} through {proxy}")


def explained(error: Exception, proxy: Proxy | None, *, at_proxy: bool) -> NoAnswerError:
    """Return the error that explains why a request failed.

    Args:
        error: The exception from httpx.
        proxy: The proxy of the request; None for a direct connection.
        at_proxy: Whether it failed before the proxy connected to the server.
    """
    if proxy is not None and isinstance(error, httpx.ProxyError):
        return proxy_refuses(proxy, str(error)[:3])
    described = (_described(cause) for cause in _causes(error))
    cause, what = next(filter(None, described), (Cause.UNREACHABLE, f"no usable answer ({type(error).__name__})"))
    if proxy is not None and at_proxy:
        return NoAnswerError(Cause.PROXY, f"{proxy}: {what}", proxy.fix)
    return NoAnswerError(cause, what)


def proxy_refuses(proxy: Proxy, status: str) -> NoAnswerError:
    """Return the error of a proxy that refuses a request, with its HTTP status if there is one."""
    if status == "407":
        fix = f"Put user and password into {proxy.variable}, as in http://user:password@proxy:3128."
        return NoAnswerError(Cause.PROXY, f"{proxy} asks for a login (HTTP 407)", fix)
    shown = f" (HTTP {status})" if status.isdecimal() else ""
    return NoAnswerError(Cause.PROXY, f"{proxy} refuses to connect to it{shown}", proxy.fix)


def _described(cause: BaseException) -> tuple[Cause, str] | None:
    found: tuple[Cause, str] | None = None
    if isinstance(cause, ssl.SSLCertVerificationError):
        found = Cause.UNTRUSTED, f"its TLS certificate is not trusted: {cause.verify_message}"
    elif isinstance(cause, ssl.SSLError):
        found = Cause.TLS, f"TLS fails ({(cause.reason or 'no reason given').replace('_', ' ').lower()})"
    elif isinstance(cause, (socket.gaierror, UnicodeError)):
        found = Cause.UNKNOWN_HOST, "its name cannot be resolved"
    elif isinstance(cause, ConnectionRefusedError):
        found = Cause.REFUSED, "connection refused"
    elif isinstance(cause, (ConnectionResetError, BrokenPipeError)):
        found = Cause.CLOSED, "it closed the connection without an answer"
    elif isinstance(cause, (httpx.UnsupportedProtocol, httpx.InvalidURL)):
        found = Cause.NO_URL, "it is not an http:// or https:// URL"
    elif isinstance(cause, httpx.RemoteProtocolError):
        # The error has h11's parser as a cause, unless the connection was closed.
        is_parsed = any(type(behind).__module__.startswith("h11") for behind in _causes(cause))
        found = (
            (Cause.NOT_HTTP, "it does not answer with HTTP")
            if is_parsed
            else (Cause.CLOSED, "it closed the connection without an answer")
        )
    elif isinstance(cause, OSError) and cause.strerror:
        found = Cause.UNREACHABLE, f"not reachable ({cause.strerror.lower()})"
    return found


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__
