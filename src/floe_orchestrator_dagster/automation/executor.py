"""How the steps of a run are executed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.errors import ConfigError, Problem

if TYPE_CHECKING:
    from floe_orchestrator_dagster.product import Product


def product_executor(product: Product) -> dg.ExecutorDefinition | None:
    """Return the configured executor; None leaves the choice to Dagster (a process per step).

    Raises:
        ConfigError: Steps are to run on Kubernetes and ``dagster-k8s`` is not installed.
    """
    configured = product.config.executor
    if configured == "in_process":
        return dg.in_process_executor
    if configured == "multiprocess":
        return dg.multiprocess_executor
    return _k8s_executor(product) if configured == "k8s" else None


def _k8s_executor(product: Product) -> dg.ExecutorDefinition:
    try:
        from dagster_k8s import k8s_job_executor
    except ImportError:
        what = "'k8s' needs the package dagster-k8s, which is not installed"
        fix = "Run `pip install dagster-k8s` in the image of the code location."
        raise ConfigError(product.origin, [Problem(config_path("executor"), what, fix)]) from None
    executor: dg.ExecutorDefinition = k8s_job_executor
    return executor
