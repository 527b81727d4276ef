"""Dagster ``Definitions`` of a product's code location."""

from __future__ import annotations

import gc
import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster import telemetry
from floe_orchestrator_dagster.assets.attributes import AssetAttributes, product_metadata
from floe_orchestrator_dagster.assets.checks import product_checks
from floe_orchestrator_dagster.assets.consumers import consumer_assets
from floe_orchestrator_dagster.assets.contracts import ingestion_assets
from floe_orchestrator_dagster.assets.dbt import dbt_project_assets
from floe_orchestrator_dagster.assets.freshness import has_freshness_policy
from floe_orchestrator_dagster.assets.product_translator import ProductTranslator
from floe_orchestrator_dagster.assets.selection import NodeSelection
from floe_orchestrator_dagster.assets.steps import ProductAssets
from floe_orchestrator_dagster.assets.translator import checked_translator
from floe_orchestrator_dagster.automation.conditions import automation_conditions, automation_sensors
from floe_orchestrator_dagster.automation.ineffective_settings import ineffective_settings
from floe_orchestrator_dagster.automation.jobs import product_executor, product_jobs
from floe_orchestrator_dagster.automation.lineage_sensors.sensors import lineage_sensors
from floe_orchestrator_dagster.automation.schedules import check_registered, product_schedules
from floe_orchestrator_dagster.automation.sensors import product_sensors
from floe_orchestrator_dagster.automation.targets import Targets
from floe_orchestrator_dagster.automation.validation import check_automation, missing_states
from floe_orchestrator_dagster.garbage import collection_paused
from floe_orchestrator_dagster.logs import log_as_configured
from floe_orchestrator_dagster.product import (
    NO_OVERRIDES,
    load_product,
    manifest_as_prepared,
    manifest_kept_fresh,
    parse_for_computes,
    product_from_artifacts,
)
from floe_orchestrator_dagster.product.manifest import freshness_criteria
from floe_orchestrator_dagster.product.project import find_project_path
from floe_orchestrator_dagster.product.shared_tables import invisible_tables
from floe_orchestrator_dagster.product.staleness import compile_if_changed, stale_problem
from floe_orchestrator_dagster.telemetry.export import export_as_configured
from floe_orchestrator_dagster.upstream.dagster_asset_specs import replace_spec_changes
from floe_orchestrator_dagster.upstream.dagster_dev import using_dagster_dev
from floe_orchestrator_dagster.upstream.dagster_load_type import DefinitionsLoadType, is_dagster_loading, load_type
from floe_orchestrator_dagster.upstream.dagster_metadata_sets import replace_metadata_sets
from floe_orchestrator_dagster.upstream.dagster_node_deps import replace_node_dependencies
from floe_orchestrator_dagster.upstream.dagster_output_types import replace_type_resolution
from floe_orchestrator_dagster.upstream.dagster_serialization import replace_serialization
from floe_orchestrator_dagster.upstream.dagster_snapshot import shorten_snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dagster_dbt import DagsterDbtTranslator

    from floe_orchestrator_dagster.assets.dagster_selection import Assets
    from floe_orchestrator_dagster.automation.cron import JobSchedule
    from floe_orchestrator_dagster.errors import Problem
    from floe_orchestrator_dagster.execution.step.build_plan import DbtStep
    from floe_orchestrator_dagster.product import ManifestSource, Overrides, Product

logger = logging.getLogger(__name__)

_OBJECTS_BETWEEN_COLLECTIONS = 100_000


@dataclass(frozen=True)
class CodeLocation:
    """A product's code location.

    Attributes:
        definitions: Its Definitions.
        builds: The steps that build models and run tests with dbt, each after those that it reads.
    """

    definitions: dg.Definitions
    builds: tuple[DbtStep, ...] = ()


def build_definitions(
    product: Product,
    schedules: Sequence[JobSchedule] = (),
    loaded: DefinitionsLoadType | None = None,
    translator: DagsterDbtTranslator | None = None,
    *,
    shares_location: bool = False,
) -> dg.Definitions:
    """Build the definitions of assets, checks, jobs, schedules and sensors; empty for a product without transforms.

    Args:
        product: The product.
        schedules: Registered schedules.
        loaded: Purpose of the load; None for the result of :func:`load_type`.
        translator: Translator of dbt nodes; None for floe's own.
        shares_location: Whether the code location has other definitions. The executor is then that of the product's
            jobs, because a code location has only one.

    Raises:
        FloeDagsterError: The configuration or a schedule is not valid.
    """
    return build_location(product, schedules, loaded, translator, shares_location=shares_location).definitions


def build_location(
    product: Product,
    schedules: Sequence[JobSchedule] = (),
    loaded: DefinitionsLoadType | None = None,
    translator: DagsterDbtTranslator | None = None,
    *,
    shares_location: bool = False,
) -> CodeLocation:
    """Build the code location of a product, as :func:`build_definitions` does."""
    started = time.monotonic()
    attributes = telemetry.product_attributes(product.artifacts.observability.telemetry)
    with telemetry.operation("translate", attributes) as traced:
        location = _location(product, schedules, loaded or load_type(), translator, shares_location)
        counts = _counts(location.definitions)
        traced.describe({f"floe.dagster.{kind}": count for kind, count in counts.items()})
    shown = ", ".join(f"{count} {kind.removesuffix('s') if count == 1 else kind}" for kind, count in counts.items())
    seconds = time.monotonic() - started
    # The only line at INFO, with its values as structured fields. Details are logged at DEBUG.
    parts = {**attributes, **counts, "seconds": seconds}
    version = product.artifacts.metadata.product_version
    logger.info("%s %s: %s, built in %.1f s", product.name, version, shown, seconds, extra={"floe": parts})
    return location


def _location(
    product: Product,
    schedules: Sequence[JobSchedule],
    loaded: DefinitionsLoadType,
    custom: DagsterDbtTranslator | None,
    shares_location: bool,  # noqa: FBT001  # not public
) -> CodeLocation:
    if not product.models:
        check_registered(product, schedules)
        return CodeLocation(dg.Definitions())
    selection = NodeSelection(product, partial(_assets_without_rules, product, custom))
    check_automation(product, selection)
    if custom is not None and product.dbt is None:
        logger.warning(
            "%s: the translator is not used: no dbt project. Set FLOE_DBT_PROJECT_DIR to it.", product.origin
        )
    translator = ProductTranslator(product, custom)
    conditions = automation_conditions(translator, selection)
    replace_type_resolution()
    replace_metadata_sets()
    replace_spec_changes()
    built = _product_assets(translator, selection, conditions)
    checks = product_checks(translator, built, selection)
    assets = [*_with_others(translator, built), *checks.assets]
    targets = Targets(assets, selection, checks.definitions)
    metadata, executor = product_metadata(product), product_executor(product)
    jobs = product_jobs(product, targets, checks.on_demand, metadata, executor if shares_location else None)
    if loaded is DefinitionsLoadType.INITIALIZATION:
        settings = [*missing_states(product), *ineffective_settings(product, selection, targets, schedules)]
        _log_warnings(product, [*settings, *invisible_tables(product)])
        stale = stale_problem(product)
        if stale is not None:
            logger.warning("%s: %s. %s", product.origin, stale.fault, stale.fix, extra={"problems": (stale,)})
        shorten_snapshot()
    replace_node_dependencies()
    replace_serialization()
    optional = (_alert_sensor(translator, assets), _state_sensor(translator))
    own = [*automation_sensors(translator), *filter(None, optional), *lineage_sensors(translator, built.steps)]
    definitions = dg.Definitions(
        assets=assets,
        asset_checks=checks.definitions,
        jobs=[*jobs.values()],
        schedules=product_schedules(product, targets, schedules),
        sensors=[*own, *product_sensors(product, targets, jobs)],
        executor=None if shares_location else executor,
        metadata=metadata,
    )
    return CodeLocation(definitions, built.builds)


def _with_others(translator: ProductTranslator, built: ProductAssets) -> Assets:
    """Return the assets of a product, and those that others build or that read them."""
    return [*built.definitions, *ingestion_assets(translator.product), *consumer_assets(translator)]


def _assets_without_rules(product: Product, custom: DagsterDbtTranslator | None) -> Assets:
    """Return the assets for Dagster's selections, which are resolved before the automation rules that they select."""
    translator = ProductTranslator(product, custom)
    return _with_others(translator, _product_assets(translator, NodeSelection(product), {}))


def _alert_sensor(
    translator: ProductTranslator, assets: Sequence[dg.AssetsDefinition | dg.AssetSpec]
) -> dg.SensorDefinition | None:
    """Define the sensor for messages; None without configured channels."""
    product = translator.product
    if not product.config.alerts:
        return None
    # A local import: most products have no channels.
    from floe_orchestrator_dagster.automation.alerts.run_outcome import AlertedProduct
    from floe_orchestrator_dagster.automation.alerts.sensor import alert_sensor

    specs = [spec for part in assets for spec in ([part] if isinstance(part, dg.AssetSpec) else part.specs)]
    owners = {spec.key: tuple(spec.owners) for spec in specs}
    keys = translator.key_of if product.dbt is not None else {}
    partitioned = {spec.key for spec in specs if spec.partitions_def is not None}
    runs_checks = product.config.source_freshness == "in_product_job"
    sources = product.dbt.manifest.content["sources"] if product.dbt and runs_checks else {}
    checked = {keys.get(unique_id) for unique_id, source in sources.items() if freshness_criteria(source)}
    timely = [spec.key for spec in specs if has_freshness_policy(spec) and spec.key not in checked]
    alerted = AlertedProduct(product.name, keys, owners, partitioned, AssetAttributes(product).owners, timely)
    return alert_sensor(product, alerted)


def _state_sensor(translator: ProductTranslator) -> dg.SensorDefinition | None:
    """Define the sensor that publishes the state; None if no state is configured."""
    if translator.product.config.state is None:
        return None
    # A local import: most products publish no state.
    from floe_orchestrator_dagster.automation.state_publication import state_sensor

    return state_sensor(translator)


def _log_warnings(product: Product, found: Sequence[Problem]) -> None:
    """Log the settings without effect in one line."""
    if found:
        shown = "; ".join(f"{problem.where}: {problem.what}" for problem in found)
        logger.warning("%s: %s", product.origin, shown, extra={"problems": tuple(found)})


def _counts(definitions: dg.Definitions) -> dict[str, int]:
    """Count the definitions without resolving them."""
    built = [assets for assets in definitions.assets or () if isinstance(assets, dg.AssetsDefinition)]
    checks = {key for part in (*built, *(definitions.asset_checks or ())) for key in part.check_keys}
    return {
        "assets": sum(len(assets.keys) for assets in built),
        "checks": len(checks),
        "jobs": len([*(definitions.jobs or ())]),
        "schedules": len([*(definitions.schedules or ())]),
        "sensors": len([*(definitions.sensors or ())]),
    }


def _product_assets(
    translator: ProductTranslator, selection: NodeSelection, conditions: Mapping[str, dg.AutomationCondition[Any]]
) -> ProductAssets:
    product = translator.product
    if product.dbt is not None:
        return dbt_project_assets(translator, product.dbt, selection, conditions)
    # A local import: the module imports floe-core's plugins, which a product with a dbt project does not need.
    from floe_orchestrator_dagster.assets.transforms import contract_assets, contract_key

    return ProductAssets(contract_assets(product, conditions), contract_key(product))


def definitions_from_file(
    path: Path,
    expected_name: str | None = None,
    loaded: DefinitionsLoadType | None = None,
    translator: DagsterDbtTranslator | None = None,
    overrides: Overrides | None = None,
) -> dg.Definitions:
    """Load the product compiled into ``path`` and build its Definitions.

    Args:
        path: A CompiledArtifacts JSON.
        expected_name: Required name of the product.
        loaded: Purpose of the load; None for the result of :func:`load_type`.
        translator: Translator of dbt nodes; None for floe's own.
        overrides: Settings that take precedence over environment variables, for a product that shares its code
            location with other definitions; None for the only product.

    Raises:
        FloeDagsterError: A part of the product is missing or not valid.
    """
    checked_translator(translator)
    log_as_configured()
    logger.debug("%s: loading the product", path)
    with collection_paused(), telemetry.load(export_as_configured) as set_product:
        loaded, overrides_of_load = loaded or load_type(), overrides or NO_OVERRIDES
        if using_dagster_dev() and loaded is DefinitionsLoadType.INITIALIZATION:
            compile_if_changed(path, find_project_path(path, overrides_of_load.project_path))
        source = _manifest_source(loaded)
        product = load_product(path, expected_name=expected_name, manifest_source=source, overrides=overrides_of_load)
        if source is manifest_kept_fresh:
            parse_for_computes(product, source)
        set_product(product.artifacts.observability.telemetry)
        return build_definitions(product, loaded=loaded, translator=translator, shares_location=overrides is not None)


def definitions_from_artifacts(content: Mapping[str, Any], schedules: Sequence[JobSchedule] = ()) -> dg.Definitions:
    """Build the Definitions of artifacts that were passed as a JSON object.

    Raises:
        FloeDagsterError: A part of the product is missing or not valid.
    """
    # The process belongs to the plugin's caller, who configures the export of spans.
    with collection_paused(), telemetry.load() as set_product:
        source = _manifest_source(load_type())
        product = product_from_artifacts(content, manifest_source=source)
        if source is manifest_kept_fresh:
            parse_for_computes(product, source)
        set_product(product.artifacts.observability.telemetry)
        return build_definitions(product, schedules)


def definitions_to_serve(
    path: Path,
    expected_name: str | None = None,
    loaded: DefinitionsLoadType | None = None,
    translator: DagsterDbtTranslator | None = None,
    overrides: Overrides | None = None,
) -> dg.Definitions:
    """Load Definitions as :func:`definitions_from_file` does, in a process that may keep them until it ends.

    In Dagster's processes (code server, run, step), garbage collection then skips the loaded objects and runs less
    often: Definitions and Dagster's derived objects can be several million. A user's script is not affected.

    Raises:
        FloeDagsterError: A part of the product is missing or not valid.
    """
    # The pause includes the freeze: the first collection after it would look at all loaded objects.
    with collection_paused():
        definitions = definitions_from_file(path, expected_name, loaded, translator, overrides)
        if is_dagster_loading():
            gc.freeze()
            gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, *gc.get_threshold()[1:])
    return definitions


def _manifest_source(loaded: DefinitionsLoadType) -> ManifestSource:
    """Select the manifest's source. Only ``dagster dev`` parses, and only its code server, not run workers or steps."""
    is_made = loaded is DefinitionsLoadType.INITIALIZATION
    return manifest_kept_fresh if using_dagster_dev() and is_made else manifest_as_prepared
