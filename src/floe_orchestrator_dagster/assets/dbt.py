"""The dbt project of a product as assets, checks and sources.

Annotations are evaluated in this module: Dagster wants the context's type itself, not its name.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster_dbt import dbt_assets

from floe_orchestrator_dagster.assets.quality import declared_severities
from floe_orchestrator_dagster.assets.score import scored_checks
from floe_orchestrator_dagster.assets.translator import FloeDbtTranslator
from floe_orchestrator_dagster.execution.build import build_selection
from floe_orchestrator_dagster.execution.score import scored_when_failing
from floe_orchestrator_dagster.execution.selection import dbt_nodes
from floe_orchestrator_dagster.product import DbtProject, Product

# What dagster-dbt attaches for itself (manifest, translator): objects that a source asset has no use for.
_INTERNAL_METADATA = "dagster_dbt/"


def dbt_project_assets(product: Product, dbt: DbtProject) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """One subsettable ``@dbt_assets`` over the whole project, and one spec per source.

    Models, seeds and snapshots are assets, dbt tests their checks. Sources are declared once, here, and only referred
    to by the models that read them.
    """
    translator = FloeDbtTranslator(product)
    sources = _source_specs(translator, dbt)
    if not dbt.manifest.asset_nodes:
        return [*sources]

    @dbt_assets(
        manifest=dbt.manifest.content,
        name=f"{product.identifier}_dbt_build",
        dagster_dbt_translator=translator,
    )
    def build(context: dg.AssetExecutionContext) -> Iterator[Any]:
        events = build_selection(context, dbt, nodes, translator)
        yield from scored_when_failing(events, context.instance, scored) if scored else events

    severities = declared_severities(build.check_specs)
    nodes = dbt_nodes(build, dbt.manifest, translator.quality.disabled_tests, severities)
    scored = scored_checks(product, translator, [build])
    return [build, *sources]


def _source_specs(translator: FloeDbtTranslator, dbt: DbtProject) -> list[dg.AssetSpec]:
    manifest = dbt.manifest.content
    specs = (translator.get_asset_spec(manifest, unique_id, None) for unique_id in manifest["sources"])
    return list({spec.key: _source_spec(spec) for spec in specs}.values())


def _source_spec(spec: dg.AssetSpec) -> dg.AssetSpec:
    metadata = {key: value for key, value in spec.metadata.items() if not key.startswith(_INTERNAL_METADATA)}
    return spec.replace_attributes(metadata=metadata, skippable=False, code_version=None, automation_condition=None)
