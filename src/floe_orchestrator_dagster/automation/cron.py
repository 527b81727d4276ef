"""When a job runs: its cron and timezone, checked. Dagster is not needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.config.ticks import check_cron, check_timezone
from floe_orchestrator_dagster.errors import ScheduleError

if TYPE_CHECKING:
    from floe_orchestrator_dagster.product import Product

__all__ = ["JobSchedule", "check_cron", "check_timezone", "checked_schedule", "declared_schedule"]


@dataclass(frozen=True)
class JobSchedule:
    """A job, when it runs, and whether the schedule starts switched on.

    Attributes:
        job_name: Name of the Dagster job.
        cron: Five fields or a macro such as ``@daily``.
        timezone: IANA name.
        enabled: Whether the schedule is running once the code location is loaded.
    """

    job_name: str
    cron: str
    timezone: str
    enabled: bool = True


def checked_schedule(job_name: str, cron: str, timezone: str, *, enabled: bool = True) -> JobSchedule:
    """Make a schedule of values that were checked.

    Raises:
        ScheduleError: A cron or timezone that cannot work.
    """
    return JobSchedule(job_name, check_cron(cron), check_timezone(timezone), enabled)


def declared_schedule(product: Product) -> JobSchedule | None:
    """Read the product's own schedule: floe.yaml's, else the configured default; None without either.

    Raises:
        ScheduleError: A cron or timezone that cannot work; the message says where it was declared.
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
