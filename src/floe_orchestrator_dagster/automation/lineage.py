"""The sensor that sends lineage events which runs could not deliver."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.errors import LineageError
from floe_orchestrator_dagster.lineage.emitter import spool_directory
from floe_orchestrator_dagster.lineage.replay import replay, spool_status
from floe_orchestrator_dagster.lineage.transport import find_backend, is_configured

if TYPE_CHECKING:
    from floe_orchestrator_dagster.product import Product

_INTERVAL_SECONDS = 120
# Dagster ends a tick after 60 s, and ticks of one code location wait for each other.
_TICK_SECONDS = 10.0


def lineage_replay_sensor(product: Product) -> dg.SensorDefinition | None:
    """Define the sensor; None for a product without a lineage backend.

    It is running once the code location is loaded: it launches nothing, an empty spool costs it one look into a
    directory, and without it what a dead backend left would wait for somebody to notice. It sees the spool of the code
    server's file system: where runs are pods, ``lineage.spool_dir`` has to be a volume that both mount.
    """
    if not product.config.lineage.enabled or not is_configured(product.artifacts):
        return None

    @dg.sensor(
        name=f"{product.identifier}_lineage_replay",
        minimum_interval_seconds=_INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Sends lineage events of {product.name} that runs could not deliver.",
    )
    def sensor(_context: dg.SensorEvaluationContext) -> dg.SkipReason:
        return dg.SkipReason(_replay(product))

    return sensor


def _replay(product: Product) -> str:
    """Send what waits, for a few seconds; returns what to show for the tick."""
    config = product.config.lineage
    directory = spool_directory(product.name, config)
    try:
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
