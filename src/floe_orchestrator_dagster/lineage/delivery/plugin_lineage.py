"""Delivery of the events that floe-core emits through the plugin's lineage methods."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import uuid
from typing import TYPE_CHECKING, Any

import orjson
from floe_core.lineage import LineageDataset, LineageEmitter, LineageEvent, LineageJob, LineageRun, RunState
from floe_core.lineage.events import EventBuilder

from floe_orchestrator_dagster.config.models import LineageConfig
from floe_orchestrator_dagster.errors import FloeDagsterError, LineageError
from floe_orchestrator_dagster.lineage.delivery import emitter as delivery
from floe_orchestrator_dagster.lineage.delivery.backends import find_backend
from floe_orchestrator_dagster.lineage.events.floe_events import PRODUCER, open_lineage_event
from floe_orchestrator_dagster.product import (
    ARTIFACTS_PATH_VARIABLE,
    artifacts_path_from_environment,
    orchestrator_config,
)
from floe_orchestrator_dagster.product.artifacts import json_object, read_artifacts_file, validate_artifacts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from floe_core.schemas.compiled_artifacts import CompiledArtifacts

logger = logging.getLogger(__name__)

_DEFAULT_NAMESPACE = "floe"
# The run id in names of spool files. Pending events of earlier processes are sent first.
_RUN = "plugin"


class PluginLineage:
    """The emitter for events of the plugin's callers.

    Attributes:
        namespace: Default job namespace of events: the contract's ``lineage_namespace``, else ``floe``.
    """

    def __init__(self, content: Mapping[str, Any] | None) -> None:
        """Set up the backend of a product.

        Args:
            content: The artifacts that the plugin was last called with; None for those of ``FLOE_ARTIFACTS_PATH``.
                Without either, only the operator's ``OPENLINEAGE_*`` applies.

        Raises:
            LineageError: With ``strict``: the configured backend cannot be used.
        """
        artifacts, config = _product(content)
        self.namespace = artifacts.observability.lineage_namespace if artifacts else _DEFAULT_NAMESPACE
        self._strict = config.strict
        self._emitter = _emitter(artifacts, config)
        if self._emitter is not None:
            atexit.register(self.close)

    @property
    def delivers(self) -> bool:
        """Whether there is a backend."""
        return self._emitter is not None

    def emit(self, event_type: RunState, run_id: uuid.UUID | None, job: LineageJob, **fields: Any) -> uuid.UUID:  # noqa: ANN401  # fields of floe-core's model, which checks them
        """Send an event of a job.

        Args:
            event_type: State of the run.
            run_id: Id of the run; None for a new id.
            job: The job; its namespace defaults to :attr:`namespace`.
            fields: ``inputs``, ``outputs``, ``run_facets`` and ``producer``, each optional.

        Returns:
            The run's id.

        Raises:
            LineageError: As :meth:`send`.
        """
        run = LineageRun(run_id=run_id or self.new_run_id(), facets=fields.pop("run_facets") or {})
        given = {name: value for name, value in fields.items() if value}
        self.send(LineageEvent(event_type=event_type, run=run, job=job, **given))
        return run.run_id

    def send(self, event: LineageEvent) -> None:
        """Store an event for delivery in the background; with ``strict``, wait for the delivery.

        Raises:
            LineageError: With ``strict``: the backend does not accept the event.
        """
        if self._emitter is None:
            logger.debug("no lineage backend: %s of %s is not sent", event.event_type.value, event.job.name)
            return
        self._emitter.emit(orjson.dumps(open_lineage_event(event)))
        if self._strict:
            self._emitter.flush()

    def flush(self) -> None:
        """Wait for the delivery of pending events, for at most ``lineage.flush_seconds``.

        Raises:
            LineageError: As :meth:`send`.
        """
        if self._emitter is not None:
            self._emitter.flush()

    def close(self) -> None:
        """Flush and close the emitter; undelivered events stay in the spool."""
        if self._emitter is None:
            return
        emitter, self._emitter = self._emitter, None
        atexit.unregister(self.close)
        with emitter:
            emitter.flush()

    def new_run_id(self) -> uuid.UUID:
        """Create a run id: a UUIDv7, which OpenLineage recommends, or a UUIDv4 without a backend."""
        if self._emitter is None:
            return uuid.uuid4()
        from openlineage.client.uuid import generate_new_uuid

        return generate_new_uuid()

    def floe_emitter(self) -> LineageEmitter | None:
        """Return floe-core's emitter on top of this delivery; None without a backend."""
        if self._emitter is None:
            return None
        return LineageEmitter(_Transport(self), _EventBuilder(self), self.namespace)


class _Transport:
    """floe-core's ``LineageTransport`` on top of this delivery."""

    def __init__(self, lineage: PluginLineage) -> None:
        self._lineage = lineage

    async def emit(self, event: LineageEvent) -> None:
        await asyncio.to_thread(self._lineage.send, event)

    async def flush(self) -> None:
        await asyncio.to_thread(self._lineage.flush)

    def close(self) -> None:
        self._lineage.close()

    async def close_async(self) -> None:
        await asyncio.to_thread(self._lineage.close)


class _EventBuilder(EventBuilder):
    """floe-core's builder with a URI as the producer and UUIDv7 run ids, as OpenLineage's schema requires."""

    def __init__(self, lineage: PluginLineage) -> None:
        super().__init__(producer=PRODUCER, default_namespace=lineage.namespace)
        self._lineage = lineage

    def start_run(  # noqa: PLR0913, PLR0917  # the base class's signature
        self,
        job_name: str,
        job_namespace: str | None = None,
        run_id: uuid.UUID | None = None,
        inputs: list[LineageDataset] | None = None,
        outputs: list[LineageDataset] | None = None,
        run_facets: dict[str, Any] | None = None,
        job_facets: dict[str, Any] | None = None,
    ) -> LineageEvent:
        return super().start_run(
            job_name, job_namespace, run_id or self._lineage.new_run_id(), inputs, outputs, run_facets, job_facets
        )


def _product(content: Mapping[str, Any] | None) -> tuple[CompiledArtifacts | None, LineageConfig]:
    path = os.environ.get(ARTIFACTS_PATH_VARIABLE)
    if content is None and not path:
        return None, LineageConfig()
    origin = "CompiledArtifacts" if content is not None else str(path)
    try:
        if content is None:
            found = read_artifacts_file(artifacts_path_from_environment())
        else:
            found = json_object(content, origin)
        artifacts = validate_artifacts(found, origin)
        return artifacts, orchestrator_config(artifacts, origin).lineage
    except FloeDagsterError as error:
        logger.warning("The product's lineage settings cannot be read, so only OPENLINEAGE_* applies: %s", error)
        return None, LineageConfig()


def _emitter(artifacts: CompiledArtifacts | None, config: LineageConfig) -> delivery.LineageEmitter | None:
    if artifacts is not None:
        return delivery.emitter_for(artifacts, config, run=_RUN)
    try:
        backend = find_backend(None)
        directory = delivery.spool_directory(_DEFAULT_NAMESPACE, config)
    except LineageError as error:
        logger.warning("%s", error)
        return None
    return delivery.LineageEmitter(backend, directory, config, run=_RUN) if backend else None
