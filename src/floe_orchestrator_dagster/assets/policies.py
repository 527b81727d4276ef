"""Retries, pool, time limit and resources of steps and runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.deploy.resources import requested_resources

if TYPE_CHECKING:
    from floe_orchestrator_dagster.config import DagsterConfig

MAX_RUNTIME_TAG = "dagster/max_runtime"
K8S_CONFIG_TAG = "dagster-k8s/config"


def retry_policy(config: DagsterConfig) -> dg.RetryPolicy | None:
    """Return the retry policy of steps; None when it is not configured."""
    retries = config.retries
    if retries is None:
        return None
    return dg.RetryPolicy(
        max_retries=retries.max_retries,
        delay=retries.delay_seconds,
        backoff=dg.Backoff[retries.backoff.upper()] if retries.backoff else None,
        jitter=dg.Jitter[retries.jitter.upper()] if retries.jitter else None,
    )


def pool(config: DagsterConfig) -> str | None:
    """Return the concurrency pool of the product's dbt steps; None when it is not configured."""
    return config.concurrency.pool if config.concurrency else None


def op_tags(config: DagsterConfig) -> dict[str, Any]:
    """Return the tags of steps: the resource requests of their pods, for executors with a pod per step."""
    resources = requested_resources(config.run_resources) if config.run_resources else {}
    return {K8S_CONFIG_TAG: {"container_config": {"resources": resources}}} if resources else {}


def run_tags(config: DagsterConfig) -> dict[str, Any]:
    """Return the tags of runs: the time limit in seconds, and the resource requests of the pod."""
    limit = {MAX_RUNTIME_TAG: str(config.timeout_seconds)} if config.timeout_seconds else {}
    return {**limit, **op_tags(config)}
