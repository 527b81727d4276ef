"""The plugin's own lineage calls: floe-core's events as OpenLineage events, through the same delivery as a run's."""

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

from floe_orchestrator_dagster.config.lineage import LineageConfig
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
# Names the spool files of these events: whatever an earlier process left is sent before the next one.
_RUN = "plugin"


class PluginLineage:
    """Where the events of the plugin's callers go: one emitter, made when it is first asked for.

    Attributes:
        namespace: Job namespace of events that name none: the contract's ``lineage_namespace``, else ``floe``.
    """

    def __init__(self, content: Mapping[str, Any] | None) -> None:
        """Take the lineage of a product.

        Args:
            content: The artifacts that the plugin was last given; None for those of ``FLOE_ARTIFACTS_PATH``. Without
                either, only the operator's ``OPENLINEAGE_*`` counts.

        Raises:
            LineageError: With ``strict``, a configured backend that cannot be used.
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
        """Send an event of a job; the run's id is made when there is none, and returned.

        Args:
            event_type: What happened to the run.
            run_id: Its id, if it has one.
            job: The job; its namespace is :attr:`namespace` where the caller names none.
            fields: ``inputs``, ``outputs``, ``run_facets`` and ``producer``, each None for none.

        Raises:
            LineageError: As :meth:`send`.
        """
        run = LineageRun(run_id=run_id or self.new_run_id(), facets=fields.pop("run_facets") or {})
        given = {name: value for name, value in fields.items() if value}
        self.send(LineageEvent(event_type=event_type, run=run, job=job, **given))
        return run.run_id

    def send(self, event: LineageEvent) -> None:
        """Store an event and have it sent in the background; with ``strict``, wait for it.

        Raises:
            LineageError: With ``strict``, when the backend does not accept it.
        """
        if self._emitter is None:
            logger.debug("no lineage backend: %s of %s is not sent", event.event_type.value, event.job.name)
            return
        self._emitter.emit(orjson.dumps(open_lineage_event(event)))
        if self._strict:
            self._emitter.flush()

    def flush(self) -> None:
        """Wait for events that are not delivered yet, within ``lineage.flush_seconds``.

        Raises:
            LineageError: As :meth:`send`.
        """
        if self._emitter is not None:
            self._emitter.flush()

    def close(self) -> None:
        """Flush and let go of everything; what is not delivered stays in the spool."""
        if self._emitter is None:
            return
        emitter, self._emitter = self._emitter, None
        atexit.unregister(self.close)
        with emitter:
            emitter.flush()

    def new_run_id(self) -> uuid.UUID:
        """Make a run id; in the form that consumers want (UUIDv7) where one will see it."""
        if self._emitter is None:
            return uuid.uuid4()
        from openlineage.client.uuid import generate_new_uuid

        return generate_new_uuid()

    def floe_emitter(self) -> LineageEmitter | None:
        """Give floe-core's emitter over this delivery; None without a backend."""
        if self._emitter is None:
            return None
        return LineageEmitter(_Transport(self), _EventBuilder(self), self.namespace)


class _Transport:
    """floe-core's ``LineageTransport`` over this delivery."""

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
    """floe-core's builder with a producer that is a URI, and run ids that consumers take."""

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
        logger.warning("Lineage is sent to where OPENLINEAGE_* says, if anywhere: %s", error)
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
