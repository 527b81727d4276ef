"""Sender for the transports of openlineage's client, such as console, file and Kafka."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

import httpx
import orjson
from openlineage.client import event_v2
from openlineage.client.transport import get_default_factory
from requests import HTTPError, Session

from floe_orchestrator_dagster.lineage.delivery.sender import BackendUnavailableError, check_answer
from floe_orchestrator_dagster.network.failures import NoAnswerError
from floe_orchestrator_dagster.network.proxies import proxy_for, secrets_of_proxies
from floe_orchestrator_dagster.redaction import Redactor, secrets_in_header, secrets_in_url, secrets_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openlineage.client.transport.kafka import KafkaTransport

_NO_RETRY = {"total": 0, "read": 0, "connect": 0, "status_forcelist": ()}


class ClientSender:
    """Sends events through a transport of openlineage's client."""

    def __init__(self, settings: Mapping[str, Any], timeout: float) -> None:
        """Create the transport.

        Args:
            settings: openlineage's transport configuration.
            timeout: Seconds for one event, if the transport supports a timeout.
        """
        self._timeout = timeout
        self._redactor = Redactor(_secrets(settings))
        self._kind = str(settings["type"])
        self._transport = cast("Any", get_default_factory().create(_without_retries(settings, timeout)))
        if self._kind == "console":
            _show_info(logging.getLogger("openlineage.client.transport.console"))
        if isinstance(getattr(self._transport, "session", None), Session):
            self._transport.session = _Session()

    def __repr__(self) -> str:
        """Return the kind of transport, without its settings."""
        return f"{type(self).__name__}({self._kind!r})"

    def send(self, line: bytes) -> None:
        """Send one event; see :class:`~floe_orchestrator_dagster.lineage.delivery.sender.Sender`."""
        try:
            if self._kind == "kafka":
                _produce(self._transport, line, self._timeout)
            else:
                self._transport.emit(as_run_event(orjson.loads(line)))
        except BackendUnavailableError as error:
            raise BackendUnavailableError(self._redactor.redact(str(error))) from None
        except HTTPError as error:
            if error.response is None:
                raise BackendUnavailableError("HTTP error without a response") from None
            answer = error.response
            check_answer(answer.status_code, answer.headers.get("Retry-After"), self._redactor.redact(answer.text))
        except NoAnswerError as error:
            raise BackendUnavailableError(str(error)) from None
        except Exception as error:  # noqa: BLE001  # transports are third-party code
            raise BackendUnavailableError(self._redactor.redact(f"{type(error).__name__}: {error}")) from None

    def close(self) -> None:
        """Close the transport."""
        self._transport.close(self._timeout)


class _Session(Session):
    """A requests session without redirects, with the same choice of proxies as this package's other requests."""

    def __init__(self) -> None:
        super().__init__()
        # A redirected POST becomes a GET, and its 200 would count as an acknowledgement.
        self.max_redirects = 0

    def merge_environment_settings(self, url: str, *settings: Any) -> Any:  # noqa: ANN401  # of requests
        """Use a proxy only where ``proxy_for`` does: it supports more forms of ``NO_PROXY`` than requests."""
        merged: Any = super().merge_environment_settings(url, *settings)
        if proxy_for(httpx.URL(url)) is None:
            merged["proxies"] = {}
        return merged


def as_run_event(content: dict[str, Any]) -> event_v2.RunEvent:
    """Convert a stored event to the client's event object; its facets stay dictionaries."""
    job = content["job"]
    return event_v2.RunEvent(
        eventTime=content["eventTime"],
        eventType=event_v2.RunState(content["eventType"]) if content.get("eventType") else None,
        producer=content["producer"],
        run=event_v2.Run(content["run"]["runId"], content["run"].get("facets") or {}),
        job=event_v2.Job(job["namespace"], job["name"], job.get("facets") or {}),
        inputs=[event_v2.InputDataset(**dataset) for dataset in content.get("inputs") or []],
        outputs=[event_v2.OutputDataset(**dataset) for dataset in content.get("outputs") or []],
    )


def message_key(content: dict[str, Any]) -> str:
    """Return the Kafka key of an event, as openlineage does: from the job of the root, the parent, or the event."""
    parent = (content["run"].get("facets") or {}).get("parent") or {}
    job = (parent.get("root") or {}).get("job") or parent.get("job") or content["job"]
    return f"run:{job['namespace']}/{job['name']}"


def _produce(transport: KafkaTransport, line: bytes, timeout: float) -> None:
    """Send to Kafka and wait for the broker's acknowledgement. openlineage's ``emit`` only logs a failure."""
    producer: Any = transport.producer
    errors: list[object] = []

    def delivered(error: object, _message: object) -> None:
        errors.append(error)

    key = transport.message_key or message_key(orjson.loads(line))
    producer.produce(topic=transport.topic, key=key, value=line, on_delivery=delivered)
    if producer.flush(timeout=timeout):
        producer.purge()
        producer.flush(timeout=0)
        raise BackendUnavailableError(f"no acknowledgement within {timeout:g} s")
    if errors[0] is not None:
        raise BackendUnavailableError(str(errors[0]))


def _without_retries(settings: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """Disable retries, long timeouts and background threads of a transport: this package has its own."""
    if settings["type"] in {"http", "async_http"}:
        return {**settings, "type": "http", "retry": dict(_NO_RETRY), "timeout": timeout}
    return dict(settings)


def _secrets(settings: Mapping[str, Any]) -> list[str]:
    """List the secrets to mask in messages: credentials in the settings and the URL, and all values of headers."""
    headers = settings.get("custom_headers")
    values = [str(value) for value in headers.values()] if isinstance(headers, dict) else []
    in_headers = (secret for value in values for secret in secrets_in_header(value))
    return [
        *secrets_of(dict(settings)),
        *in_headers,
        *secrets_in_url(str(settings.get("url", ""))),
        *secrets_of_proxies(),
    ]


def _show_info(console: logging.Logger) -> None:
    """Make the console transport's INFO log visible when logging is not configured."""
    if not console.isEnabledFor(logging.INFO):
        console.setLevel(logging.INFO)
    if not console.hasHandlers():
        console.addHandler(logging.StreamHandler())
