"""GraphQL query of a webserver: its address and headers, and a message with a fix for each kind of failure."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import orjson

from floe_orchestrator_dagster.connection.webserver import QUERY, SHORT_QUERY, Webserver, read_webserver
from floe_orchestrator_dagster.network.endpoint import Answer, Endpoint
from floe_orchestrator_dagster.network.failures import Cause, NoAnswerError
from floe_orchestrator_dagster.network.urls import UnusableSettingError

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
_LONGEST_ANSWER = 4 * 1024 * 1024
_SHORTEST_TIMEOUT = 0.001
_WHERE = "Set the address of a Dagster webserver (URL of `check`, webserver_url or DAGSTER_URL)"
_LOGIN = f"Set webserver_headers, {BEARER_VARIABLE} or, for Dagster+, {DAGSTER_PLUS_VARIABLE} to a valid login."
# Fixes by cause; {address} is replaced by the source of the address.
_FIXES = {
    Cause.TIMEOUT: "Check the address, and that the webserver is up and not overloaded.",
    Cause.REFUSED: "Start it (dagster dev), or correct {address}.",
    Cause.UNKNOWN_HOST: "Correct {address}, or the DNS of this machine.",
    Cause.UNTRUSTED: "Set SSL_CERT_FILE to the certificate of the authority that signed it.",
    Cause.TLS: "Correct {address}, which may need http:// instead of https://.",
    Cause.CLOSED: f"{_WHERE}.",
    Cause.NOT_HTTP: f"{_WHERE}.",
    Cause.UNREACHABLE: "Correct {address}, or the network.",
}


class NoDagsterError(Exception):
    """Dagster did not respond. The message describes the problem and the fix, without secrets."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}. {fix}")


def query_webserver(address: Address, timeout: float) -> Webserver:
    """Query version, code locations and daemons, within ``timeout`` wall-clock seconds.

    Raises:
        NoDagsterError: The response is late, missing or not from Dagster.
    """
    # No compression, so that the limit of the response's size applies to the bytes received.
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        **address.headers,
    }
    named = f"the address (from {address.source})"
    try:
        endpoint = Endpoint(address.endpoint, headers, longest_answer=_LONGEST_ANSWER)
    except UnusableSettingError:
        raise NoDagsterError("it is not an http:// or https:// address", f"Correct {named}.") from None
    try:
        return _query(endpoint, time.monotonic() + timeout, timeout)
    except NoAnswerError as error:
        raise NoDagsterError(error.what, error.fix or _FIXES[error.cause].format(address=named)) from None
    finally:
        endpoint.close()


def _query(endpoint: Endpoint, deadline: float, timeout: float) -> Webserver:
    """Query everything, or only the version when Dagster does not support or permit the rest."""
    for query in (QUERY, SHORT_QUERY):
        seconds = timeout if query == QUERY else max(deadline - time.monotonic(), _SHORTEST_TIMEOUT)
        answer = _read(endpoint.post(orjson.dumps({"query": query}), seconds), endpoint, timeout)
        webserver = read_webserver(answer)
        if webserver is not None:
            return webserver
        if not (isinstance(answer, dict) and answer.get("errors")):
            break
    raise NoDagsterError("answers with JSON that is not Dagster's", f"{_WHERE}.")


def _read(answer: Answer, endpoint: Endpoint, timeout: float) -> object:
    # Dagster responds with 400 to a query with an error, which is in the body.
    if answer.status not in (httpx.codes.OK, httpx.codes.BAD_REQUEST):
        raise _refused(answer, endpoint)
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise NoDagsterError("answers in an encoding that was not requested", f"{_WHERE}.")
    if len(answer.body) > _LONGEST_ANSWER:
        raise NoDagsterError("answers with too much data for Dagster's GraphQL API", f"{_WHERE}.")
    if answer.is_late:
        raise NoAnswerError(Cause.TIMEOUT, f"no answer within {timeout:g} s")
    try:
        return orjson.loads(answer.body)
    except ValueError:
        is_page = "html" in answer.headers.get("Content-Type", "") or answer.body.lstrip()[:1] == b"<"
        found = "with a web page, such as a login" if is_page else "with content that is not JSON"
        raise NoDagsterError(f"answers {found}, not as Dagster's GraphQL API", f"{_WHERE}. {_LOGIN}") from None


def _refused(answer: Answer, endpoint: Endpoint) -> NoDagsterError:
    status = answer.status
    if httpx.codes.is_redirect(status) and "Location" in answer.headers:
        target = shown_url(endpoint.redirect_target(answer.headers["Location"]))
        return NoDagsterError(
            f"redirects to {target}", f"If that is Dagster's address, use it; if it is a login: {_LOGIN}"
        )
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return NoDagsterError(f"answers with HTTP {status}: it requires a valid login", _LOGIN)
    if status in (httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED):
        fix = f"{_WHERE}; include the path, if it was started with --path-prefix."
        return NoDagsterError(f"answers with HTTP {status}: it has no GraphQL API at this path", fix)
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        fix = "Check the logs of the webserver and of the proxy."
        return NoDagsterError(f"answers with HTTP {status}: the webserver or a proxy in front of it fails", fix)
    return NoDagsterError(f"answers with HTTP {status}, not as Dagster's GraphQL API", f"{_WHERE}.")


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
