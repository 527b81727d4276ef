"""Lineage sensors: replay of undelivered events, and emission of events that runs could not emit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.automation.lineage_sensors.asset_lineage import LINEAGE_TAG
from floe_orchestrator_dagster.automation.lineage_sensors.run_lineage import emit_remaining_lineage
from floe_orchestrator_dagster.automation.lineage_sensors.unfinished_runs import end_abandoned_runs
from floe_orchestrator_dagster.errors import LineageError
from floe_orchestrator_dagster.lineage.delivery.backends import find_backend, is_configured
from floe_orchestrator_dagster.lineage.delivery.emitter import spool_directory
from floe_orchestrator_dagster.lineage.delivery.replay import replay, spool_status
from floe_orchestrator_dagster.product.tags import tag_value
from floe_orchestrator_dagster.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from floe_orchestrator_dagster.assets.product_translator import ProductTranslator
    from floe_orchestrator_dagster.product import Product

_INTERVAL_SECONDS = 120
# Dagster limits a tick to 60 s, and evaluates the ticks of a code location one after the other.
_TICK_SECONDS = 10.0
_ENDS = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def lineage_sensors(translator: ProductTranslator, dbt_steps: Sequence[str]) -> list[dg.SensorDefinition]:
    """Define the lineage sensors; empty for a product without a lineage backend.

    They start running when the code location is loaded. They launch no runs.

    Args:
        translator: Translator of the product's dbt nodes.
        dbt_steps: Names of the steps that run dbt and emit their lineage themselves.
    """
    product = translator.product
    if not product.config.lineage.enabled or not is_configured(product.artifacts):
        return []
    steps = frozenset(dbt_steps)
    return [_replay_sensor(product), *(_ended_run_sensor(translator, steps, status) for status in _ENDS)]


def _replay_sensor(product: Product) -> dg.SensorDefinition:
    """Define the sensor that sends events which were not delivered during an outage of the backend.

    It reads the spool in the code server's file system. When runs are pods, ``lineage.spool_dir`` must be a volume that
    both mount.
    """

    @dg.sensor(
        name=f"{product.identifier}_lineage_replay",
        minimum_interval_seconds=_INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Sends lineage events of {product.name} that runs could not deliver.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        return dg.SkipReason(_replay(context, product))

    return sensor


def _ended_run_sensor(
    translator: ProductTranslator, dbt_steps: frozenset[str], status: dg.DagsterRunStatus
) -> dg.SensorDefinition:
    """Define the sensor for runs that ended with this status. A run status sensor of Dagster monitors one status."""
    product = translator.product

    @dg.run_status_sensor(
        run_status=status,
        name=f"{product.identifier}_lineage_{status.value.lower()}",
        default_status=dg.DefaultSensorStatus.RUNNING,
        tags={LINEAGE_TAG: tag_value(product.name)},
        description=f"Emits the remaining lineage of {product.name}'s runs that ended as {status.value}: events of "
        "Python assets, and ends of OpenLineage runs whose process died.",
    )
    def sensor(context: dg.RunStatusSensorContext) -> None:
        # Return None: only then does Dagster continue with the next run of the same tick.
        try:
            emitted = emit_remaining_lineage(context, translator, dbt_steps)
        except LineageError as error:
            context.log.warning("%s", error)
            return
        if emitted is not None:
            context.log.info(
                "lineage of run %s: %d events, %d sent", context.dagster_run.run_id, emitted.emitted, emitted.sent
            )

    return sensor


def _replay(context: dg.SensorEvaluationContext, product: Product) -> str:
    """Send pending events for a few seconds; return the message of the tick."""
    config = product.config.lineage
    try:
        directory = spool_directory(product.name, config)
        end_abandoned_runs(context, product)
        if not spool_status(directory).waiting:
            return "No lineage events are pending."
        backend = find_backend(product.artifacts)
        if backend is None:
            return "Lineage events are pending, but no backend is configured in the code server's environment."
        done = replay(directory, backend, request_seconds=config.timeout_seconds, seconds=_TICK_SECONDS)
    except (LineageError, OSError) as error:
        return f"Lineage events are pending: {error}"
    sent = counted(done.sent, "event")
    counts = f"Lineage: {sent} sent to {backend.shown}, {done.refused} refused, {done.waiting} pending."
    return f"{counts} {done.reason}".strip()
