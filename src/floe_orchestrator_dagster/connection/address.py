"""Address and request headers of the webserver, and the address without secrets for messages."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from floe_orchestrator_dagster.config import DagsterConfig

DEFAULT_URL = "http://localhost:3000"
URL_VARIABLE = "DAGSTER_URL"
BEARER_VARIABLE = "DAGSTER_BEARER_TOKEN"
DAGSTER_PLUS_VARIABLE = "DAGSTER_CLOUD_API_TOKEN"

_DAGSTER_PLUS_DOMAIN = ".dagster.cloud"
_DAGSTER_PLUS_HEADER = "Dagster-Cloud-Api-Token"
_ENDPOINT = "/graphql"


@dataclass(frozen=True)
class Address:
    """A webserver's address.

    Attributes:
        url: The configured address; may contain a password.
        shown: Scheme, host and port, for messages.
        source: The setting with the address, for messages.
        headers: Request headers, which are secrets.
        warnings: Warnings about headers without a valid value.
    """

    url: str = field(repr=False)
    shown: str
    source: str
    headers: Mapping[str, str] = field(repr=False)
    warnings: tuple[str, ...]

    @property
    def endpoint(self) -> str:
        """Address of its GraphQL API; may contain a password."""
        return f"{self.url.rstrip('/').removesuffix(_ENDPOINT)}{_ENDPOINT}"


def find_address(dagster_url: str | None, config: DagsterConfig | None) -> Address:
    """Return the first configured address: the argument, ``webserver_url``, ``DAGSTER_URL``, http://localhost:3000."""
    named = {
        "the argument": dagster_url,
        "webserver_url": config.webserver_url if config else None,
        URL_VARIABLE: os.environ.get(URL_VARIABLE),
        "the default": DEFAULT_URL,
    }
    # A value that was read from a file can end with a line break.
    source, url = next((source, url.strip()) for source, url in named.items() if url and url.strip())
    headers = _tokens(url)
    warnings = []
    for row, header in enumerate(config.webserver_headers if config else []):
        value = os.environ.get(header.variable, "").strip()
        if value and value.isascii() and value.isprintable():
            headers[header.name.title()] = value
            continue
        problem = "contains characters that are not valid in a header" if value else "is not set"
        place = f"webserver_headers[{row}]"
        warnings.append(f"{place}: {header.name} is not sent, because the variable {header.variable} {problem}.")
    return Address(url, shown_url(url), source, headers, tuple(warnings))


def _tokens(url: str) -> dict[str, str]:
    """Return the headers from well-known environment variables. Dagster+'s token is sent to Dagster+ only."""
    return {name: value for name, value in _well_known_headers(url) if value.isascii() and value.isprintable()}


def _well_known_headers(url: str) -> Iterator[tuple[str, str]]:
    bearer = os.environ.get(BEARER_VARIABLE, "").strip()
    if bearer:
        yield "Authorization", f"Bearer {bearer}"
    token = os.environ.get(DAGSTER_PLUS_VARIABLE, "").strip()
    parsed = _parsed(url)
    if token and parsed and parsed.scheme == "https" and parsed.host.endswith(_DAGSTER_PLUS_DOMAIN):
        yield _DAGSTER_PLUS_HEADER, token


def shown_url(url: str) -> str:
    """Return scheme, host and port of a URL; the other parts may contain secrets."""
    parsed = _parsed(url)
    if parsed is None or not parsed.host:
        return "the configured URL"
    return str(httpx.URL(scheme=parsed.scheme, host=parsed.host, port=parsed.port, path="/"))


def _parsed(url: str) -> httpx.URL | None:
    try:
        parsed = httpx.URL(url)
        _ = parsed.host  # decoded on access, which can fail
    except (httpx.InvalidURL, UnicodeError):
        return None
    return parsed
