"""Events through openlineage's own transports: console, file, Kafka and whatever else an operator configures."""

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
    """Hands events to a transport of openlineage's client."""

    def __init__(self, settings: Mapping[str, Any], timeout: float) -> None:
        """Make the transport.

        Args:
            settings: openlineage's transport configuration.
            timeout: Seconds that one event may take, where the transport lets itself be told.
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
        """Show the kind of transport, never its settings."""
        return f"{type(self).__name__}({self._kind!r})"

    def send(self, line: bytes) -> None:
        """Hand over one event; see :class:`~floe_orchestrator_dagster.lineage.delivery.sender.Sender`."""
        try:
            if self._kind == "kafka":
                _produce(self._transport, line, self._timeout)
            else:
                self._transport.emit(as_run_event(orjson.loads(line)))
        except BackendUnavailableError as error:
            raise BackendUnavailableError(self._redactor.redact(str(error))) from None
        except HTTPError as error:
            if error.response is None:
                raise BackendUnavailableError("HTTP error without an answer") from None
            answer = error.response
            check_answer(answer.status_code, answer.headers.get("Retry-After"), self._redactor.redact(answer.text))
        except NoAnswerError as error:
            raise BackendUnavailableError(str(error)) from None
        except Exception as error:  # noqa: BLE001  # transports are anybody's code
            raise BackendUnavailableError(self._redactor.redact(f"{type(error).__name__}: {error}")) from None

    def close(self) -> None:
        """Close the transport; it has nothing left to do."""
        self._transport.close(self._timeout)


class _Session(Session):
    """Requests without redirects, and directly where this package's other requests use no proxy."""

    def __init__(self) -> None:
        super().__init__()
        # A redirected POST becomes a GET, and its 200 would count as an acknowledgement.
        self.max_redirects = 0

    def merge_environment_settings(self, url: str, *settings: Any) -> Any:  # noqa: ANN401  # requests'
        """Leave out proxies that the environment does not name for this URL; requests knows fewer exceptions."""
        merged: Any = super().merge_environment_settings(url, *settings)
        if proxy_for(httpx.URL(url)) is None:
            merged["proxies"] = {}
        return merged


def as_run_event(content: dict[str, Any]) -> event_v2.RunEvent:
    """Make the client's event object of a stored event; its facets stay as they are."""
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
    """Name what keeps a run's events in one Kafka partition, as openlineage does: the root's, parent's or own job."""
    parent = (content["run"].get("facets") or {}).get("parent") or {}
    job = (parent.get("root") or {}).get("job") or parent.get("job") or content["job"]
    return f"run:{job['namespace']}/{job['name']}"


def _produce(transport: KafkaTransport, line: bytes, timeout: float) -> None:
    """Send to Kafka and wait for the broker's acknowledgement, which openlineage's own ``emit`` only logs."""
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
    """Take retries, patience and background threads out of a transport's settings: delivery has its own."""
    if settings["type"] in {"http", "async_http"}:
        return {**settings, "type": "http", "retry": dict(_NO_RETRY), "timeout": timeout}
    return dict(settings)


def _secrets(settings: Mapping[str, Any]) -> list[str]:
    """List what messages must not repeat: credentials of the settings and of the URL, and all values of headers."""
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
    """Let the console transport, which logs events as information, be seen where nothing configures logging."""
    if not console.isEnabledFor(logging.INFO):
        console.setLevel(logging.INFO)
    if not console.hasHandlers():
        console.addHandler(logging.StreamHandler())
