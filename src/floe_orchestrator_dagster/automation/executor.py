"""The executor of a product's runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.errors import ConfigError, Problem
from floe_orchestrator_dagster.product.profiles import is_on_duckdb

if TYPE_CHECKING:
    from floe_orchestrator_dagster.product import Product


def product_executor(product: Product) -> dg.ExecutorDefinition | None:
    """Return the configured executor; None for Dagster's default (a process per step).

    With a DuckDB file, steps run one at a time, because only one process can open the file.

    Raises:
        ConfigError: The executor is ``k8s``, and ``dagster-k8s`` is not installed.
    """
    configured = product.config.executor
    if configured == "in_process":
        return dg.in_process_executor
    at_once = max_concurrent_steps(product)
    limit = {"max_concurrent": at_once} if at_once else {}
    if configured == "k8s":
        executor = _k8s_executor(product)
        return executor.configured(limit) if limit else executor
    if limit:
        return dg.multiprocess_executor.configured(limit)
    return dg.multiprocess_executor if configured == "multiprocess" else None


def max_concurrent_steps(product: Product) -> int | None:
    """Return the maximum number of concurrent steps of a run; None for the executor's default."""
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
