"""What the configuration says of every step and run: retries, pool, time limit, resources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.deploy.resources import asked_resources

if TYPE_CHECKING:
    from floe_orchestrator_dagster.config import DagsterConfig

MAX_RUNTIME_TAG = "dagster/max_runtime"
K8S_CONFIG_TAG = "dagster-k8s/config"


def retry_policy(config: DagsterConfig) -> dg.RetryPolicy | None:
    """Return how often a failed step is tried again; None when nothing is configured."""
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
    """Return the pool that the product's dbt steps take a slot of; None when nothing is configured."""
    return config.concurrency.pool if config.concurrency else None


def op_tags(config: DagsterConfig) -> dict[str, Any]:
    """Return the tags of the product's steps: what their pods ask for, where each step has one."""
    resources = asked_resources(config.run_resources) if config.run_resources else {}
    return {K8S_CONFIG_TAG: {"container_config": {"resources": resources}}} if resources else {}


def run_tags(config: DagsterConfig) -> dict[str, Any]:
    """Return the tags that every run carries: its time limit (s) and what its pod asks for."""
    limit = {MAX_RUNTIME_TAG: str(config.timeout_seconds)} if config.timeout_seconds else {}
    return {**limit, **op_tags(config)}
