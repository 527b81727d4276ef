"""Production settings: run queue, monitoring, retries, concurrency limits and compute logs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.deploy.pods import without_none
from floe_orchestrator_dagster.product.tags import PRODUCT_TAG, tag_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from floe_orchestrator_dagster.deploy.pods import Values
    from floe_orchestrator_dagster.deploy.products import DeployedProduct
    from floe_orchestrator_dagster.deploy.settings import LogStore

# Dagster 1.12 and newer set this tag on every run, also on those of the asset graph's own job, which have no tags of a
# product's job.
_LOCATION_TAG = "dagster/code_location"
_CONCURRENT_RUNS = {"small": 5, "medium": 10, "large": 25}
_PRODUCTS_PER_THREAD = 5
_FEWEST_THREADS, _MOST_THREADS = 4, 16
# With the interval of the checks, a pod that dies while it starts is found within two minutes.
_SHORTEST_START = 90
_SCHEDULING_SECONDS = 30
_LOCAL_LOGS = "/tmp"  # noqa: S108  # a volume of the pod's own


def run_coordinator(products: int) -> Values:
    """Return the run queue, with a number of workers that grows with the number of products."""
    queue = {"dequeueUseThreads": True, "dequeueNumWorkers": _worker_count(products)}
    return {"enabled": True, "type": "QueuedRunCoordinator", "config": {"queuedRunCoordinator": queue}}


def threads(products: int) -> Values:
    """Return settings that evaluate sensors or schedules in threads: a code location that hangs blocks no others."""
    return {"useThreads": True, "numWorkers": _worker_count(products)}


def _worker_count(products: int) -> int:
    return min(max(math.ceil(products / _PRODUCTS_PER_THREAD), _FEWEST_THREADS), _MOST_THREADS)


def run_monitoring(
    products: Sequence[DeployedProduct], load_seconds: float, start_timeout: int | None = None
) -> Values:
    """Return the detection of runs whose pod is gone, hangs, does not start, or takes too long.

    Jobs have the time limit of their product. All other runs, such as those of the asset graph, have the longest one,
    if every product has one.

    Runs are not resumed, but retried. With resumes, Dagster does not end the pods of steps when a run with a pod per
    step is terminated (https://github.com/dagster-io/dagster/issues/33923).

    Args:
        products: The products.
        load_seconds: Longest time that the process of a run needs to load its product.
        start_timeout: Seconds after which a run that has not started fails; None to compute the time.
    """
    time_limits = [product.config.timeout_seconds for product in products]
    declared = [limit for limit in time_limits if limit is not None]
    monitoring = {
        "enabled": True,
        "startTimeoutSeconds": start_timeout or max(math.ceil(2 * load_seconds) + _SCHEDULING_SECONDS, _SHORTEST_START),
        "cancelTimeoutSeconds": 300,
        "maxRuntimeSeconds": max(declared) if len(declared) == len(time_limits) else None,
        "pollIntervalSeconds": 20,
        "maxResumeRunAttempts": 0,
        "freeSlotsAfterRunEndSeconds": 300,
    }
    return without_none(monitoring)


def run_retries() -> Values:
    """Return the retries of runs whose pod crashed. ``retries`` in the configuration covers failures in dbt."""
    return {"enabled": True, "maxRetries": 2, "retryOnAssetOrOpFailure": False}


def concurrency(products: Sequence[DeployedProduct], size: str) -> Values:
    """Return the number of concurrent runs by size, one run of each product on DuckDB, and the limits of pools."""
    limits = [product.config.concurrency.limit for product in products if product.config.concurrency]
    declared = [limit for limit in limits if limit is not None]
    alone = [product for product in products if product.on_duckdb]
    return {
        "enabled": True,
        "pools": without_none({"granularity": "op", "defaultLimit": min(declared, default=None)}),
        "runs": {
            "maxConcurrentRuns": _CONCURRENT_RUNS[size],
            "tagConcurrencyLimits": [limit for product in alone for limit in _one_at_a_time(product)],
        },
    }


def _one_at_a_time(product: DeployedProduct) -> list[Values]:
    tags = {_LOCATION_TAG: product.service, PRODUCT_TAG: tag_value(product.name)}
    return [{"key": key, "value": value, "limit": 1} for key, value in tags.items()]


def compute_logs(store: LogStore | None) -> Values | None:
    """Return the storage of the steps' output, accessed with the pod's identity; None to use ``kubectl logs`` only."""
    if store is None:
        return None
    prefix = {"prefix": store.path} if store.path else {}
    if store.scheme == "s3":
        config = {"bucket": store.bucket, "localDir": _LOCAL_LOGS, "skipEmptyFiles": True, **prefix}
        return {"type": "S3ComputeLogManager", "config": {"s3ComputeLogManager": config}}
    if store.scheme == "gs":
        config = {"bucket": store.bucket, "localDir": _LOCAL_LOGS, **prefix}
        return {"type": "GCSComputeLogManager", "config": {"gcsComputeLogManager": config}}
    container, _, path = store.path.partition("/")
    config = {
        "storageAccount": store.bucket,
        "container": container,
        "defaultAzureCredential": {"exclude_environment_credential": False},
        "localDir": _LOCAL_LOGS,
        **({"prefix": path} if path else {}),
    }
    return {"type": "AzureBlobComputeLogManager", "config": {"azureBlobComputeLogManager": config}}
