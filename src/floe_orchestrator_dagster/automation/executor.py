"""How the steps of a run are executed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.errors import ConfigError, Problem
from floe_orchestrator_dagster.product.profiles import is_on_duckdb

if TYPE_CHECKING:
    from floe_orchestrator_dagster.product import Product


def product_executor(product: Product) -> dg.ExecutorDefinition | None:
    """Return the configured executor; None leaves the choice to Dagster (a process per step).

    On a DuckDB file steps run one after the other: it lets one process in at a time.

    Raises:
        ConfigError: Steps are to run on Kubernetes and ``dagster-k8s`` is not installed.
    """
    configured = product.config.executor
    if configured == "in_process":
        return dg.in_process_executor
    at_once = steps_at_once(product)
    limit = {"max_concurrent": at_once} if at_once else {}
    if configured == "k8s":
        executor = _k8s_executor(product)
        return executor.configured(limit) if limit else executor
    if limit:
        return dg.multiprocess_executor.configured(limit)
    return dg.multiprocess_executor if configured == "multiprocess" else None


def steps_at_once(product: Product) -> int | None:
    """Return how many steps of a run may run at once; None when that is the executor's to decide."""
    return 1 if product.config.executor == "in_process" or is_on_duckdb(product.artifacts) else None


def _k8s_executor(product: Product) -> dg.ExecutorDefinition:
    try:
        from dagster_k8s import k8s_job_executor
    except ImportError:
        what = "'k8s' needs the package dagster-k8s, which is not installed"
        fix = "Run `pip install dagster-k8s` in the image of the code location."
        raise ConfigError(product.origin, [Problem(config_path("executor"), what, fix)]) from None
    executor: dg.ExecutorDefinition = k8s_job_executor
    return executor
