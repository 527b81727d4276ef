"""Schedules of jobs as values with a valid cron and timezone. This module does not import dagster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.config.crons import check_cron, check_timezone
from floe_orchestrator_dagster.errors import ScheduleError

if TYPE_CHECKING:
    from floe_orchestrator_dagster.product import Product

__all__ = ["JobSchedule", "check_cron", "check_timezone", "checked_schedule", "declared_schedule"]


@dataclass(frozen=True)
class JobSchedule:
    """The schedule of a job.

    Attributes:
        job_name: Name of the Dagster job.
        cron: Five fields or a macro such as ``@daily``.
        timezone: IANA name.
        enabled: Whether the schedule starts running when the code location is loaded.
    """

    job_name: str
    cron: str
    timezone: str
    enabled: bool = True


def checked_schedule(job_name: str, cron: str, timezone: str, *, enabled: bool = True) -> JobSchedule:
    """Create a schedule after a check of its cron and timezone.

    Raises:
        ScheduleError: The cron or timezone is not valid.
    """
    return JobSchedule(job_name, check_cron(cron), check_timezone(timezone), enabled)


def declared_schedule(product: Product) -> JobSchedule | None:
    """Return the product's main schedule, from floe.yaml or the configured default; None without either.

    Raises:
        ScheduleError: The cron or timezone is not valid. The message has the place of its declaration.
    """
    declared, config = product.spec.schedule, product.config
    if not product.models:
        return None
    if declared is not None and declared.cron:
        where = f"floe.yaml of {product.name!r}, schedule"
        cron, timezone, enabled = declared.cron, declared.timezone, declared.enabled
    elif config.default_schedule:
        where = f"{product.origin}, {config_path('default_schedule')}"
        cron, timezone, enabled = config.default_schedule, config.timezone, True
    else:
        return None
    try:
        return checked_schedule(product.identifier, cron, timezone, enabled=enabled)
    except ScheduleError as error:
        raise ScheduleError(f"{where}: {error}") from None
