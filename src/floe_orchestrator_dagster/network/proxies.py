"""Selection of the proxy for a URL from the environment, and causes of failed HTTP requests: the server or a proxy.

The variables are ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``, in upper or lower case. An entry of
``NO_PROXY`` is a host name (also for its subdomains), an address or a network (``10.0.0.0/8``, ``fd00::/8``), each with
or without a port, or ``*``. Requests to loopback addresses never use a proxy.
"""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass, field
from enum import Enum, auto
from importlib.util import find_spec
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.request import getproxies, proxy_bypass

import httpx

from floe_orchestrator_dagster.redaction import secrets_in_url

if TYPE_CHECKING:
    from collections.abc import Iterator


_SCHEMES = ("http", "https", "socks5", "socks5h")
_PORTS = {"http": 80, "https": 443}
_PORT = re.compile(r"(?P<host>\[.*\]|[^:]*):(?P<port>\d+)")
# Names in /etc/hosts of Debian and Fedora.
_LOOPBACK_NAMES = frozenset(
    {"localhost", "localhost.localdomain", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"}
)
_LEGACY_ADDRESS = re.compile(r"[0-9a-fx.]+")  # such as 127.1 and 0x7f000001


@dataclass(frozen=True)
class Proxy:
    """A proxy of the environment.

    Attributes:
        url: Its address; may contain a password.
        variable: The environment variable with its address.
        shown: Scheme, host and port, for messages.
    """

    url: httpx.URL = field(repr=False)
    variable: str
    shown: str

    @property
    def is_socks(self) -> bool:
        """Whether its protocol is SOCKS instead of HTTP."""
        return self.url.scheme.startswith("socks")

    @property
    def fix(self) -> str:
        """The fix for a failure of the proxy."""
        return f"Correct {self.variable}, or name the host in NO_PROXY."

    def __str__(self) -> str:
        """Return its address without credentials, and its variable."""
        return f"the proxy {self.shown} ({self.variable})"


def proxy_for(url: httpx.URL) -> Proxy | None:
    """Return the proxy for requests to a URL; None for a direct connection.

    Raises:
        NoAnswerError: The address of the proxy in the environment is not valid.
    """
    named = getproxies()
    kind = next((kind for kind in (url.scheme, "all") if named.get(kind, "").strip()), None)
    if kind is None or _is_direct(url, named.get("no", "")):
        return None
    return _proxy(named[kind].strip(), f"{kind.upper()}_PROXY")


def secrets_of_proxies() -> Iterator[str]:
    """Yield the credentials of proxies in the environment, which a proxy may repeat in its response."""
    for kind, text in getproxies().items():
        if kind != "no":
            yield from secrets_in_url(text if "://" in text else f"http://{text}")


def _proxy(text: str, variable: str) -> Proxy:
    fix = f"Correct {variable} (http://host:port), or name the host in NO_PROXY."
    try:
        url = httpx.URL(text if "://" in text else f"http://{text}")
        host = url.host
    except (httpx.InvalidURL, UnicodeError):
        raise NoAnswerError(Cause.PROXY_SETTING, f"{variable} is not the URL of a proxy", fix) from None
    if url.scheme not in _SCHEMES or not host:
        raise NoAnswerError(Cause.PROXY_SETTING, f"{variable} does not name an http, https or socks5 proxy", fix)
    proxy = Proxy(url, variable, f"{url.scheme}://{url.netloc.decode('ascii')}")
    if proxy.is_socks and find_spec("socksio") is None:
        what = f"{variable} names a SOCKS proxy, and the package socksio is not installed"
        raise NoAnswerError(
            Cause.PROXY_SETTING, what, "Run `pip install 'httpx[socks]'`, or name the host in NO_PROXY."
        )
    return proxy


def _is_direct(url: httpx.URL, exceptions: str) -> bool:
    host = url.raw_host.decode("ascii").strip("[]").rstrip(".").lower()
    port = url.port or _PORTS.get(url.scheme, 0)
    entries = re.split(r"[,\s]+", exceptions.lower())
    # proxy_bypass() reads the exceptions in the settings of macOS.
    return _is_loopback(host) or any(_covers(entry, host, port) for entry in entries) or proxy_bypass(host)


def _is_loopback(host: str) -> bool:
    address = _address(host)
    if address is None:
        return host in _LOOPBACK_NAMES or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def _covers(entry: str, host: str, port: int) -> bool:
    """Return whether an entry of ``NO_PROXY`` matches a host."""
    if entry == "*":
        return True
    with_port = _PORT.fullmatch(entry)
    if with_port is not None and int(with_port["port"]) != port:
        return False
    name = (with_port["host"] if with_port is not None else entry).replace("[", "").replace("]", "")
    network, address = _network(name), _address(host)
    if network is not None:
        return address is not None and address in network
    name = name.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return _legacy_address(host)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _legacy_address(host: str) -> IPv4Address | None:
    """Parse other forms of IPv4 addresses that the resolver accepts."""
    if not _LEGACY_ADDRESS.fullmatch(host):
        return None
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


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
