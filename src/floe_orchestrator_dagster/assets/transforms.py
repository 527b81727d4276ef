"""Assets of products without a dbt manifest, one per declared model.

This module has no ``from __future__ import annotations``: Dagster reads the annotation of the context at run time.
"""

import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import dagster as dg
from floe_core.plugins.orchestrator import TransformConfig
from floe_core.schemas.compiled_artifacts import ResolvedModel
from floe_core.schemas.quality_score import QualityCheck

from floe_orchestrator_dagster.assets.attributes import (
    AssetAttributes,
    dagster_owners,
    declared_tags,
    metadata_beside_tags,
)
from floe_orchestrator_dagster.assets.checks import scored_checks
from floe_orchestrator_dagster.assets.contracts import (
    contract_metadata,
    contract_owners,
    contract_tags,
)
from floe_orchestrator_dagster.assets.freshness import freshness_attributes
from floe_orchestrator_dagster.assets.product_translator import ProductTranslator
from floe_orchestrator_dagster.assets.quality import contract_checks, declared_check_spec, product_key
from floe_orchestrator_dagster.assets.steps import op_tags, pool, retry_policy
from floe_orchestrator_dagster.config import DagsterConfig
from floe_orchestrator_dagster.errors import ArtifactsError, Problem
from floe_orchestrator_dagster.execution.record.quality_score import ScoredChecks
from floe_orchestrator_dagster.execution.step.build import build_model, step_events
from floe_orchestrator_dagster.execution.step.quality_checks import build_checked_model
from floe_orchestrator_dagster.product import DbtConnection, Product, connection_for_model, connection_for_product
from floe_orchestrator_dagster.product.artifacts import dependency_problems
from floe_orchestrator_dagster.product.contracts import contract_of
from floe_orchestrator_dagster.product.tags import tag_value


def transform_assets(transforms: Sequence[TransformConfig]) -> list[dg.AssetsDefinition]:
    """Define one asset per transform, which runs ``dbt build`` for its model.

    The dbt project is looked up when an asset is materialized, so that the graph can be shown without one.

    Raises:
        ArtifactsError: A name is empty or duplicate, a model depends on itself, or dependencies form a cycle.
    """
    unnamed = [place for row, transform in enumerate(transforms) for place in _unnamed(transform, f"transforms[{row}]")]
    if unnamed:
        raise ArtifactsError("transforms", [Problem(place, "is empty", "Name the dbt model.") for place in unnamed])
    models = [
        ResolvedModel(name=transform.name, compute=transform.compute or "default", depends_on=transform.depends_on)
        for transform in transforms
    ]
    problems = dependency_problems(models)
    if problems:
        raise ArtifactsError("transforms", problems)
    return [
        _model_asset(
            _transform_spec(transform),
            transform.name,
            partial(connection_for_model, transform.path, transform.compute),
            DagsterConfig(),
        )
        for transform in transforms
    ]


def _unnamed(transform: TransformConfig, place: str) -> Iterator[str]:
    if not transform.name:
        yield f"{place}.name"
    yield from (f"{place}.depends_on[{row}]" for row, name in enumerate(transform.depends_on) if not name)


def contract_assets(
    product: Product, conditions: Mapping[str, dg.AutomationCondition[Any]] = MappingProxyType({})
) -> list[dg.AssetsDefinition]:
    """Define one asset per declared model of a product without a dbt project, with its declared checks.

    Args:
        product: The product.
        conditions: Automation conditions, by the model's name.

    Raises:
        ArtifactsError: A data contract is not valid.
    """
    attributes = AssetAttributes(product)
    checks = contract_checks(product)
    assets: list[dg.AssetsDefinition] = []

    def scored() -> ScoredChecks | None:
        return scored_checks(product, contract_key(product), ProductTranslator(product), assets)

    for model in product.models:
        spec = _contract_spec(model, attributes).replace_attributes(automation_condition=conditions.get(model.name))
        own = {key: check for key, check in checks.items() if key.asset_key == spec.key}
        assets.append(_checked_asset(spec, model, product, own, scored))
    return assets


def contract_key(product: Product) -> dg.AssetKey:
    """Return the asset key of a product without a dbt project."""
    return product_key(product, [dg.AssetKey([*product.config.key_prefix, model.name]) for model in product.models])


def _contract_spec(model: ResolvedModel, attributes: AssetAttributes) -> dg.AssetSpec:
    product = attributes.product
    prefix, by_tier = product.config.key_prefix, product.config.group_by == "tier"
    contract = contract_of(attributes.table_contracts, model.name)
    described = contract.table.description if contract else None
    return dg.AssetSpec(
        key=dg.AssetKey([*prefix, model.name]),
        deps=[dg.AssetKey([*prefix, name]) for name in model.depends_on or []],
        description=described or f"dbt model {model.name}",
        group_name=(by_tier and attributes.tier([model.name])) or product.identifier,
        tags={**(contract_tags(contract) if contract else {}), **attributes.tags([model.name])},
        kinds={"dbt", tag_value(model.compute.lower()), *attributes.kinds([model.name])},
        owners=(contract_owners(contract) if contract else []) or attributes.owners,
        metadata={**attributes.metadata([model.name]), **(contract_metadata(contract, {}) if contract else {})},
        **freshness_attributes(contract),
    )


def _checked_asset(
    spec: dg.AssetSpec,
    model: ResolvedModel,
    product: Product,
    checks: Mapping[dg.AssetCheckKey, QualityCheck],
    scored: Callable[[], ScoredChecks | None],
) -> dg.AssetsDefinition:
    specs = [
        declared_check_spec(dg.AssetCheckSpec(key.name, asset=key.asset_key), check, product)
        for key, check in checks.items()
    ]

    @dg.multi_asset(
        name=_op_name(spec.key),
        outs=_outs(spec),
        ins=_ins(spec),
        check_specs=specs,
        op_tags=op_tags(product.config),
        retry_policy=retry_policy(product.config),
        pool=pool(product.config),
    )
    def materialize(context: dg.AssetExecutionContext) -> Iterator[Any]:
        dbt = connection_for_product(product, model.compute)
        events = build_checked_model(context, dbt, model, checks, product.config.dbt)
        yield from step_events(events, context.instance, scored())

    return materialize


def _transform_spec(transform: TransformConfig) -> dg.AssetSpec:
    described = {
        "floe/schema": transform.schema_name,
        "floe/path": transform.path,
        "dagster_dbt/materialization_type": transform.materialization,
    }
    owner = transform.meta.get("owner")
    return dg.AssetSpec(
        key=transform.name,
        deps=transform.depends_on,
        description=str(transform.meta.get("description") or f"dbt model {transform.name}"),
        tags={
            **declared_tags(transform.tags),
            **({"floe/compute": tag_value(transform.compute)} if transform.compute else {}),
        },
        kinds={"dbt", *([tag_value(transform.compute.lower())] if transform.compute else [])},
        owners=dagster_owners(owner if isinstance(owner, str) else None),
        metadata={
            **{key: value for key, value in described.items() if value},
            **metadata_beside_tags({"floe/compute": transform.compute or ""}),
        },
    )


def _model_asset(
    spec: dg.AssetSpec, name: str, connect: Callable[[], DbtConnection], config: DagsterConfig
) -> dg.AssetsDefinition:
    # The context is the only argument: any other untyped one would become an upstream asset.
    @dg.multi_asset(
        name=_op_name(spec.key),
        outs=_outs(spec),
        ins=_ins(spec),
        op_tags=op_tags(config),
        retry_policy=retry_policy(config),
        pool=pool(config),
    )
    def materialize(context: dg.AssetExecutionContext) -> Iterator[Any]:
        yield from step_events(built(context), context.instance)

    def built(context: dg.AssetExecutionContext) -> Iterator[Any]:
        yield build_model(context, connect(), name, config.dbt)

    return materialize


def _ins(spec: dg.AssetSpec) -> dict[str, dg.AssetIn]:
    # Explicit names of inputs: names derived from keys are not valid for models such as `orders.v2` or `ä`.
    return {_op_name(dep.asset_key): dg.AssetIn(key=dep.asset_key, dagster_type=dg.Nothing) for dep in spec.deps}


def _outs(spec: dg.AssetSpec) -> dict[str, dg.AssetOut]:
    # An explicit name of the output: names derived from keys are not valid for models such as `config` or `type`.
    return {"result": dg.AssetOut.from_spec(spec.replace_attributes(deps=[]))}


def _op_name(key: dg.AssetKey) -> str:
    """Return a unique op name that is not a job's name or a reserved word.

    A name with replaced characters ends in a checksum, because keys can differ only in these characters.
    """
    readable = re.sub(r"[^A-Za-z0-9_]", "_", "__".join(key.path))
    exact = readable == "__".join(key.path)
    return f"dbt_build_{readable}" if exact else f"dbt_build_{readable}_{zlib.crc32(key.to_string().encode()):08x}"
