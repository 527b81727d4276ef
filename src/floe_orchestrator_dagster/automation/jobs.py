"""Jobs of a product, the main one and the configured ones, and the executor of their runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.assets.attributes import AssetAttributes
from floe_orchestrator_dagster.assets.steps import build_tags, option_tags, run_tags
from floe_orchestrator_dagster.automation.targets import partitions_by_job
from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.errors import ArtifactsError, ConfigError, Problem
from floe_orchestrator_dagster.product.profiles import is_on_duckdb
from floe_orchestrator_dagster.product.tags import PRODUCT_TAG, tag_value
from floe_orchestrator_dagster.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from floe_orchestrator_dagster.automation.targets import Targets
    from floe_orchestrator_dagster.product import Product
    from floe_orchestrator_dagster.upstream.dagster_types import UnresolvedAssetJobDefinition


def job_names(product: Product) -> list[str]:
    """Return the names of the product's jobs: the main job, those of partitions, then configured ones."""
    own = dict.fromkeys([product.identifier, *partitions_by_job(product)])
    return [*own, *(job.name for job in product.config.jobs)] if product.models else []


def product_jobs(
    product: Product,
    targets: Targets,
    on_demand: Sequence[dg.AssetCheckKey] = (),
    metadata: Mapping[str, Any] | None = None,
    executor: dg.ExecutorDefinition | None = None,
) -> dict[str, UnresolvedAssetJobDefinition]:
    """Define the main job, the jobs of other partitions, and the configured jobs.

    Args:
        product: The product, with a configuration that ``check_automation`` has accepted.
        targets: Its assets.
        on_demand: Checks that the main job leaves out.
        metadata: Metadata of the main job.
        executor: Executor of the jobs; None for that of the code location.

    Returns:
        The jobs by name.

    Raises:
        ArtifactsError: The product's name is a reserved word.
    """
    jobs = {product.identifier: _product_job(product, targets, on_demand, metadata, executor)}
    tags = job_tags(product)
    for name, definition in _other_partitions(product).items():
        jobs[name] = dg.define_asset_job(
            name,
            selection=dg.AssetSelection.assets(*targets.keys_following(definition)),
            description=f"Builds partitions of the data product {product.name} that its main job does not build.",
            tags=tags,
            executor_def=executor,
        )
    for row, job in enumerate(product.config.jobs):
        keys = targets.keys(job, config_path("jobs", row))
        jobs[job.name] = dg.define_asset_job(
            job.name,
            selection=dg.AssetSelection.assets(*keys),
            description=job.description or f"Builds {counted(len(keys), 'asset')} of the data product {product.name}.",
            tags={**tags, **build_tags(job.build), **option_tags(job), **job.tags},
            executor_def=executor,
        )
    return jobs


def job_tags(product: Product) -> dict[str, Any]:
    """Return the tags of all jobs' runs: product, time limit and resources."""
    return {**AssetAttributes(product).product_tags, **run_tags(product.config)}


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


def _product_job(
    product: Product,
    targets: Targets,
    on_demand: Sequence[dg.AssetCheckKey],
    metadata: Mapping[str, Any] | None,
    executor: dg.ExecutorDefinition | None,
) -> UnresolvedAssetJobDefinition:
    """Define the main job, which builds the whole product, including checks on sources.

    A job has one partitions definition. Assets with other partitions are built by separate jobs.
    """
    selection = dg.AssetSelection.tag(PRODUCT_TAG, tag_value(product.name))
    for definition in _other_partitions(product).values():
        selection = selection - dg.AssetSelection.assets(*targets.keys_following(definition))
    # Sources without checks are not named, because a user can remove sources from the definitions. A job that names a
    # missing asset cannot be loaded.
    if targets.checked_sources:
        # `checks_for_assets` would compare each check with each source.
        on_sources = dg.AssetSelection.assets(*targets.checked_sources) & dg.AssetSelection.all_asset_checks()
        selection = selection | on_sources
    if on_demand:
        selection = selection - dg.AssetSelection.checks(*on_demand)
    return dg.define_asset_job(
        _job_name(product),
        selection=selection,
        description=product.spec.description or f"Builds the data product {product.name}.",
        tags=job_tags(product),
        metadata=metadata,
        executor_def=executor,
    )


def _other_partitions(product: Product) -> dict[str, dg.PartitionsDefinition[str]]:
    by_job = partitions_by_job(product)
    return {name: definition for name, definition in by_job.items() if name != product.identifier}


def _job_name(product: Product) -> str:
    try:
        dg.GraphDefinition(name=product.identifier)
    except dg.DagsterInvalidDefinitionError:
        what = f"{product.name!r} cannot name a Dagster job: it is a reserved word of Dagster or Python"
        fix = "Rename the product in floe.yaml (metadata.name) and compile it again."
        raise ArtifactsError(product.origin, [Problem("metadata.product_name", what, fix)]) from None
    return product.identifier


def _k8s_executor(product: Product) -> dg.ExecutorDefinition:
    try:
        from dagster_k8s import k8s_job_executor
    except ImportError:
        what = "'k8s' needs the package dagster-k8s, which is not installed"
        fix = "Run `pip install dagster-k8s` in the image of the code location."
        raise ConfigError(product.origin, [Problem(config_path("executor"), what, fix)]) from None
    executor: dg.ExecutorDefinition = k8s_job_executor
    return executor
