"""The Dagster run and step behind lineage events, and run ids.

The chain is node → product → Dagster run; the Dagster run gives way to an incoming parent (``OPENLINEAGE_PARENT_ID``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from openlineage.client.facet_v2 import nominal_time_run, parent_run, tags_run
from openlineage.client.uuid import generate_static_uuid

if TYPE_CHECKING:
    from openlineage.client.facet_v2 import RunFacet

    from floe_orchestrator_dagster.product import Product

State = Literal["START", "COMPLETE", "FAIL", "ABORT"]
"""The state of a run, as OpenLineage's ``eventType``."""


@dataclass(frozen=True)
class RunReference:
    """A run of a job, as OpenLineage refers to it."""

    namespace: str
    name: str
    run_id: str


@dataclass(frozen=True)
class LineageRun:
    """A step of a Dagster run, as far as lineage events describe it.

    Attributes:
        product: What is run.
        dagster_run_id: Dagster's run id.
        job_name: The Dagster job.
        created_at: When Dagster created the run, with a timezone; all run ids are made from it.
        producer: URI of this package in its version, the ``producer`` of all events.
        step_key: The Dagster step; empty for events of the whole run.
        retry_number: How often Dagster has retried the step before.
        window: Start and end of the run's partition; None when it has none in time.
        parent: The run that started this one (:func:`read_parent_id` of ``OPENLINEAGE_PARENT_ID``), if any.
        root: Where that run's chain begins (``OPENLINEAGE_ROOT_PARENT_ID``); ``parent`` when left out.
        dagster_version: Dagster's version; empty when unknown.
        dbt_version: dbt-core's version; empty when no dbt runs.
        adapter: The dbt adapter and its version, such as ``duckdb 1.9.1``.
        adapter_version: This package's version.
        traceparent: The trace that the step belongs to, in W3C's form; empty without one.
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
        """The run above the product's: the incoming parent, else the Dagster run."""
        if self.parent is not None:
            return self.parent
        return RunReference(self.namespace, self.job_name, self._id("dagster", self.job_name))

    @property
    def origin(self) -> RunReference:
        """The run at the root of the chain."""
        return self.root or self.starter

    @property
    def product_run(self) -> RunReference:
        """The product's run: one per Dagster run, whatever its steps and their retries."""
        return RunReference(self.namespace, self.product.name, self._id("product", self.product.name))

    def job_run(self, name: str, occurrence: int = 0) -> RunReference:
        """Refer to the run of a dbt node or Python asset in this step.

        The same step, retry and name give the same id, in any process: what started here can be ended elsewhere.

        Args:
            name: The job's name, such as dbt's unique id.
            occurrence: How often the step has run it before, in other dbt invocations.
        """
        parts = (self.step_key, str(self.retry_number), name, *([str(occurrence)] if occurrence else []))
        return RunReference(self.namespace, name, self._id("job", *parts))

    def run_facets(self, above: RunReference, invocation: str = "") -> dict[str, RunFacet]:
        """Make the facets of a run below ``above``: parent and root, partition, where in Dagster and dbt it ran."""
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
    """Read ``OPENLINEAGE_PARENT_ID``, ``{namespace}/{job name}/{run id}``; None when it does not have this form."""
    namespace, name, run_id = (["", "", *text.strip().rsplit("/", 2)])[-3:]
    try:
        run_id = str(UUID(run_id))
    except ValueError:
        return None
    return RunReference(namespace, name, run_id) if namespace and name else None


def event_time(moment: datetime) -> str:
    """Write a moment as OpenLineage wants it; one without a timezone is UTC, as dbt's are."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return aware.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")
