"""Is a Dagster webserver there? One GraphQL question, bounded in wall-clock time whatever the server does."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from floe_core.plugins.orchestrator import ValidationResult

DEFAULT_URL = "http://localhost:3000"
DEFAULT_TIMEOUT_SECONDS = 10.0

_QUESTION = {"query": "{ version }"}
_LONGEST_ANSWER = 64 * 1024


def validate_connection(url: str, timeout: float = DEFAULT_TIMEOUT_SECONDS) -> ValidationResult:
    """Ask the webserver at ``url`` for its version, within ``timeout`` seconds of wall clock.

    Returns:
        Success with the version, or errors that say what to do. Credentials in the URL are never repeated.
    """
    from floe_core.plugins.orchestrator import ValidationResult

    shown = _without_credentials(url)
    answers: queue.SimpleQueue[str | Exception] = queue.SimpleQueue()
    # httpx bounds each read; only a thread that can be left behind bounds name resolution and a dripping server.
    threading.Thread(target=_ask, args=(url, timeout, answers), daemon=True).start()
    try:
        answer = answers.get(timeout=timeout)
    except queue.Empty:
        return _failure(shown, f"no answer within {timeout:g} s", "Check the address, and that the webserver is up.")
    if isinstance(answer, str):
        return ValidationResult(success=True, message=f"Dagster {answer} answers at {shown}")
    if isinstance(answer, (httpx.TransportError, httpx.InvalidURL, UnicodeError)):
        reason = type(answer).__name__
        return _failure(shown, f"not reachable ({reason})", "Start it (dagster dev), or set webserver_url to its URL.")
    return _failure(shown, str(answer), "Set webserver_url to the URL of a Dagster webserver, without /graphql.")


class _NotDagsterError(Exception):
    """Something answers, but it is not Dagster."""


def _ask(url: str, timeout: float, answers: queue.SimpleQueue[str | Exception]) -> None:
    try:
        with (
            httpx.Client(timeout=timeout, trust_env=False) as client,
            client.stream("POST", f"{url.rstrip('/')}/graphql", json=_QUESTION) as response,
        ):
            answers.put(_version(response))
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, _NotDagsterError) as error:
        answers.put(error)


def _version(response: httpx.Response) -> str:
    if response.status_code != httpx.codes.OK:
        raise _NotDagsterError(f"answers with HTTP {response.status_code}, not as Dagster's GraphQL API")
    body = b""
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > _LONGEST_ANSWER:
            raise _NotDagsterError("answers with too much data for Dagster's GraphQL API")
    try:
        content = httpx.Response(httpx.codes.OK, content=body).json()
    except (ValueError, RecursionError):
        raise _NotDagsterError("answers, but not with JSON as Dagster's GraphQL API does") from None
    data = content.get("data") if isinstance(content, dict) else None
    version = data.get("version") if isinstance(data, dict) else None
    if not isinstance(version, str):
        raise _NotDagsterError("answers with JSON that is not Dagster's")
    return version


def _failure(shown: str, what: str, fix: str) -> ValidationResult:
    from floe_core.plugins.orchestrator import ValidationResult

    return ValidationResult(
        success=False, message=f"No Dagster webserver at {shown}", errors=[f"{shown}: {what}. {fix}"]
    )


def _without_credentials(url: str) -> str:
    """Show scheme, host and port of a URL that has a host; anything else in it may hold a secret."""
    try:
        parsed = httpx.URL(url)
        host = parsed.host
    except (httpx.InvalidURL, UnicodeError):
        host = ""
    return str(httpx.URL(scheme=parsed.scheme, host=host, port=parsed.port, path="/")) if host else "the configured URL"
