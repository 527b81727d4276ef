"""Data versions of sources that are files on web servers, which DuckDB reads (``external_location``)."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from floe_orchestrator_dagster.network.failures import explained

if TYPE_CHECKING:
    from collections.abc import Mapping

_SECONDS = 5.0
_HEADERS = {"Accept-Encoding": "identity", "Cache-Control": "no-cache"}
# Headers of caches, whose copies can be older than what DuckDB reads.
_OF_CACHES = frozenset({"age", "cf-cache-status", "x-cache"})
# HTTP gives times in seconds. A later change has another time only if the last one is older than that.
_RESOLUTION = timedelta(seconds=2)


def url_versions(urls: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Ask web servers for the ETag, the size and the time of the last change of files (HEAD requests).

    Args:
        urls: URLs by name.

    Returns:
        Versions by name, without those of files whose content may differ although the answer is the same. And why
        requests failed, by name: a server that does not respond is asked only once.
    """
    versions: dict[str, str] = {}
    failures: dict[str, str] = {}
    silent: dict[str, str] = {}
    with httpx.Client(headers=_HEADERS, timeout=_SECONDS, follow_redirects=True) as client:
        for name, url in urls.items():
            try:
                server = urlsplit(url).netloc
                if server in silent:
                    failures[name] = silent[server]
                    continue
                answer = client.head(url)
            except (httpx.InvalidURL, ValueError):
                failures[name] = "its URL is not valid"
            except (httpx.HTTPError, OSError) as error:
                failures[name] = explained(error, None, at_proxy=False).what
                if isinstance(error, httpx.TransportError):
                    silent[server] = failures[name]
            else:
                if answer.status_code != HTTPStatus.OK:
                    failures[name] = f"its server responded with status {answer.status_code}"
                elif version := _version(url, answer.headers):
                    versions[name] = version
    return versions, failures


def _version(url: str, headers: httpx.Headers) -> str | None:
    """Return a hash of what identifies the content of a file; None if that is not certain."""
    etag, size, changed = (headers.get(name, "") for name in ("etag", "content-length", "last-modified"))
    is_certain = etag and not etag.startswith("W/") and size and not _OF_CACHES & headers.keys()
    if not is_certain:
        return None
    try:
        age = parsedate_to_datetime(headers.get("date", "")) - parsedate_to_datetime(changed)
    except (TypeError, ValueError):
        return None
    if age < _RESOLUTION:
        return None
    return f"url:{hashlib.sha256(repr((url, etag, size, changed)).encode()).hexdigest()[:32]}"
