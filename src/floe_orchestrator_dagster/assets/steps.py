"""Names, retries, pools, time limits and resources of the steps that run dbt."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.config.models import PodResources
from floe_orchestrator_dagster.deploy.resources import requested_resources
from floe_orchestrator_dagster.execution.step.run_options import BUILD_TAG, OPTION_TAG
from floe_orchestrator_dagster.execution.step.source_freshness import freshness_step

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from floe_orchestrator_dagster.assets.stages import StagedGraph
    from floe_orchestrator_dagster.config import DagsterConfig
    from floe_orchestrator_dagster.config.automation import DbtRunConfig
    from floe_orchestrator_dagster.execution.step.build_plan import DbtStep
    from floe_orchestrator_dagster.product import Product


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


def op_tags(config: DagsterConfig, own: PodResources | None = None) -> dict[str, Any]:
    """Return the tags of steps: the resource requests of their pods, for executors with a pod per step.

    Args:
        config: The configuration.
        own: Resources of these steps, which override those of runs.
    """
    # Both are merged here. Dagster then merges the result with the resources of the code location.
    resources = requested_resources(own or PodResources(), config.run_resources)
    return {K8S_CONFIG_TAG: {"container_config": {"resources": resources}}} if resources else {}


def run_tags(config: DagsterConfig) -> dict[str, Any]:
    """Return the tags of runs: the time limit in seconds, and the resource requests of the pod."""
    limit = {MAX_RUNTIME_TAG: str(config.timeout_seconds)} if config.timeout_seconds else {}
    return {**limit, **op_tags(config)}


def option_tags(entry: DbtRunConfig) -> dict[str, str]:
    """Return the tags of runs whose job or schedule sets options of dbt."""
    return {f"{OPTION_TAG}{name}": value for name, value in entry.dbt_options.items()}


def build_tags(build: str | None) -> dict[str, str]:
    """Return the tag of runs whose job or schedule chooses what they build; empty if it does not."""
    return {BUILD_TAG: build} if build else {}


@dataclass(frozen=True)
class ProductAssets:
    """Dagster assets of a product's models and sources.

    Attributes:
        definitions: Assets with their checks, and specs of the sources.
        key: Key of the product's asset.
        steps: Names of the steps that run dbt, including source freshness; empty without a dbt project.
        builds: The steps that build models and run tests, each after those that it reads.
    """

    definitions: Sequence[dg.AssetsDefinition | dg.AssetSpec]
    key: dg.AssetKey
    steps: tuple[str, ...] = ()
    builds: tuple[DbtStep, ...] = ()


@dataclass(frozen=True)
class DbtSteps:
    """Names of a product's steps that run dbt.

    Attributes:
        stages: Names of the stages' steps, in order.
        late: Names of the steps that run tests after all stages, one for each compute.
        freshness: Name of the step of source freshness.
    """

    stages: tuple[str, ...]
    late: tuple[str, ...]
    freshness: str

    @property
    def names(self) -> tuple[str, ...]:
        """All names."""
        return (*self.stages, *self.late, self.freshness)


def dbt_steps(product: Product, graph: StagedGraph) -> DbtSteps:
    """Return the names of the steps that run a product's stages, the tests after all stages, and source freshness."""
    return DbtSteps(_stage_names(product, graph), _late_names(product, graph), freshness_step(product))


def _stage_names(product: Product, graph: StagedGraph) -> tuple[str, ...]:
    """Name each stage after the product, its part, its compute and partitions if there are several, and its number."""
    if len(graph.stages) == 1:
        return (f"{product.identifier}_dbt_build",)
    several = len({compute for compute, _ in (stage.lane for stage in graph.stages)}) > 1
    names: list[str] = []
    for stage in graph.stages:
        compute, row = stage.lane
        parts = [
            *([_word(stage.part.name)] if stage.part else []),
            *([_word(compute)] if several else []),
            *([product.config.partitions[row].type] if row is not None else []),
        ]
        name = "_".join([f"{product.identifier}_dbt_build", *parts])
        names.append(_free(name, names))
    return tuple(names)


def _late_names(product: Product, graph: StagedGraph) -> tuple[str, ...]:
    names: list[str] = []
    for compute in graph.late_tests:
        names.append(_free(f"{product.identifier}_dbt_test_{_word(compute)}", names))
    return tuple(names)


def _free(name: str, taken: Collection[str]) -> str:
    numbered = (name if number == 1 else f"{name}_{number}" for number in count(1))
    return next(free for free in numbered if free not in taken)


def _word(name: str) -> str:
    return re.sub(r"\W", "_", name, flags=re.ASCII)
