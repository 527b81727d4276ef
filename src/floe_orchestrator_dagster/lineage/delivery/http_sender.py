"""HTTP sender: one POST per event over a persistent connection, with a wall-clock timeout for the whole request.

openlineage's own HTTP transport limits single reads only, so that a slow server can block it indefinitely.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.lineage.delivery.sender import BackendUnavailableError, check_answer
from floe_orchestrator_dagster.network.endpoint import Answer, Endpoint
from floe_orchestrator_dagster.network.failures import Cause, NoAnswerError
from floe_orchestrator_dagster.network.proxies import secrets_of_proxies
from floe_orchestrator_dagster.network.urls import header_value, http_url, shown_url
from floe_orchestrator_dagster.redaction import Redactor, secrets_in_header, secrets_in_url

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_ANSWER = 64 * 1024


class HttpSender:
    """Posts events to one complete URL."""

    def __init__(
        self, url: str, *, api_key: str | None = None, headers: Mapping[str, str] | None = None, timeout: float = 2
    ) -> None:
        """Prepare the sender without connecting.

        Args:
            url: Complete URL of the endpoint, ``http`` or ``https``. A login in it is sent as basic authentication.
            api_key: Sent as a bearer token; never logged.
            headers: Further headers of each request; never logged.
            timeout: Seconds for one event, including name resolution, proxy, TLS and response.

        Raises:
            UnusableSettingError: The URL, the key or a header is not valid. The message does not repeat its value.
        """
        complete = http_url(url).geturl()
        key = header_value("the api key", api_key or "")
        given = {name: header_value(f"the header {name}", str(value)) for name, value in (headers or {}).items()}
        login = {"Authorization": f"Bearer {key}"} if key else {}
        self._shown = shown_url(complete)
        self._timeout = timeout
        in_headers = (secret for value in given.values() for secret in secrets_in_header(value))
        self._redactor = Redactor([key, *in_headers, *secrets_in_url(complete), *secrets_of_proxies()])
        sent = {"Content-Type": "application/json", **login, **given}
        self._endpoint = Endpoint(complete, sent, longest_answer=_LONGEST_ANSWER)

    def __repr__(self) -> str:
        """Return the address without credentials."""
        return f"{type(self).__name__}({self._shown!r})"

    def send(self, line: bytes) -> None:
        """Post one event; see :class:`~floe_orchestrator_dagster.lineage.delivery.sender.Sender`."""
        was_connected = self._endpoint.connected
        deadline = time.monotonic() + self._timeout
        try:
            answer = self._post(line, self._timeout)
        except BackendUnavailableError as error:
            # The server may have closed an idle connection, which is not a failure. Try once with a new one.
            left = deadline - time.monotonic()
            if left <= 0 or not (was_connected and error.server_error):
                raise
            answer = self._post(line, left)
        text = self._redactor.redact(answer.body.decode("utf-8", errors="replace"))
        check_answer(answer.status, answer.headers.get("Retry-After"), text)

    def close(self) -> None:
        """Close the connection."""
        self._endpoint.close()

    def _post(self, line: bytes, seconds: float) -> Answer:
        try:
            return self._endpoint.post(line, seconds)
        except NoAnswerError as error:
            raise BackendUnavailableError(str(error), server_error=error.cause is Cause.CLOSED) from None
