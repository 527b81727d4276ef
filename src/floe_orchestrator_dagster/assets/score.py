"""The asset check with the product's quality score, on the product's asset.

This module has no ``from __future__ import annotations``: Dagster reads the annotation of the context at run time.
"""

from collections.abc import Sequence

import dagster as dg
from floe_core.schemas.quality_score import QualityCheck

from floe_orchestrator_dagster.assets.op_names import checks_step
from floe_orchestrator_dagster.assets.product_translator import ProductTranslator
from floe_orchestrator_dagster.assets.quality import contract_checks, unimplemented_checks
from floe_orchestrator_dagster.assets.stages import QUALITY_SCORE
from floe_orchestrator_dagster.execution.record.quality_score import ScoredChecks, evaluate_score
from floe_orchestrator_dagster.product import Product
from floe_orchestrator_dagster.upstream.dagster_dbt_names import DAGSTER_DBT_UNIQUE_ID_METADATA_KEY


def scored_checks(
    product: Product, key: dg.AssetKey, translator: ProductTranslator, definitions: Sequence[dg.AssetsDefinition]
) -> ScoredChecks | None:
    """Return the checks in the score; None when the contract has no quality config or a disabled one.

    Args:
        product: The product.
        key: The product's asset key.
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
    """Define the check with the product's score, which runs after the product's leaves."""
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
