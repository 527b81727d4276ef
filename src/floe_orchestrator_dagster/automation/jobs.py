"""The jobs of a product: its own, which builds everything, and the configured ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.assets.attributes import AssetAttributes
from floe_orchestrator_dagster.assets.policies import run_tags
from floe_orchestrator_dagster.automation.partitions import partitions_by_job
from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.errors import ArtifactsError, Problem
from floe_orchestrator_dagster.product.tags import PRODUCT_TAG, tag_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

    from floe_orchestrator_dagster.automation.targets import Targets
    from floe_orchestrator_dagster.product import Product


def job_names(product: Product) -> list[str]:
    """Name the product's jobs, its own and those of its partitions first; none without transforms."""
    own = dict.fromkeys([product.identifier, *partitions_by_job(product)])
    return [*own, *(job.name for job in product.config.jobs)] if product.models else []


def product_jobs(
    product: Product, targets: Targets, on_demand: Sequence[dg.AssetCheckKey] = ()
) -> dict[str, UnresolvedAssetJobDefinition]:
    """Define the product's own job, those of its other partitions, then the configured ones, by name.

    Args:
        product: The product, its configuration checked by ``check_automation``.
        targets: Its assets.
        on_demand: Checks that the product's own job leaves out.

    Raises:
        ArtifactsError: The product's name is a reserved word.
    """
    jobs = {product.identifier: _product_job(product, targets, on_demand)}
    tags = job_tags(product)
    for name, definition in _other_partitions(product).items():
        jobs[name] = dg.define_asset_job(
            name,
            selection=dg.AssetSelection.assets(*targets.keys_following(definition)),
            description=f"Builds partitions of the data product {product.name} that its own job cannot.",
            tags=tags,
        )
    for row, job in enumerate(product.config.jobs):
        keys = targets.keys(job.select, job.exclude, config_path("jobs", row))
        jobs[job.name] = dg.define_asset_job(
            job.name,
            selection=dg.AssetSelection.assets(*keys),
            description=job.description or f"Builds {len(keys)} assets of the data product {product.name}.",
            tags={**tags, **job.tags},
        )
    return jobs


def job_tags(product: Product) -> dict[str, Any]:
    """Return the tags that the runs of all jobs carry: the product's, its time limit and resources."""
    return {**AssetAttributes(product).product_tags, **run_tags(product.config)}


def _product_job(
    product: Product, targets: Targets, on_demand: Sequence[dg.AssetCheckKey]
) -> UnresolvedAssetJobDefinition:
    """Define one job over everything the product builds, checks on its sources included, named after it.

    Partitions of another kind than the first are left to jobs of their own.
    """
    selection = dg.AssetSelection.tag(PRODUCT_TAG, tag_value(product.name))
    for definition in _other_partitions(product).values():
        selection = selection - dg.AssetSelection.assets(*targets.keys_following(definition))
    if targets.sources:
        selection = selection | dg.AssetSelection.checks_for_assets(*targets.sources)
    if on_demand:
        selection = selection - dg.AssetSelection.checks(*on_demand)
    return dg.define_asset_job(
        _job_name(product),
        selection=selection,
        description=product.spec.description or f"Builds the data product {product.name}.",
        tags=job_tags(product),
    )


def _other_partitions(product: Product) -> dict[str, dg.PartitionsDefinition[str]]:
    by_job = partitions_by_job(product)
    return {name: definition for name, definition in by_job.items() if name != product.identifier}


def _job_name(product: Product) -> str:
    try:
        dg.GraphDefinition(name=product.identifier)
    except dg.DagsterInvalidDefinitionError:
        what = f"{product.name!r} cannot name a Dagster job: it is a word that Dagster or Python keep for themselves"
        fix = "Rename the product in floe.yaml (metadata.name) and compile it again."
        raise ArtifactsError(product.origin, [Problem("metadata.product_name", what, fix)]) from None
    return product.identifier
