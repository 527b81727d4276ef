"""Selection of the proxy for a URL from the environment.

The variables are ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``, in upper or lower case. An entry of
``NO_PROXY`` is a host name (also for its subdomains), an address or a network (``10.0.0.0/8``, ``fd00::/8``), each with
or without a port, or ``*``. Requests to loopback addresses never use a proxy.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field
from importlib.util import find_spec
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.request import getproxies, proxy_bypass

import httpx

from floe_orchestrator_dagster.network.failures import Cause, NoAnswerError
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
