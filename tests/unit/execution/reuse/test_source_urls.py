"""Versions of files on web servers change with what the server says about them."""

from __future__ import annotations

from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest

from file_server import CHANGED, FileServer, file_server
from floe_orchestrator_dagster.execution.reuse.source_urls import url_versions

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as served:
        yield served


def version(server: FileServer) -> str | None:
    versions, failures = url_versions({"orders": server.url})
    assert failures == {}
    return versions.get("orders")


def test_version_stays_while_the_server_says_the_same(server: FileServer) -> None:
    first = version(server)
    assert first is not None
    assert version(server) == first
    assert {method for method, _ in server.requests} == {"HEAD"}
    assert server.requests[0][1]["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    "change", [{"etag": '"2"'}, {"changed": "Tue, 24 Nov 2026 10:00:01 GMT"}, {"size": 101}], ids=str
)
def test_version_changes_with_each_of_etag_time_and_size(server: FileServer, change: dict[str, object]) -> None:
    first = version(server)
    server.change(**change)  # type: ignore[arg-type]
    assert version(server) not in {first, None}


def test_versions_of_two_urls_differ(server: FileServer) -> None:
    versions, _ = url_versions({"orders": server.url, "items": f"{server.url}?items"})
    assert versions["orders"] != versions["items"]


@pytest.mark.parametrize("name", ["ETag", "Last-Modified", "Content-Length", "Date"])
def test_without_one_of_the_headers_the_file_counts_as_changed(server: FileServer, name: str) -> None:
    server.headers = {**server.headers, name: ""}
    assert version(server) is None


@pytest.mark.parametrize(
    "change",
    [
        {"etag": 'W/"1"'},
        {"Age": "10"},
        {"X-Cache-Status": "MISS"},
        {"Via": "1.1 proxy"},
        {"Expires": "0"},
        {"Cache-Control": "public"},
        {"Cache-Control": "private, max-age=60"},
        {"changed": "yesterday"},
    ],
    ids=str,
)
def test_uncertain_answers_count_as_changed(server: FileServer, change: dict[str, str]) -> None:
    server.change(**change)  # type: ignore[arg-type]
    assert version(server) is None


def test_file_that_has_just_changed_counts_as_changed(server: FileServer) -> None:
    server.change(changed=formatdate(usegmt=True))
    assert version(server) is None


def test_clocks_of_other_zones_are_compared(server: FileServer) -> None:
    server.change(changed="Tue, 24 Nov 2026 10:00:00")
    assert version(server) is None
    server.change(changed=CHANGED)
    assert version(server) is not None


def test_other_status_is_explained(server: FileServer) -> None:
    server.status = 404
    assert url_versions({"orders": server.url}) == ({}, {"orders": "its server responded with status 404"})


def test_rules_without_caches_do_not_matter(server: FileServer) -> None:
    server.headers["Cache-Control"] = "private, max-age=0, must-revalidate"
    assert version(server) is not None


def test_redirects_are_not_followed(server: FileServer) -> None:
    server.status = 302
    server.headers["Location"] = "/other.csv"
    assert url_versions({"orders": server.url}) == ({}, {"orders": "its server responded with status 302"})
    assert len(server.requests) == 1


def test_server_that_does_not_respond_is_asked_once(server: FileServer) -> None:
    server.status = 0
    versions, failures = url_versions({"orders": server.url, "items": server.url})
    assert (versions, list(failures)) == ({}, ["orders", "items"])
    assert len(server.requests) == 1


def test_closed_port_is_explained() -> None:
    with file_server() as served:
        url = served.url
    assert url_versions({"orders": url}) == ({}, {"orders": "connection refused"})


def test_unusable_settings_of_the_environment_are_explained(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "ftp://user:hidden@proxy")
    versions, failures = url_versions({"orders": "http://files.example/orders.csv"})
    assert versions == {}
    assert "HTTP_PROXY does not name an http, https or socks5 proxy" in failures["orders"]
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent.pem")
    assert version(server) is not None
    versions, failures = url_versions({"orders": server.url.replace("http:", "https:")})
    assert versions == {}
    assert "SSL_CERT_FILE" in failures["orders"]


def test_logins_in_urls_are_sent_and_not_logged(server: FileServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    versions, _ = url_versions({"orders": server.url.replace("//", "//me:hidden@") + "?sig=signature"})
    assert list(versions) == ["orders"]
    assert server.requests[0][1]["Authorization"] == "Basic bWU6aGlkZGVu"
    assert not {"hidden", "signature"} & set(caplog.text.replace("=", " ").replace("@", " ").replace(":", " ").split())


@pytest.mark.parametrize("url", ["http://[::1", "http://localhost:port/a", "http:///a"])
def test_url_that_is_not_valid_is_explained(url: str) -> None:
    versions, failures = url_versions({"orders": url})
    assert versions == {}
    assert list(failures) == ["orders"]
    assert url not in failures["orders"]
