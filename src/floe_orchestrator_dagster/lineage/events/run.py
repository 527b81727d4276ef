"""Run ids, parents and Dagster's attributes in lineage events, and the fields that all events have.

The parent of a node's run is the product's run. The parent of the product's run is the run in
``OPENLINEAGE_PARENT_ID``, or else the Dagster run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from uuid import UUID

import attrs
from openlineage.client.event_v2 import Dataset, InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    BaseFacet,
    error_message_run,
    nominal_time_run,
    parent_run,
    processing_engine_run,
    tags_run,
)
from openlineage.client.uuid import generate_static_uuid

from floe_orchestrator_dagster.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from openlineage.client.facet_v2 import JobFacet, RunFacet

    from floe_orchestrator_dagster.product import Product


State = Literal["START", "COMPLETE", "FAIL", "ABORT"]
"""The state of a run, as OpenLineage's ``eventType``."""
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
AnyFacet = TypeVar("AnyFacet", bound=BaseFacet)
AnyDataset = TypeVar("AnyDataset", bound=Dataset)


@dataclass(frozen=True)
class RunReference:
    """OpenLineage's reference to a run of a job."""

    namespace: str
    name: str
    run_id: str


@dataclass(frozen=True)
class LineageRun:
    """Attributes of a Dagster step, or of a whole run, in lineage events.

    Attributes:
        product: The product.
        dagster_run_id: Dagster's run id.
        job_name: Name of the Dagster job.
        created_at: Creation time of the Dagster run, with a timezone. All run ids contain it.
        producer: The ``producer`` of all events: a URI with this package's version.
        step_key: Key of the Dagster step; empty for events of the whole run.
        retry_number: Number of the step's earlier tries.
        window: Start and end of the run's time partition; None without one.
        parent: The run that started this one (``OPENLINEAGE_PARENT_ID``); None without one.
        root: The root of all parents of ``parent`` (``OPENLINEAGE_ROOT_PARENT_ID``); None if ``parent`` is the root.
        dagster_version: Dagster's version; empty when unknown.
        dbt_version: dbt's version; empty when no dbt runs.
        adapter: The dbt adapter and its version, such as ``duckdb 1.9.1``.
        adapter_version: This package's version.
        traceparent: The step's trace in W3C's format; empty without one.
    """

    product: Product
    dagster_run_id: str
    job_name: str
    created_at: datetime
    producer: str
    step_key: str = ""
    retry_number: int = 0
    window: tuple[datetime, datetime] | None = None
    parent: RunReference | None = None
    root: RunReference | None = None
    dagster_version: str = ""
    dbt_version: str = ""
    adapter: str = ""
    adapter_version: str = ""
    traceparent: str = ""

    @property
    def namespace(self) -> str:
        """The namespace of all jobs: ``observability.lineage_namespace`` of the artifacts, else the product's name."""
        return self.product.artifacts.observability.lineage_namespace or self.product.name

    @property
    def starter(self) -> RunReference:
        """The parent of the product's run: ``parent``, else the Dagster run."""
        if self.parent is not None:
            return self.parent
        return RunReference(self.namespace, self.job_name, self._id("dagster", self.job_name))

    @property
    def origin(self) -> RunReference:
        """The run at the root of the chain."""
        return self.root or self.starter

    @property
    def product_run(self) -> RunReference:
        """The product's run. A Dagster run has one, with any number of steps and retries."""
        return RunReference(self.namespace, self.product.name, self._id("product", self.product.name))

    def job_run(self, name: str, occurrence: int = 0) -> RunReference:
        """Return the reference to the run of a dbt node or Python asset in this step.

        The id is the same in every process, so that another process can end a run that started here.

        Args:
            name: The job's name, such as dbt's unique id.
            occurrence: Number of the step's earlier runs of this job, in other dbt invocations.
        """
        parts = (self.step_key, str(self.retry_number), name, *([str(occurrence)] if occurrence else []))
        return RunReference(self.namespace, name, self._id("job", *parts))

    def run_facets(self, above: RunReference, invocation: str = "") -> dict[str, RunFacet]:
        """Return the facets of a run with the parent ``above``: parent, root, partition, tags of Dagster and dbt."""
        facets: dict[str, RunFacet] = {"parent": self._parent_facet(above), "tags": self._tags(invocation)}
        if self.window is not None:
            start, end = self.window
            facets["nominalTime"] = nominal_time_run.NominalTimeRunFacet(event_time(start), event_time(end))
        return facets

    def _parent_facet(self, above: RunReference) -> parent_run.ParentRunFacet:
        root = self.origin
        return parent_run.ParentRunFacet(
            run=parent_run.Run(runId=above.run_id),
            job=parent_run.Job(namespace=above.namespace, name=above.name),
            root=parent_run.Root(
                run=parent_run.RootRun(runId=root.run_id),
                job=parent_run.RootJob(namespace=root.namespace, name=root.name),
            ),
        )

    def _tags(self, invocation: str) -> tags_run.TagsRunFacet:
        dagster = {
            "run_id": self.dagster_run_id,
            "job": self.job_name,
            "step": self.step_key,
            "retry": str(self.retry_number) if self.retry_number else "",
        }
        dbt = {"invocation_id": invocation, "adapter": self.adapter if invocation else ""}
        tags = [
            tags_run.TagsRunFacetFields(key=f"{source}_{name}", value=value, source=source.upper())
            for source, values in (("dagster", dagster), ("dbt", dbt))
            for name, value in values.items()
            if value
        ]
        if self.traceparent:
            tags.append(tags_run.TagsRunFacetFields("traceparent", self.traceparent, "OPENTELEMETRY"))
        return tags_run.TagsRunFacet(tags=tags)

    def _id(self, *parts: str) -> str:
        text = "\n".join((self.namespace, self.dagster_run_id, *parts))
        return str(generate_static_uuid(self.created_at, text.encode()))


def read_parent_id(text: str) -> RunReference | None:
    """Parse ``OPENLINEAGE_PARENT_ID``: ``{namespace}/{job name}/{run id}``; None when it does not have this form."""
    namespace, name, run_id = (["", "", *text.strip().rsplit("/", 2)])[-3:]
    try:
        run_id = str(UUID(run_id))
    except ValueError:
        return None
    return RunReference(namespace, name, run_id) if namespace and name else None


def event_time(moment: datetime) -> str:
    """Format a time for OpenLineage. A time without a timezone is UTC, as in dbt."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return aware.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")


def run_event(  # noqa: PLR0913  # an event needs all of these
    run: LineageRun,
    reference: RunReference,
    state: State,
    time: str,
    *,
    run_facets: Mapping[str, RunFacet],
    job_facets: Mapping[str, JobFacet],
    inputs: Sequence[InputDataset] = (),
    outputs: Sequence[OutputDataset] = (),
) -> RunEvent:
    """Create an event. This package is the producer of the event and of all its facets."""
    producer = run.producer
    return RunEvent(
        eventType=RunState[state],
        eventTime=time,
        producer=producer,
        run=Run(runId=reference.run_id, facets=_produced(run_facets, producer)),
        job=Job(namespace=reference.namespace, name=reference.name, facets=_produced(job_facets, producer)),
        inputs=[_with_producer(dataset, producer) for dataset in inputs],
        outputs=[_with_producer(dataset, producer) for dataset in outputs],
    )


def error_facet(message: str, language: str) -> error_message_run.ErrorMessageRunFacet:
    """Return the facet with the reason of a failed or aborted run; credentials are masked."""
    return error_message_run.ErrorMessageRunFacet(
        message=redact(_ANSI.sub("", message).strip()), programmingLanguage=language.upper()
    )


def engine_facet(name: str, version: str, run: LineageRun) -> dict[str, RunFacet]:
    """Return the facet with the processing engine; empty when its version is unknown."""
    if not version:
        return {}
    own = run.adapter_version or None
    engine = processing_engine_run.ProcessingEngineRunFacet(version=version, name=name, openlineageAdapterVersion=own)
    return {"processing_engine": engine}


def _with_producer(dataset: AnyDataset, producer: str) -> AnyDataset:
    changes: dict[str, Any] = {
        field: _produced(getattr(dataset, field) or {}, producer)
        for field in ("facets", "inputFacets", "outputFacets")
        if hasattr(dataset, field)
    }
    return attrs.evolve(dataset, **changes)


def _produced(facets: Mapping[str, AnyFacet], producer: str) -> dict[str, AnyFacet]:
    return {name: attrs.evolve(facet, producer=producer) for name, facet in facets.items()}
