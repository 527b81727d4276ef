"""Assets, asset checks and source specs of a product's dbt project.

This module has no ``from __future__ import annotations``: Dagster reads the annotation of the context at run time.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any, TypeAlias

import dagster as dg

from floe_orchestrator_dagster.assets.attributes import AssetAttributes, owner_problems
from floe_orchestrator_dagster.assets.checks import scored_checks
from floe_orchestrator_dagster.assets.functions import uncalled_by_stage
from floe_orchestrator_dagster.assets.names import PlaceholderKeys, PlaceholderTranslator, checks_step
from floe_orchestrator_dagster.assets.partitions import (
    backfill_policy,
    partition_metadata,
    partitioned_nodes,
    partitions_definitions,
    reads_partition,
)
from floe_orchestrator_dagster.assets.parts import built_parents, product_parts
from floe_orchestrator_dagster.assets.product_translator import ProductTranslator
from floe_orchestrator_dagster.assets.quality import declared_severities, product_quality
from floe_orchestrator_dagster.assets.selection import NodeSelection
from floe_orchestrator_dagster.assets.stage_manifest import (
    dagster_dbt_id,
    marked_manifest,
    selection_of_marked,
    stage_manifest,
    with_unit_tests,
)
from floe_orchestrator_dagster.assets.stages import DbtTest, Lane, Stage, staged_graph
from floe_orchestrator_dagster.assets.steps import ProductAssets, dbt_steps, op_tags, pool, retry_policy
from floe_orchestrator_dagster.config.models import PartitionsConfig
from floe_orchestrator_dagster.errors import ManifestError, Problem
from floe_orchestrator_dagster.execution.record.quality_score import ScoredChecks, recorded_score
from floe_orchestrator_dagster.execution.step.build import build_selection, step_events, test_selection
from floe_orchestrator_dagster.execution.step.build_plan import DbtStep
from floe_orchestrator_dagster.execution.step.node_selection import DbtNodes, dbt_nodes
from floe_orchestrator_dagster.execution.step.run_options import DbtOptions
from floe_orchestrator_dagster.product import DbtProject, Product
from floe_orchestrator_dagster.product.manifest import Manifest
from floe_orchestrator_dagster.upstream.dagster_asset_keys import remember_output_keys, with_keys_kept
from floe_orchestrator_dagster.upstream.dagster_dbt_names import DAGSTER_DBT_UNIQUE_ID_METADATA_KEY, dbt_assets
from floe_orchestrator_dagster.upstream.dagster_dbt_selection import preselected

logger = logging.getLogger(__name__)

Conditions: TypeAlias = Mapping[str, dg.AutomationCondition[Any]]

# Prefix of dagster-dbt's internal metadata (manifest, translator), which source assets do not need.
_INTERNAL_METADATA = "dagster_dbt/"


@dataclass(frozen=True)
class _Project:
    """Values that all stages of a project share.

    Attributes:
        product: The product.
        dbt: Its dbt project.
        translator: Translates each node once for all stages.
        key_of: Key of every model, seed, snapshot and source that is an asset, by unique id.
        lanes: Compute and partitions of each model, seed and snapshot, by unique id.
        partitions: Definitions of the configured partitions, in the configuration's order.
        scored: Returns the checks in the product's quality score, once all definitions exist.
        checks: Returns the checks of all tests by unique id, once all definitions exist.
        tests: Unique ids of all tests, in stages and after them.
        selection: Resolves dbt selections.
        steps: Names of the steps that run dbt, including source freshness.
    """

    product: Product
    dbt: DbtProject
    translator: ProductTranslator
    key_of: Mapping[str, dg.AssetKey]
    lanes: Mapping[str, Lane]
    partitions: Sequence[dg.PartitionsDefinition[str]]
    scored: Callable[[], ScoredChecks | None]
    checks: Callable[[], Mapping[str, dg.AssetCheckKey]]
    tests: frozenset[str]
    selection: NodeSelection
    steps: tuple[str, ...]


def dbt_project_assets(
    translator: ProductTranslator, dbt: DbtProject, selection: NodeSelection, conditions: Conditions
) -> ProductAssets:
    """Define one subsettable ``@dbt_assets`` per stage of the project, and one spec per source that is an asset.

    A project on a single compute has one stage, unless the configuration cuts it into parts. Models, seeds and
    snapshots become assets, dbt tests their checks. Tests that must wait for several stages run in a separate step.

    Raises:
        FloeDagsterError: Nodes have the same key, an owner or partitions are not valid, or a test requests a compute
            that the product does not have.
    """
    product, sources = translator.product, translator.sources
    problems = [*sources.problems, *owner_problems(dbt.manifest)]
    if problems:
        raise ManifestError(str(dbt.manifest.path), problems)
    lanes = _lanes(product, dbt.manifest, selection)
    default_compute = AssetAttributes(product).compute([])
    disabled = product_quality(product).disabled_tests
    parts = (
        product_parts(product, selection, built_parents(dbt.manifest, sources.tables)) if product.config.steps else ()
    )
    graph = staged_graph(dbt.manifest, lanes, default_compute, disabled, sources.tables, parts)
    steps = dbt_steps(product, graph)
    groups = [*(stage.tests for stage in graph.stages), *graph.late_tests.values()]
    tests = {unique_id: test for group in groups for unique_id, test in group.items()}
    first = [_in_order(stage, dbt.manifest)[0] for stage in graph.stages]
    partitions = partitions_definitions(product)
    windowed = _windowed_tests(product, dbt.manifest, graph.stages)
    windows = {unique_id: partitions[row] for unique_id, row in windowed.items()}
    partitioned = {unique_id: partitions[row] for unique_id, (_, row) in lanes.items() if row is not None}
    translator = translator.placed(tests, conditions, first, partitioned, windows)
    definitions: list[dg.AssetsDefinition] = []
    builds: list[DbtStep] = []
    project = _Project(
        product=product,
        dbt=dbt,
        translator=translator,
        key_of=translator.key_of,
        lanes=lanes,
        partitions=partitions,
        # The list is complete when a step calls this.
        scored=partial(scored_checks, product, translator.product_key, translator, definitions),
        checks=partial(_checks_by_test, definitions),
        tests=frozenset(tests),
        selection=selection,
        steps=steps.names,
    )
    uncalled = uncalled_by_stage(dbt.manifest, graph.stages, sources.tables, [*translator.key_of, *tests])
    for stage, name, functions in zip(graph.stages, steps.stages, uncalled, strict=True):
        assets, step = _stage_assets(project, stage, name, functions)
        definitions.append(assets)
        builds.append(step)
    for (compute, late), name in zip(graph.late_tests.items(), steps.late, strict=True):
        checks, step = _late_checks(project, compute, late, name)
        definitions.append(checks)
        builds.append(step)
    return ProductAssets(
        [*definitions, *_source_specs(translator, dbt)], translator.product_key, steps.names, tuple(builds)
    )


def _lanes(product: Product, manifest: Manifest, selection: NodeSelection) -> dict[str, Lane]:
    """Return compute and partitions of each model, seed and snapshot."""
    attributes = AssetAttributes(product)
    rows = partitioned_nodes(product, selection)
    return {
        node["unique_id"]: (attributes.compute(attributes.names(node)), rows.get(node["unique_id"]))
        for node in manifest.asset_nodes
    }


def _windowed_tests(product: Product, manifest: Manifest, stages: Sequence[Stage]) -> dict[str, int]:
    """Return the index in ``partitions`` of each test that reads the partition of the table that it checks."""
    rules, nodes = product.config.partitions, manifest.content["nodes"]
    rows = {
        unique_id: stage.lane[1]
        for stage in stages
        for unique_id, test in stage.tests.items()
        if test.checks in stage.nodes
    }
    return {
        unique_id: row
        for unique_id, row in rows.items()
        if row is not None and reads_partition(nodes.get(unique_id, {}), rules[row])
    }


def _stage_assets(
    project: _Project, stage: Stage, name: str, uncalled: frozenset[str]
) -> tuple[dg.AssetsDefinition, DbtStep]:
    """Define the assets of a stage, with the step that builds them and ``uncalled`` functions and runs their tests."""
    compute, row = stage.lane
    settings, dbt, translator = project.product.config, project.dbt, project.translator
    rule = settings.partitions[row] if row is not None else None
    whole = stage.tests.keys() >= project.tests and len(stage.nodes) == len(dbt.manifest.asset_nodes)
    manifest = stage_manifest(dbt.manifest, stage)

    def build(context: dg.AssetExecutionContext, config: DbtOptions) -> Iterator[Any]:
        remember_output_keys(context)
        yield from step_events(build_selection(context, step, config), context.instance, project.scored())

    decorate = partial(
        dbt_assets,
        select="fqn:*" if whole else selection_of_marked(name),
        name=name,
        partitions_def=project.partitions[row] if row is not None else None,
        backfill_policy=backfill_policy(rule) if rule else None,
        dagster_dbt_translator=translator,
        op_tags=op_tags(settings, stage.part.resources if stage.part else None),
        retry_policy=retry_policy(settings),
        pool=pool(settings),
    )
    assets = _decorated(build, decorate, translator, manifest, stage)
    found = dbt_nodes(assets.specs, assets.check_specs, dbt.manifest, project.key_of)
    severities = declared_severities(assets.check_specs)
    disabled = translator.quality.disabled_tests
    nodes = replace(found, whole=whole, disabled=disabled, severities=severities, uncalled=uncalled)
    step = _step(project, compute, nodes, rule)
    assets = assets.map_asset_specs(partial(_with_partition_metadata, rule)) if rule else assets
    return with_keys_kept(assets), step


def _step(project: _Project, compute: str, nodes: DbtNodes, rule: PartitionsConfig | None = None) -> DbtStep:
    sources = project.translator.sources
    own = {source: node for source, node in sources.tables.items() if project.lanes[node][0] == compute}
    return DbtStep(
        connection=project.dbt.on(compute),
        nodes=nodes,
        manifest=project.dbt.manifest,
        product=project.product,
        steps=project.steps,
        key_of=project.key_of,
        source_tables=own,
        unclear_sources=sources.unclear | (sources.tables.keys() - own.keys()),
        product_key=project.translator.product_key,
        excluded=project.selection.excluded,
        partitions=rule,
        compute=compute,
        lanes=project.lanes,
        all_checks=project.checks,
    )


def _checks_by_test(definitions: Sequence[dg.AssetsDefinition]) -> dict[str, dg.AssetCheckKey]:
    specs = [spec for definition in definitions for spec in definition.check_specs]
    ids = [(spec.metadata or {}).get(DAGSTER_DBT_UNIQUE_ID_METADATA_KEY) for spec in specs]
    return {str(unique_id): spec.key for unique_id, spec in zip(ids, specs, strict=True) if unique_id}


def _decorated(
    build: Callable[..., Any],
    decorate: partial[Callable[[Callable[..., Any]], dg.AssetsDefinition]],
    translator: ProductTranslator,
    manifest: Manifest,
    stage: Stage,
) -> dg.AssetsDefinition:
    """Define the ``@dbt_assets`` of a stage. dbt's selection runs only if dagster-dbt does not accept known nodes."""
    keys = _placeholder_keys(stage, translator, manifest)
    if keys.by_key:
        decorate = partial(decorate, dagster_dbt_translator=PlaceholderTranslator(translator, keys))
    known = dict.fromkeys(_in_order(stage, manifest))
    children = chain.from_iterable(manifest.content["child_map"].values())
    tests = dict.fromkeys(child for child in children if child.startswith("test"))
    with preselected(manifest.content, (known | tests).keys()) as answered:
        assets = decorate(manifest=manifest.content)(build) if answered else None
    if assets is None or not _matches_stage(stage, assets):
        name = str(decorate.keywords["name"])
        logger.info("%s: dbt selects the assets, which takes longer", name)
        assets = decorate(manifest=marked_manifest(manifest.content, stage.nodes, name))(build)
        assets = assets.map_asset_specs(translator.with_objects)
    return keys.restore_keys(assets)


def _placeholder_keys(stage: Stage, translator: ProductTranslator, manifest: Manifest) -> PlaceholderKeys:
    """Create placeholders for the keys of a stage that Dagster cannot use in names of outputs and inputs."""
    # No specs are created here, because dagster-dbt creates them with Dagster's warnings switched off.
    keys, tables = translator.key_of, translator.sources.tables
    checks = [
        dg.AssetCheckKey(keys[test.checks] if test.checks else translator.product_key, test.name)
        for test in stage.tests.values()
    ]
    own = {keys[unique_id] for unique_id in stage.nodes}
    read = {parent for unique_id in stage.nodes for parent in manifest.relations_read_by(unique_id)}
    return PlaceholderKeys.needed(own, checks, {keys[tables.get(parent, parent)] for parent in read} - own)


def _in_order(stage: Stage, manifest: Manifest) -> list[str]:
    """Return a stage's nodes in the manifest's order."""
    return [unique_id for unique_id in manifest.content["nodes"] if unique_id in stage.nodes]


def _matches_stage(stage: Stage, assets: dg.AssetsDefinition) -> bool:
    """Return whether dagster-dbt defined exactly the nodes and tests of the stage."""
    nodes = {spec.metadata[DAGSTER_DBT_UNIQUE_ID_METADATA_KEY] for spec in assets.specs}
    tests = {(spec.metadata or {})[DAGSTER_DBT_UNIQUE_ID_METADATA_KEY] for spec in assets.check_specs}
    return nodes == stage.nodes and tests == stage.tests.keys()


def _with_partition_metadata(rule: PartitionsConfig, spec: dg.AssetSpec) -> dg.AssetSpec:
    return spec.merge_attributes(metadata=partition_metadata(rule))


def _late_checks(
    project: _Project, compute: str, tests: Mapping[str, DbtTest], name: str
) -> tuple[dg.AssetChecksDefinition, DbtStep]:
    """Define the step that runs the tests of one compute after all stages."""
    product, dbt = project.product, project.dbt
    if compute not in dbt.profiles:
        names = ", ".join(test.split(".")[2] for test in sorted(tests))
        what = f"dbt test {names} requests compute {compute!r} (meta.floe.compute), which no model of the product uses"
        fix = f"Use one of {', '.join(map(repr, dbt.profiles))}."
        raise ManifestError(str(dbt.manifest.path), [Problem("nodes", what, fix)])
    translator, content = project.translator, with_unit_tests(dbt.manifest.content, tests)
    owner = dg.AssetSpec(translator.product_key)  # the translator finds the asset of each test itself
    specs = [translator.get_asset_check_spec(owner, content, dagster_dbt_id(content, test), None) for test in tests]

    @checks_step(
        name=name,
        specs=[spec for spec in specs if spec],
        can_subset=True,
        compute_kind="dbt",
        op_tags=op_tags(product.config),
        retry_policy=retry_policy(product.config),
        pool=pool(product.config),
    )
    def test(context: dg.AssetCheckExecutionContext, config: DbtOptions) -> Iterator[Any]:
        scored, results = project.scored(), test_selection(context, step, config)
        yield from step_events(results, context.instance, scored)
        if scored is not None:
            # The step of the score may have run earlier.
            yield recorded_score(context.instance, scored)

    found = dbt_nodes([], test.check_specs, dbt.manifest, project.key_of)
    nodes = replace(found, severities=declared_severities(test.check_specs))
    step = _step(project, compute, nodes)
    return test, step


def _source_specs(translator: ProductTranslator, dbt: DbtProject) -> list[dg.AssetSpec]:
    """Return one external asset for each key of a source."""
    specs = (translator.get_asset_spec(dbt.manifest.content, unique_id, None) for unique_id in translator.asset_sources)
    return list({spec.key: _source_spec(spec) for spec in specs}.values())


def _source_spec(spec: dg.AssetSpec) -> dg.AssetSpec:
    metadata = {key: value for key, value in spec.metadata.items() if not key.startswith(_INTERNAL_METADATA)}
    return spec._replace(metadata=metadata, skippable=False, code_version=None, automation_condition=None)
