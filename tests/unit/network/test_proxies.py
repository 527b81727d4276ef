"""Selection of a URL's proxy from the environment."""

from __future__ import annotations

import httpx
import pytest

from floe_orchestrator_dagster.network.failures import NoAnswerError
from floe_orchestrator_dagster.network.proxies import proxy_for

_SECRET = "hunter2-do-not-print"  # noqa: S105  # the value that no message may show


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def _is_proxied(url: str) -> bool:
    return proxy_for(httpx.URL(url)) is not None


@pytest.mark.parametrize(
    ("exceptions", "direct", "proxied"),
    [
        (
            "example.com",
            ["http://example.com", "http://a.EXAMPLE.com.", "http://example.com:81"],
            ["http://anexample.com"],
        ),
        (".example.com", ["http://example.com", "http://a.example.com"], ["http://example.org"]),
        ("*.example.com", ["http://a.example.com"], ["http://example.org"]),
        ("example.com:8080", ["http://a.example.com:8080"], ["http://example.com", "https://example.com"]),
        ("example.com:443", ["https://example.com"], ["http://example.com"]),
        ("a.test, b.test\tc.test\n", ["http://a.test", "http://b.test", "http://c.test"], ["http://d.test"]),
        ("10.0.0.0/8", ["http://10.1.2.3:5000", "http://[::ffff:10.1.2.3]"], ["http://11.1.2.3", "http://[fd00::1]"]),
        ("10.1.2.3/8", ["http://10.255.0.1"], ["http://11.0.0.1", "http://10.example.com"]),
        ("192.168.7.9", ["http://192.168.7.9"], ["http://192.168.7.90", "http://1.192.168.7.9.test"]),
        ("192.168.7.9:80", ["http://192.168.7.9"], ["https://192.168.7.9"]),
        ("fd00::/8", ["http://[fd12::1]:3000"], ["http://[fe80::1]", "http://10.0.0.1"]),
        ("[fd00::]/8", ["http://[fd12::1]:3000"], ["http://[fe80::1]"]),
        ("10.0.0.0/255.0.0.0", ["http://10.1.2.3"], ["http://11.1.2.3"]),
        ("2001:db8::1", ["http://[2001:db8::1]", "http://[2001:0DB8:0::0001]"], ["http://[2001:db8::2]"]),
        ("[2001:db8::1]", ["http://[2001:db8::1]:81"], ["http://[2001:db8::2]"]),
        ("[2001:db8::1]:81", ["http://[2001:db8::1]:81"], ["http://[2001:db8::1]"]),
        ("*", ["http://example.com", "http://10.0.0.1", "https://[fd00::1]"], []),
        ("a.test,*", ["http://example.com"], []),
        ("", [], ["http://example.com"]),
        (",,10.0.0.0/99,[,:", [], ["http://example.com", "http://10.0.0.1"]),
    ],
)
def test_no_proxy_names_hosts_addresses_and_networks(
    monkeypatch: pytest.MonkeyPatch, exceptions: str, direct: list[str], proxied: list[str]
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy.test:3128")
    monkeypatch.setenv("NO_PROXY", exceptions)

    assert [url for url in direct if _is_proxied(url)] == []
    assert [url for url in proxied if not _is_proxied(url)] == []


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST.", "dagster.localhost", "127.0.0.1", "127.9.8.7", "0.0.0.0"),  # noqa: S104
        *(
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "ip6-localhost",
            "localhost.localdomain",
            "127.1",
            "2130706433",
            "0x7f.1",
        ),
    ],
)
def test_loopback_is_requested_directly(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy.test:3128")

    assert not _is_proxied(f"http://{host}:3000")
    assert not _is_proxied(f"https://{host}")


def test_proxy_of_the_scheme_takes_precedence_and_is_shown_without_its_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://all.test")
    monkeypatch.setenv("HTTPS_PROXY", f" https://user:{_SECRET}@proxy.test:3128\n")

    found = proxy_for(httpx.URL("https://example.com"))

    assert str(found) == "the proxy https://proxy.test:3128 (HTTPS_PROXY)"
    assert _SECRET not in repr(found)
    assert str(proxy_for(httpx.URL("http://example.com"))) == "the proxy http://all.test (ALL_PROXY)"


def test_proxy_without_a_scheme_is_an_http_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "proxy.test:3128")

    assert str(proxy_for(httpx.URL("http://example.com"))) == "the proxy http://proxy.test:3128 (HTTP_PROXY)"


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (f"ftp://user:{_SECRET}@proxy.test", "HTTP_PROXY does not name an http, https or socks5 proxy"),
        (f"socks4://user:{_SECRET}@proxy.test", "HTTP_PROXY does not name an http, https or socks5 proxy"),
        (f"http://{_SECRET}@", "HTTP_PROXY does not name an http, https or socks5 proxy"),
        (f"http://user:{_SECRET}@proxy.test:port", "HTTP_PROXY is not the URL of a proxy"),
        (f"http://[::1{_SECRET}", "HTTP_PROXY is not the URL of a proxy"),
    ],
)
def test_proxy_that_cannot_be_used_is_named_without_its_value(
    monkeypatch: pytest.MonkeyPatch, value: str, what: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", value)

    with pytest.raises(NoAnswerError) as raised:
        proxy_for(httpx.URL("http://example.com"))

    assert str(raised.value) == f"{what}. Correct HTTP_PROXY (http://host:port), or name the host in NO_PROXY."
