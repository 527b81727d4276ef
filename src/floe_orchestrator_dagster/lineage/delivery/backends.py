"""Selection of the lineage backend: the platform's plugin, the operator's ``OPENLINEAGE_*`` or the contract's endpoint.

openlineage is imported only when a backend is configured.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from floe_core.plugin_errors import PluginConfigurationError

from floe_orchestrator_dagster.errors import LineageError, Problem
from floe_orchestrator_dagster.lineage.delivery.sender import CompositeSender
from floe_orchestrator_dagster.network.urls import UnusableSettingError, http_url, shown_url
from floe_orchestrator_dagster.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Mapping

    from floe_core.schemas.compiled_artifacts import CompiledArtifacts, PluginRef

    from floe_orchestrator_dagster.lineage.delivery.sender import Sender

logger = logging.getLogger(__name__)

API_KEY_VARIABLE = "FLOE_LINEAGE_API_KEY"
_DEFAULT_PATH = "api/v1/lineage"
# Settings that HttpSender supports. An HTTP transport with other settings uses openlineage's own transport.
_PLAIN_HTTP = frozenset({"type", "url", "endpoint", "timeout", "auth", "custom_headers", "verify", "retry", "name"})
_HTTP_TYPES = frozenset({"http", "async_http"})


@dataclass(frozen=True)
class Backend:
    """The backend that receives events.

    Attributes:
        source: The setting that selects it, such as ``plugins.lineage_backend`` or ``OPENLINEAGE_URL``.
        shown: Its name in messages: the address without credentials, or the kind of transport.
        settings: openlineage's transport configuration; may contain credentials.
    """

    source: str
    shown: str
    settings: Mapping[str, Any] = field(repr=False)

    def open(self, timeout: float) -> Sender:
        """Create the sender for this backend.

        Args:
            timeout: Seconds for the delivery of one event.

        Raises:
            LineageError: The settings are not valid, or require a package that is not installed.
        """
        try:
            return _sender(self.settings, timeout)
        except Exception as error:  # noqa: BLE001  # transports are third-party code
            what = f"the lineage backend cannot be used ({_described(error)})"
            raise LineageError(self.source, [Problem("", what, "Correct its settings.")]) from None


def find_backend(artifacts: CompiledArtifacts | None) -> Backend | None:
    """Find the backend of a product, or without artifacts the operator's backend.

    Returns:
        None when no backend is configured, or with ``OPENLINEAGE_DISABLED=true``, ``observability.lineage: false``, or
        ``lineage_transport: noop`` without another backend.

    Raises:
        LineageError: The plugin in ``plugins.lineage_backend`` cannot be used, and no other backend is configured.
    """
    if is_disabled():
        logger.debug("OPENLINEAGE_DISABLED is set: no lineage is sent")
        return None
    if artifacts is not None and not artifacts.observability.lineage:
        logger.debug("observability.lineage is false: no lineage is sent")
        return None
    backend = _choose(artifacts)
    if backend is None or backend.settings.get("type") == "noop":
        logger.debug("no lineage backend is configured: no lineage is sent")
        return None
    return backend


def is_configured(artifacts: CompiledArtifacts) -> bool:
    """Return whether a backend is configured, without loading a plugin."""
    if is_disabled() or not artifacts.observability.lineage:
        return False
    plugin = artifacts.plugins.lineage_backend if artifacts.plugins else None
    return plugin is not None or _operator_configured() or _contracts_backend(artifacts) is not None


def is_disabled() -> bool:
    """Return whether ``OPENLINEAGE_DISABLED=true`` is set."""
    return os.environ.get("OPENLINEAGE_DISABLED", "").strip().lower() == "true"


def _choose(artifacts: CompiledArtifacts | None) -> Backend | None:
    if artifacts is None:
        return _operators_backend()
    plugin = artifacts.plugins.lineage_backend if artifacts.plugins else None
    if plugin is None:
        return _operators_backend() or _contracts_backend(artifacts)
    try:
        return _plugins_backend(plugin)
    except LineageError as error:
        other = _operators_backend() or _contracts_backend(artifacts)
        if other is None:
            raise
        logger.warning("%s\nLineage goes to %s (%s) instead.", error, other.shown, other.source)
        return other


def _plugins_backend(reference: PluginRef) -> Backend:
    from floe_core.plugin_registry import get_registry
    from floe_core.plugin_types import PluginType
    from floe_core.plugins.lineage import LineageBackendPlugin

    name, source = reference.type, "plugins.lineage_backend"
    # Checked first, because floe's registry logs a misleading error for a missing plugin.
    if not entry_points(group=PluginType.LINEAGE_BACKEND.entry_point_group, name=name):
        fix = f"Install its package (such as floe-lineage-{name}) where Dagster runs."
        raise LineageError(source, [Problem("type", f"no lineage backend plugin {name!r} is installed", fix)])
    try:
        registry = get_registry()
        registry.configure(PluginType.LINEAGE_BACKEND, name, dict(reference.config or {}))
        plugin = registry.get(PluginType.LINEAGE_BACKEND, name)
        if not isinstance(plugin, LineageBackendPlugin):
            raise TypeError("it is not a LineageBackendPlugin")  # noqa: TRY301  # reported like other errors of plugins
        settings = _plugin_settings(plugin.get_transport_config())
    except Exception as error:  # noqa: BLE001  # plugins are third-party code
        what = f"the lineage backend plugin {name!r} cannot be used ({_described(error)})"
        raise LineageError(source, [Problem("config", what, "Correct it in manifest.yaml.")]) from None
    return Backend(f"{source}: {name}", _shown(settings), settings)


def _plugin_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Convert floe's settings to openlineage's.

    floe's URL includes the endpoint. Its compiler removes the API key, so that the key comes from the environment.
    """
    settings = {name: value for name, value in given.items() if value is not None}
    if settings.get("type") not in _HTTP_TYPES:
        return settings
    url = http_url(str(settings["url"])).geturl()
    endpoint = str(settings.get("endpoint", "")).strip("/")
    complete = url if urlsplit(url).path.rstrip("/").endswith(endpoint) else f"{url.rstrip('/')}/{endpoint}"
    key = settings.get("api_key") or _api_key()
    headers = settings.get("custom_headers") or {}
    return {"type": "http", "url": complete, "endpoint": "", "custom_headers": headers} | _authorization(key)


def _operators_backend() -> Backend | None:
    """Resolve the operator's configuration as openlineage's client does; None when it has no transport."""
    if not _operator_configured():
        return None
    from openlineage.client import OpenLineageClient
    from openlineage.client.transport.noop import NoopConfig, NoopTransport

    try:
        settings = OpenLineageClient(transport=NoopTransport(NoopConfig())).config.transport or {}
    except Exception as error:  # noqa: BLE001  # the operator's file may contain anything
        what = f"the OpenLineage client cannot read it ({_described(error)})"
        raise LineageError("OPENLINEAGE_* or openlineage.yml", [Problem("transport", what, "Correct it.")]) from None
    if settings.get("type"):
        return Backend("OPENLINEAGE_* or openlineage.yml", _shown(settings), settings)
    url = os.environ.get("OPENLINEAGE_URL")
    if not url:
        return None
    endpoint = os.environ.get("OPENLINEAGE_ENDPOINT", _DEFAULT_PATH)
    settings = {"type": "http", "url": url, "endpoint": endpoint}
    return Backend(
        "OPENLINEAGE_URL", _shown(settings), settings | _authorization(os.environ.get("OPENLINEAGE_API_KEY"))
    )


def _operator_configured() -> bool:
    if any(name == "OPENLINEAGE_URL" or name.startswith("OPENLINEAGE__") for name in os.environ):
        return True
    named = os.environ.get("OPENLINEAGE_CONFIG")
    places = [Path(named)] if named else []
    places.append(Path.cwd() / "openlineage.yml")
    with suppress(RuntimeError):  # a user without a home directory has no such file
        places.append(Path("~/.openlineage/openlineage.yml").expanduser())
    return any(path.is_file() for path in places)


def _contracts_backend(artifacts: CompiledArtifacts) -> Backend | None:
    observability = artifacts.observability
    source = "observability.lineage_endpoint"
    if observability.lineage_transport == "noop":
        return None
    if observability.lineage_transport == "console":
        return Backend("observability.lineage_transport", "the console", {"type": "console"})
    url = observability.lineage_endpoint
    if not url:
        return None
    # floe's endpoint is a complete URL. For a bare host, the path of Marquez's API is used.
    endpoint = _DEFAULT_PATH if urlsplit(url).path in {"", "/"} else ""
    settings = {"type": "http", "url": url, "endpoint": endpoint} | _authorization(_api_key())
    return Backend(source, _shown(settings), settings)


def _api_key() -> str | None:
    """Return the API key of floe's backend. The operator's key is used only when the operator sets no URL."""
    key = os.environ.get(API_KEY_VARIABLE)
    return key or (None if "OPENLINEAGE_URL" in os.environ else os.environ.get("OPENLINEAGE_API_KEY"))


def _authorization(key: str | None) -> dict[str, Any]:
    return {"auth": {"type": "api_key", "apiKey": key}} if key else {}


def _sender(settings: Mapping[str, Any], timeout: float) -> Sender:
    if settings["type"] == "composite":
        parts = settings["transports"]
        parts = parts.values() if isinstance(parts, dict) else parts
        first_is_enough = not settings.get("continue_on_success", True)
        return CompositeSender([_sender(part, timeout) for part in parts], first_is_enough=first_is_enough)
    if _is_plain_http(settings):
        from floe_orchestrator_dagster.lineage.delivery.http_sender import HttpSender

        key = (settings.get("auth") or {}).get("apiKey")
        headers = settings.get("custom_headers")
        return HttpSender(_complete_url(settings), api_key=key, headers=headers, timeout=timeout)
    from floe_orchestrator_dagster.lineage.delivery.client_sender import ClientSender

    return ClientSender(settings, timeout)


def _is_plain_http(settings: Mapping[str, Any]) -> bool:
    auth = settings.get("auth") or {}
    return (
        settings.get("type") in _HTTP_TYPES
        and settings.keys() <= _PLAIN_HTTP
        and settings.get("verify", True) is True
        and (not auth or (auth.get("type") == "api_key" and "apiKey" in auth))
    )


def _complete_url(settings: Mapping[str, Any]) -> str:
    """Join URL and endpoint as openlineage's HTTP transport does."""
    return urljoin(str(settings["url"]).strip(), str(settings.get("endpoint", _DEFAULT_PATH)).strip())


def _shown(settings: Mapping[str, Any]) -> str:
    kind = str(settings.get("type"))
    if kind in _HTTP_TYPES and "url" in settings:
        return shown_url(_complete_url(settings))
    return {"console": "the console"}.get(kind, f"the {kind} transport")


def _described(error: Exception) -> str:
    """Describe an error; with its message only when that does not repeat a configured value."""
    if isinstance(error, PluginConfigurationError):
        return redact("; ".join(f"{detail.get('field')}: {detail.get('message')}" for detail in error.errors))
    if isinstance(error, UnusableSettingError):
        return str(error)
    name = type(error).__name__
    return redact(f"{name}: {error}") if isinstance(error, (ImportError, TypeError)) else name
