"""OpenLineage run of a product: its identity, and its start and end, which a Dagster run's steps emit."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.execution.step.run_steps import failed_checks, is_tried_again, run_steps
from floe_orchestrator_dagster.product.tags import tag_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from floe_orchestrator_dagster.lineage.delivery.emitter import LineageEmitter
    from floe_orchestrator_dagster.lineage.events.run import LineageRun, State
    from floe_orchestrator_dagster.product import Product

ENDS = ("COMPLETE", "FAIL", "ABORT")
_PRODUCT_RUN = "lineage_product"


@dataclass(frozen=True)
class ProductRun:
    """The product's run, from the view of one of its steps.

    Attributes:
        context: The step's context.
        steps: Names of the product's steps that run dbt.
        run: The step's lineage attributes.
        emitter: Emits the events.
    """

    context: dg.OpExecutionContext
    steps: Sequence[str]
    run: LineageRun
    emitter: LineageEmitter

    def start(self) -> None:
        """Emit the start if this is the first step, and no earlier try of it has emitted it."""
        if not self._last_state() and run_steps(self.context, self.steps).is_first(self.run.step_key):
            self._emit("START")

    def end(self, error: BaseException | None = None) -> None:
        """Emit the end if this is the last step, and Dagster does not retry it.

        Dagster fails a step without an error if a blocking check failed, and does not retry it.

        Args:
            error: The step's error; None when it succeeded. For an interrupt it is not an ``Exception``.
        """
        if error is None:
            failed = failed_checks(self.context)
            self._end(
                "FAIL" if failed else "COMPLETE", f"blocking checks failed: {', '.join(failed)}" if failed else ""
            )
        elif not isinstance(error, Exception):
            self._end("ABORT", "the step was interrupted")
        elif not is_tried_again(self.context, error):
            self._end("FAIL", str(error))

    def _end(self, state: State, why: str = "") -> None:
        end = run_steps(self.context, self.steps).end_with(self.run.step_key, state)
        before = self._last_state()
        if end is None or before in ENDS:
            return
        if not before:  # the first step failed before it emitted the start
            self._emit("START")
        self._emit(end, why or ("a step failed before" if end == "FAIL" else ""))

    def _last_state(self) -> str:
        return last_state(self.run.product, self.context.instance, self.context.run_id)

    def _emit(self, state: State, why: str = "") -> None:
        from floe_orchestrator_dagster.lineage.events.python_assets import product_event

        self.emitter.emit(product_event(self.run, state, datetime.now(tz=timezone.utc), why))
        self.context.instance.add_run_tags(self.context.run_id, state_tag(self.run.product, self.context.run_id, state))


def product_tag(name: str, product: Product) -> str:
    """Return the name of a Dagster run's tag for one product, because a run can have assets of several products."""
    return f"floe/{tag_value(f'{name}.{product.identifier}')}"


def state_tag(product: Product, run_id: str, state: str) -> dict[str, str]:
    """Return the Dagster run's tag with the last emitted event of the product's run.

    The tag contains the run id, because a re-execution inherits the tags of its parent.
    """
    return {product_tag(_PRODUCT_RUN, product): f"{state} {run_id}"}


def last_state(product: Product, instance: dg.DagsterInstance, run_id: str) -> str:
    """Return the last emitted event of the product's run; empty when there was none.

    It is read from Dagster's table of tags. The run's own record can lack tags, because steps that add tags at the same
    time overwrite the record.
    """
    tag = product_tag(_PRODUCT_RUN, product)
    for state in (*ENDS, "START"):
        if instance.get_runs_count(dg.RunsFilter(run_ids=[run_id], tags={tag: f"{state} {run_id}"})):
            return state
    return ""


def lineage_run(product: Product, instance: dg.DagsterInstance, dagster_run: dg.DagsterRun) -> LineageRun:
    """Return the lineage attributes of a Dagster run, without those of a step; the same in any process."""
    from floe_orchestrator_dagster.lineage.events.floe_events import PRODUCER
    from floe_orchestrator_dagster.lineage.events.run import LineageRun, read_parent_id

    record = instance.get_run_record_by_id(dagster_run.run_id)
    return LineageRun(
        product=product,
        dagster_run_id=dagster_run.run_id,
        job_name=dagster_run.job_name,
        created_at=record.create_timestamp if record else datetime.now(tz=timezone.utc),
        producer=PRODUCER,
        parent=read_parent_id(os.environ.get("OPENLINEAGE_PARENT_ID", "")),
        root=read_parent_id(os.environ.get("OPENLINEAGE_ROOT_PARENT_ID", "")),
        dagster_version=version("dagster"),
        adapter_version=version("floe-orchestrator-dagster"),
    )


def installed_version(package: str) -> str:
    """Return a package's version; empty when it is not installed."""
    with suppress(PackageNotFoundError):
        return version(package)
    return ""
