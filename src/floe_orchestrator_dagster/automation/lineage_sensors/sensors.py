"""Sensors of lineage: they send events that runs could not deliver, and emit events that runs could not emit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.automation.lineage_sensors.asset_lineage import LINEAGE_TAG
from floe_orchestrator_dagster.automation.lineage_sensors.run_lineage import emit_rest_of_run
from floe_orchestrator_dagster.automation.lineage_sensors.unfinished_runs import end_what_stayed
from floe_orchestrator_dagster.errors import LineageError
from floe_orchestrator_dagster.lineage.delivery.backends import find_backend, is_configured
from floe_orchestrator_dagster.lineage.delivery.emitter import spool_directory
from floe_orchestrator_dagster.lineage.delivery.replay import replay, spool_status
from floe_orchestrator_dagster.product.tags import tag_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from floe_orchestrator_dagster.assets.product_translator import ProductTranslator
    from floe_orchestrator_dagster.product import Product

_INTERVAL_SECONDS = 120
# Dagster ends a tick after 60 s, and ticks of one code location wait for each other.
_TICK_SECONDS = 10.0
_ENDS = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def lineage_sensors(translator: ProductTranslator, dbt_steps: Sequence[str]) -> list[dg.SensorDefinition]:
    """Define the sensors; none for a product without a lineage backend.

    They are running once the code location is loaded: they launch nothing.

    Args:
        translator: Translator of the product's dbt nodes.
        dbt_steps: Names of the steps that run dbt, which emit their lineage themselves.
    """
    product = translator.product
    if not product.config.lineage.enabled or not is_configured(product.artifacts):
        return []
    steps = frozenset(dbt_steps)
    return [_replay_sensor(product), *(_ended_run_sensor(translator, steps, status) for status in _ENDS)]


def _replay_sensor(product: Product) -> dg.SensorDefinition:
    """Define the sensor that sends what a dead backend left; it would wait for somebody to notice otherwise.

    An empty spool costs it one look into a directory. It sees the spool of the code server's file system: where runs
    are pods, ``lineage.spool_dir`` has to be a volume that both mount.
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
    """Define the sensor that emits the missing events of runs that ended so: Dagster has one sensor for each status."""
    product = translator.product

    @dg.run_status_sensor(
        run_status=status,
        name=f"{product.identifier}_lineage_{status.value.lower()}",
        default_status=dg.DefaultSensorStatus.RUNNING,
        tags={LINEAGE_TAG: tag_value(product.name)},
        description=f"Emits the missing lineage of {product.name}'s runs that ended as {status.value}: Python "
        "assets, and the ends of runs whose process died.",
    )
    def sensor(context: dg.RunStatusSensorContext) -> None:
        # Nothing is returned: Dagster goes on to the next run of the same tick only then.
        try:
            emitted = emit_rest_of_run(context, translator, dbt_steps)
        except LineageError as error:
            context.log.warning("%s", error)
            return
        if emitted is not None:
            context.log.info(
                "lineage of run %s: %d events, %d sent", context.dagster_run.run_id, emitted.emitted, emitted.sent
            )

    return sensor


def _replay(context: dg.SensorEvaluationContext, product: Product) -> str:
    """Send what waits, for a few seconds; returns what to show for the tick."""
    config = product.config.lineage
    try:
        directory = spool_directory(product.name, config)
        end_what_stayed(context, product)
        if not spool_status(directory).waiting:
            return "No lineage events wait."
        backend = find_backend(product.artifacts)
        if backend is None:
            return "Lineage events wait, but no backend is configured where this code server runs."
        done = replay(directory, backend, request_seconds=config.timeout_seconds, seconds=_TICK_SECONDS)
    except (LineageError, OSError) as error:
        return f"Lineage events wait: {error}"
    said = f"Lineage: {done.sent} events sent to {backend.shown}, {done.refused} refused, {done.waiting} waiting."
    return f"{said} {done.reason}".strip()
