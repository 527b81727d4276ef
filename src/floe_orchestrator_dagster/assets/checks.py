"""Asset checks in separate steps: source freshness, declared checks that no dbt test implements, and the quality score.

This module has no ``from __future__ import annotations``: Dagster reads the annotation of the context at run time.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from floe_core.schemas.quality_score import QualityCheck

from floe_orchestrator_dagster.assets.names import acceptable_name, checks_step
from floe_orchestrator_dagster.assets.product_translator import ProductTranslator
from floe_orchestrator_dagster.assets.quality import (
    contract_checks,
    declared_metadata,
    product_spec,
    unimplemented_checks,
)
from floe_orchestrator_dagster.assets.selection import NodeSelection
from floe_orchestrator_dagster.assets.stages import QUALITY_SCORE
from floe_orchestrator_dagster.assets.steps import ProductAssets, op_tags, pool, retry_policy
from floe_orchestrator_dagster.execution.record.quality_score import ScoredChecks, evaluate_score
from floe_orchestrator_dagster.execution.step.build import step_events
from floe_orchestrator_dagster.execution.step.run_options import SourceOptions
from floe_orchestrator_dagster.execution.step.source_freshness import check_freshness, freshness_step
from floe_orchestrator_dagster.product import DbtProject, Product
from floe_orchestrator_dagster.product.manifest import freshness_criteria
from floe_orchestrator_dagster.product.quality import UNIMPLEMENTED, DeclaredCheck
from floe_orchestrator_dagster.upstream.dagster_dbt_names import DAGSTER_DBT_UNIQUE_ID_METADATA_KEY

FRESHNESS = "freshness"


@dataclass(frozen=True)
class ProductChecks:
    """Checks in separate steps.

    Attributes:
        definitions: Their definitions.
        assets: The asset that represents the product, when it has checks; else empty.
        on_demand: Checks that the product's main job does not run.
    """

    definitions: list[dg.AssetChecksDefinition] = field(default_factory=list)
    assets: list[dg.AssetSpec] = field(default_factory=list)
    on_demand: list[dg.AssetCheckKey] = field(default_factory=list)


def product_checks(translator: ProductTranslator, built: ProductAssets, selection: NodeSelection) -> ProductChecks:
    """Define the checks of a product's assets; without a dbt project, only the quality score."""
    product, found = translator.product, ProductChecks()
    definitions = _built_by_dagster(built)
    leaves = leaf_keys(definitions)
    scored = scored_checks(product, built.key, translator, definitions)
    if scored is not None:
        found.definitions.append(score_check(scored, leaves))
    if any(key.asset_key == built.key for part in [*definitions, *found.definitions] for key in part.check_keys):
        found.assets.append(product_spec(product, built.key, leaves))
    if product.dbt is not None:
        unimplemented = unimplemented_checks(product, translator.key_of, definitions)
        if unimplemented:
            found.definitions.append(_unimplemented_definition(product, unimplemented))
        sources = _freshness_sources(translator.key_of, product.dbt, definitions)
        if sources:
            found.definitions.append(_freshness_definition(product, product.dbt, sources, built, selection))
            found.on_demand.extend([] if _is_in_product_job(product) else sources)
    return found


def _built_by_dagster(built: ProductAssets) -> list[dg.AssetsDefinition]:
    return [asset for asset in built.definitions if isinstance(asset, dg.AssetsDefinition)]


def _unimplemented_definition(
    product: Product, unimplemented: Mapping[dg.AssetCheckKey, DeclaredCheck]
) -> dg.AssetChecksDefinition:
    specs = [
        dg.AssetCheckSpec(
            key.name,
            asset=key.asset_key,
            description=f"{declared.check.name}: {UNIMPLEMENTED}",
            metadata=declared_metadata(declared.check, product),
        )
        for key, declared in unimplemented.items()
    ]

    @checks_step(name=f"{product.identifier}_unimplemented_checks", specs=specs, can_subset=True)
    def report(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        selected = context.op_execution_context.selected_asset_check_keys
        for key, declared in unimplemented.items():
            if key in selected:
                yield dg.AssetCheckResult(
                    asset_key=key.asset_key,
                    check_name=key.name,
                    passed=False,
                    severity=dg.AssetCheckSeverity.WARN,
                    description=UNIMPLEMENTED,
                    metadata={"declared_at": declared.where},
                )

    return report


def _last_of_each_step(definitions: Sequence[dg.AssetsDefinition]) -> list[dg.AssetKey]:
    """Return one asset of each step, of those that no other asset of the product reads.

    One of each step is enough, because in the product's job a step waits for whole steps. With all of them in the spec
    of each check, the specs would grow with the number of sources times that of models.
    """
    leaves = frozenset(leaf_keys(definitions))
    return [min(found) for definition in definitions if (found := leaves & definition.keys)]


def _is_in_product_job(product: Product) -> bool:
    return product.config.source_freshness == "in_product_job"


def _freshness_sources(
    key_of: Mapping[str, dg.AssetKey], dbt: DbtProject, definitions: Sequence[dg.AssetsDefinition]
) -> dict[dg.AssetCheckKey, str]:
    taken = {spec.key for definition in definitions for spec in definition.check_specs}
    sources = {key: source for key, source in dbt.manifest.content["sources"].items() if freshness_criteria(source)}
    asset_of = {unique_id: key_of[unique_id] for unique_id in sources}
    shared = Counter(asset_of.values())
    keys = {
        dg.AssetCheckKey(asset, FRESHNESS if shared[asset] == 1 else _freshness_name(sources[unique_id])): unique_id
        for unique_id, asset in asset_of.items()
    }
    # A dbt test of the same name keeps the name.
    return {
        dg.AssetCheckKey(key.asset_key, f"source_{FRESHNESS}") if key in taken else key: unique_id
        for key, unique_id in keys.items()
    }


def _freshness_name(source: Mapping[str, Any]) -> str:
    """Return the name of the freshness check of a source that shares its asset with other sources."""
    return acceptable_name(f"{FRESHNESS}_{source['source_name']}_{source['name']}")


def _freshness_definition(
    product: Product,
    dbt: DbtProject,
    sources: Mapping[dg.AssetCheckKey, str],
    built: ProductAssets,
    selection: NodeSelection,
) -> dg.AssetChecksDefinition:
    last = _last_of_each_step(_built_by_dagster(built))
    specs = [
        dg.AssetCheckSpec(
            key.name,
            asset=key.asset_key,
            description="dbt source freshness",
            metadata=freshness_criteria(dbt.manifest.content["sources"][unique_id]),
            # It runs after the steps of the product's job, because only one process can open a DuckDB file.
            additional_deps=last,
        )
        for key, unique_id in sources.items()
    ]

    @checks_step(
        name=freshness_step(product),
        specs=specs,
        can_subset=True,
        compute_kind="dbt",
        op_tags=op_tags(product.config),
        retry_policy=retry_policy(product.config),
        pool=pool(product.config),
    )
    def freshness(context: dg.AssetCheckExecutionContext, config: SourceOptions) -> Iterator[Any]:
        yield from step_events(results(context, config), context.op_execution_context.instance)

    def results(context: dg.AssetCheckExecutionContext, options: SourceOptions) -> Iterator[dg.AssetCheckResult]:
        selected = context.op_execution_context.selected_asset_check_keys
        chosen = {key: unique_id for key, unique_id in sources.items() if key in selected}
        excluded = selection.excluded(options.exclude, context.log.warning)
        yield from check_freshness(context.op_execution_context, product, dbt, chosen, options, built.steps, excluded)

    return freshness


def scored_checks(
    product: Product, key: dg.AssetKey, translator: ProductTranslator, definitions: Sequence[dg.AssetsDefinition]
) -> ScoredChecks | None:
    """Return the checks in the score; None when the contract has no quality config or a disabled one.

    Args:
        product: The product.
        key: Key of the asset that represents the product.
        translator: Translates dbt nodes.
        definitions: The product's assets and their checks.
    """
    config = product.artifacts.quality_config
    if config is None or not config.enabled:
        return None
    unimplemented = unimplemented_checks(product, translator.key_of, definitions)
    return ScoredChecks(
        key=dg.AssetCheckKey(key, QUALITY_SCORE),
        product_name=product.name,
        config=config,
        tests=_tests(translator, definitions) if product.dbt else {**contract_checks(product)},
        unimplemented={key: declared.check for key, declared in unimplemented.items()},
    )


def score_check(scored: ScoredChecks, leaves: Sequence[dg.AssetKey]) -> dg.AssetChecksDefinition:
    """Define the check with the product's score, which runs after the assets of ``leaves``."""
    check_spec = dg.AssetCheckSpec(
        scored.key.name,
        asset=scored.key.asset_key,
        description="Quality score of the product, by floe's formula, from the latest results of its checks.",
        additional_deps=leaves,
        metadata={
            "floe/min_score": scored.config.thresholds.min_score,
            "floe/warn_score": scored.config.thresholds.warn_score,
        },
    )

    @checks_step(name=check_spec.get_python_identifier(), specs=[check_spec])
    def quality_score(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        return evaluate_score(context.op_execution_context.instance, scored)

    return quality_score


def leaf_keys(definitions: Sequence[dg.AssetsDefinition]) -> list[dg.AssetKey]:
    """Return the keys of the assets that no other asset of the product reads."""
    specs = [spec for definition in definitions for spec in definition.specs]
    read = {dep.asset_key for spec in specs for dep in spec.deps}
    return sorted(spec.key for spec in specs if spec.key not in read)


def _tests(
    translator: ProductTranslator, definitions: Sequence[dg.AssetsDefinition]
) -> dict[dg.AssetCheckKey, QualityCheck | None]:
    declared = translator.quality.by_test
    tests = {
        spec.key: str((spec.metadata or {}).get(DAGSTER_DBT_UNIQUE_ID_METADATA_KEY))
        for definition in definitions
        for spec in definition.check_specs
    }
    return {key: declared[test].check if test in declared else None for key, test in tests.items()}
