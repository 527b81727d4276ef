"""Data versions of sources that are files on web servers, which DuckDB reads (``external_location``)."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.network.endpoint import Endpoint
from floe_orchestrator_dagster.network.failures import NoAnswerError
from floe_orchestrator_dagster.network.urls import UnusableSettingError, http_url

if TYPE_CHECKING:
    from collections.abc import Mapping

_SECONDS = 5.0
_HEADERS = {"Accept-Encoding": "identity", "Cache-Control": "no-cache"}
_CACHING, _ALLOWED = "cache-control", frozenset({"", "max-age=0", "must-revalidate", "no-cache", "no-store", "private"})
# Headers of caches and of responses that caches keep: DuckDB may read another copy. Others have `cache` in their name.
_OF_CACHES = frozenset({"age", "expires", "via", "x-varnish"})
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
    for name, url in urls.items():
        try:
            server = http_url(url).netloc
            endpoint = Endpoint(url, _HEADERS, longest_answer=0)
        except UnusableSettingError as error:
            failures[name] = str(error)
            continue
        if server in silent:
            failures[name] = silent[server]
            continue
        try:
            answer = endpoint.head(_SECONDS)
        except NoAnswerError as error:
            failures[name] = silent[server] = str(error)
        else:
            if answer.status != HTTPStatus.OK:
                failures[name] = f"its server responded with status {answer.status}"
            elif version := _version(url, answer.headers):
                versions[name] = version
        finally:
            endpoint.close()
    return versions, failures


def _version(url: str, headers: Mapping[str, str]) -> str | None:
    """Return a hash of what identifies the content of a file; None if that is not certain."""
    etag, size, changed = (headers.get(name, "") for name in ("etag", "content-length", "last-modified"))
    if not etag or etag.startswith("W/") or not size or _may_be_cached(headers):
        return None
    try:
        age = parsedate_to_datetime(headers.get("date", "")) - parsedate_to_datetime(changed)
    except (TypeError, ValueError):
        return None
    if age < _RESOLUTION:
        return None
    return f"url:{hashlib.sha256(repr((url, etag, size, changed)).encode()).hexdigest()[:32]}"


def _may_be_cached(headers: Mapping[str, str]) -> bool:
    """Return whether a cache between the server and DuckDB may have another copy of a file."""
    rules = {rule.strip().lower() for rule in headers.get(_CACHING, "").split(",")}
    names = {name.lower() for name in headers} - {_CACHING}
    return not rules <= _ALLOWED or any(name in _OF_CACHES or "cache" in name for name in names)
