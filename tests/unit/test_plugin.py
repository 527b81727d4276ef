"""The plugin: floe-core's contract, found by floe-core's registry."""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import uuid
from typing import TYPE_CHECKING, Any, cast

import dagster as dg
import pytest
from floe_core.lineage import LineageDataset, RunState
from floe_core.plugin_metadata import PluginMetadata
from floe_core.plugin_registry import PluginRegistry
from floe_core.plugin_types import PluginType
from floe_core.plugins.orchestrator import OrchestratorPlugin, ResourceSpec, TransformConfig
from hypothesis import given, settings
from hypothesis import strategies as st

from floe_orchestrator_dagster import DagsterOrchestratorPlugin
from floe_orchestrator_dagster.config import DagsterConfig
from floe_orchestrator_dagster.errors import ArtifactsError, EntryPointError, FloeDagsterError, ScheduleError
from unit.samples import contract, model

if TYPE_CHECKING:
    from pathlib import Path

_ABSTRACT = sorted(OrchestratorPlugin.__abstractmethods__)
_SIGNATURES = [
    name for name, _ in inspect.getmembers(OrchestratorPlugin, inspect.isfunction) if not name.startswith("_")
]


@pytest.fixture
def plugin() -> DagsterOrchestratorPlugin:
    return DagsterOrchestratorPlugin()


def _schedules(definitions: dg.Definitions) -> list[tuple[str, str]]:
    schedules = definitions.get_repository_def().schedule_defs
    return sorted((str(schedule.cron_schedule), schedule.execution_timezone or "") for schedule in schedules)


# --- contract -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", _ABSTRACT)
def test_every_abstract_member_is_there(name: str) -> None:
    assert name in vars(DagsterOrchestratorPlugin)


@pytest.mark.parametrize("name", _SIGNATURES)
def test_every_method_has_the_signature_of_the_contract(name: str) -> None:
    expected = inspect.signature(getattr(OrchestratorPlugin, name)).parameters
    found = inspect.signature(getattr(DagsterOrchestratorPlugin, name)).parameters

    described = [(p.name, p.kind, p.default) for p in found.values()]
    assert described[: len(expected)] == [(p.name, p.kind, p.default) for p in expected.values()]
    assert all(default is not inspect.Parameter.empty for _, _, default in described[len(expected) :])


def test_plugin_is_an_orchestrator_plugin(plugin: DagsterOrchestratorPlugin) -> None:
    assert isinstance(plugin, OrchestratorPlugin)
    assert isinstance(plugin, PluginMetadata)


def test_plugin_has_its_metadata(plugin: DagsterOrchestratorPlugin) -> None:
    assert plugin.name == "dagster"
    assert plugin.version == importlib.metadata.version("floe-orchestrator-dagster")
    assert plugin.floe_api_version == "1.0"
    assert (
        plugin.description == "Runs floe data products in Dagster: dbt as assets and checks, with jobs and schedules."
    )
    assert plugin.tracer_name == "floe.orchestrator.dagster"
    assert plugin.dependencies == []


def test_entry_point_names_the_plugin() -> None:
    [entry_point] = importlib.metadata.entry_points(group="floe.orchestrators", name="dagster")

    assert entry_point.value == "floe_orchestrator_dagster:DagsterOrchestratorPlugin"
    assert entry_point.load() is DagsterOrchestratorPlugin


def test_registry_of_floe_core_finds_the_plugin() -> None:
    registry = PluginRegistry()
    registry.discover_all()

    assert "dagster" in registry.list_all()[PluginType.ORCHESTRATOR]
    assert isinstance(registry.get(PluginType.ORCHESTRATOR, "dagster"), DagsterOrchestratorPlugin)


def test_registry_of_floe_core_configures_the_plugin() -> None:
    registry = PluginRegistry()
    registry.discover_all()

    registry.configure(PluginType.ORCHESTRATOR, "dagster", {"webserver_url": "http://dagster:3000"})

    assert registry.get(PluginType.ORCHESTRATOR, "dagster").is_configured
    assert registry.get_config(PluginType.ORCHESTRATOR, "dagster") == DagsterConfig(webserver_url="http://dagster:3000")


def test_configuration_has_a_schema(plugin: DagsterOrchestratorPlugin) -> None:
    assert plugin.get_config_schema() is DagsterConfig


def test_plugin_has_no_sensor_and_no_emitter_of_floe_core(plugin: DagsterOrchestratorPlugin) -> None:
    assert plugin.sensor_definition() is None
    assert plugin.get_lineage_emitter() is None


# --- definitions ----------------------------------------------------------------------------------------------------


def test_artifacts_become_definitions(plugin: DagsterOrchestratorPlugin) -> None:
    definitions = plugin.create_definitions(contract(model("stg_orders"), model("fct_orders", "stg_orders")))

    assert definitions.resolve_asset_graph().get_all_asset_keys() == {
        dg.AssetKey("stg_orders"),
        dg.AssetKey("fct_orders"),
    }


def test_artifacts_are_not_changed(plugin: DagsterOrchestratorPlugin) -> None:
    artifacts = contract(model("stg_orders"))
    before = json.dumps(artifacts)

    plugin.create_definitions(artifacts)

    assert json.dumps(artifacts) == before


@pytest.mark.parametrize("artifacts", [None, [], "compiled_artifacts.json", 5])
def test_artifacts_that_are_not_an_object_are_refused(plugin: DagsterOrchestratorPlugin, artifacts: object) -> None:
    with pytest.raises(ArtifactsError, match="not a JSON object"):
        plugin.create_definitions(cast("dict[str, Any]", artifacts))


def test_empty_artifacts_are_refused_with_what_is_missing(plugin: DagsterOrchestratorPlugin) -> None:
    with pytest.raises(ArtifactsError) as raised:
        plugin.create_definitions({})

    assert [problem.where for problem in raised.value.problems] == ["metadata", "identity", "observability"]
    assert str(raised.value).startswith("CompiledArtifacts: 3 problems\n  metadata: is missing\n")


# --- assets ---------------------------------------------------------------------------------------------------------


def test_every_transform_is_one_asset(plugin: DagsterOrchestratorPlugin) -> None:
    assets = plugin.create_assets_from_transforms(
        [
            TransformConfig(name="stg_orders"),
            TransformConfig(name="fct_orders", depends_on=["stg_orders"], schema_name="marts", compute="spark"),
        ]
    )

    assert [asset.key for asset in assets] == [dg.AssetKey("stg_orders"), dg.AssetKey("fct_orders")]
    assert assets[1].asset_deps[dg.AssetKey("fct_orders")] == {dg.AssetKey("stg_orders")}
    assert assets[1].metadata_by_key[dg.AssetKey("fct_orders")]["floe/schema"] == "marts"


def test_no_transforms_are_no_assets(plugin: DagsterOrchestratorPlugin) -> None:
    assert plugin.create_assets_from_transforms([]) == []


@pytest.mark.parametrize(
    ("transforms", "problem"),
    [
        ([("a", []), ("a", [])], "'a' is declared 2 times (entries 0, 1)"),
        ([("a", ["a"])], "'a' depends on itself"),
        ([("a", ["b"]), ("b", ["a"])], "circular dependency: "),
        ([("", [])], "transforms[0].name: is empty\n    fix: Name the dbt model."),
        (
            [("a", []), ("b", ["a", ""])],
            "transforms[1].depends_on[1]: is empty\n    fix: Name the dbt model.",
        ),
    ],
    ids=["duplicate", "self", "cycle", "unnamed", "unnamed dependency"],
)
def test_transforms_that_do_not_form_a_graph_are_refused(
    plugin: DagsterOrchestratorPlugin, transforms: list[tuple[str, list[str]]], problem: str
) -> None:
    configs = [TransformConfig(name=name, depends_on=depends_on) for name, depends_on in transforms]

    with pytest.raises(ArtifactsError) as raised:
        plugin.create_assets_from_transforms(configs)

    assert str(raised.value).startswith("transforms: 1 problem\n")
    assert problem in str(raised.value)


@settings(max_examples=25, deadline=None)
@given(names=st.lists(st.text(min_size=1), min_size=2, max_size=4, unique=True))
def test_transforms_of_any_names_are_assets_that_dagster_loads(names: list[str]) -> None:
    upstream, *rest = names
    transforms = [TransformConfig(name=upstream), *(TransformConfig(name=name, depends_on=[upstream]) for name in rest)]

    assets = DagsterOrchestratorPlugin().create_assets_from_transforms(transforms)

    graph = dg.Definitions(assets=assets).resolve_asset_graph()
    assert {key: graph.get(key).parent_keys for key in graph.get_all_asset_keys()} == {
        dg.AssetKey([upstream]): set(),
        **{dg.AssetKey([name]): {dg.AssetKey([upstream])} for name in rest},
    }


def test_asset_that_reads_one_with_an_unusual_name_can_be_materialized() -> None:
    """Loaded or not, only a run shows that Dagster asks for no value of the upstream asset."""
    assets = DagsterOrchestratorPlugin().create_assets_from_transforms(
        [TransformConfig(name="orders.v2"), TransformConfig(name="refunds", depends_on=["orders.v2"])]
    )

    result = dg.materialize(assets, selection=["refunds"], raise_on_error=False)

    (failure,) = result.filter_events(lambda event: event.is_step_failure)
    assert "ArtifactsError: FLOE_ARTIFACTS_PATH" in str(failure.step_failure_data.error)


# --- schedules ------------------------------------------------------------------------------------------------------


def test_registered_schedule_is_in_the_definitions(plugin: DagsterOrchestratorPlugin) -> None:
    plugin.schedule_job("shop_orders", "0 8 * * MON-FRI", "Europe/Berlin")

    definitions = plugin.create_definitions(contract(model("stg_orders")))

    assert _schedules(definitions) == [("0 8 * * MON-FRI", "Europe/Berlin")]


def test_same_schedule_registered_twice_is_one(plugin: DagsterOrchestratorPlugin) -> None:
    plugin.schedule_job("shop_orders", "0 6 * * *", "UTC")
    plugin.schedule_job("shop_orders", " 0 6 * * * ", "UTC")

    assert _schedules(plugin.create_definitions(contract(model("stg_orders")))) == [("0 6 * * *", "UTC")]


def test_job_may_have_several_schedules(plugin: DagsterOrchestratorPlugin) -> None:
    plugin.schedule_job("shop_orders", "0 6 * * *", "UTC")
    plugin.schedule_job("shop_orders", "0 6 * * *", "Asia/Tokyo")

    assert _schedules(plugin.create_definitions(contract(model("stg_orders")))) == [
        ("0 6 * * *", "Asia/Tokyo"),
        ("0 6 * * *", "UTC"),
    ]


def test_plugins_do_not_share_schedules(plugin: DagsterOrchestratorPlugin) -> None:
    plugin.schedule_job("shop_orders", "0 6 * * *", "UTC")

    assert _schedules(DagsterOrchestratorPlugin().create_definitions(contract(model("stg_orders")))) == []


@pytest.mark.parametrize(
    ("cron", "timezone", "problem"),
    [
        ("0 6 * *", "UTC", "cron '0 6 * *' needs five fields"),
        ("0 0 31 2 *", "UTC", "cron '0 0 31 2 *' cannot fire"),
        ("0 6 * * *", "Mars/Base", "timezone 'Mars/Base' is not an IANA timezone"),
    ],
)
def test_invalid_schedule_is_a_value_error_and_not_registered(
    plugin: DagsterOrchestratorPlugin, cron: str, timezone: str, problem: str
) -> None:
    with pytest.raises(ValueError, match="such as") as raised:
        plugin.schedule_job("shop_orders", cron, timezone)

    assert isinstance(raised.value, FloeDagsterError)
    assert str(raised.value).startswith(problem)
    assert _schedules(plugin.create_definitions(contract(model("stg_orders")))) == []


def test_schedule_of_an_unknown_job_is_refused_when_the_jobs_are_known(plugin: DagsterOrchestratorPlugin) -> None:
    plugin.schedule_job("nightly", "0 6 * * *", "UTC")

    with pytest.raises(ScheduleError) as raised:
        plugin.create_definitions(contract(model("stg_orders")))

    assert str(raised.value) == "no job 'nightly' in product 'shop-orders'; its jobs: 'shop_orders'."


def test_schedule_of_a_product_without_a_job_is_refused(plugin: DagsterOrchestratorPlugin) -> None:
    plugin.schedule_job("shop_orders", "0 6 * * *", "UTC")

    with pytest.raises(ScheduleError, match="no job 'shop_orders' in product 'shop-orders'"):
        plugin.create_definitions(contract())


# --- lineage --------------------------------------------------------------------------------------------------------


def test_lineage_event_keeps_the_run_id_it_is_given(plugin: DagsterOrchestratorPlugin) -> None:
    run_id = uuid.uuid4()

    sent = plugin.emit_lineage_event(
        RunState.START,
        "shop_orders",
        run_id=run_id,
        inputs=[LineageDataset(namespace="duckdb", name="raw.orders")],
        outputs=[],
    )

    assert sent == run_id


def test_lineage_event_without_a_run_id_gets_a_new_one(plugin: DagsterOrchestratorPlugin) -> None:
    first = plugin.emit_lineage_event(RunState.COMPLETE, "shop_orders")
    second = plugin.emit_lineage_event(RunState.COMPLETE, "shop_orders")

    assert isinstance(first, uuid.UUID)
    assert first != second


# --- deployment -----------------------------------------------------------------------------------------------------


def test_resources_are_the_presets(plugin: DagsterOrchestratorPlugin) -> None:
    assert plugin.get_resource_requirements("medium") == ResourceSpec("250m", "1000m", "512Mi", "1Gi")


def test_other_size_is_a_value_error_that_names_the_three(plugin: DagsterOrchestratorPlugin) -> None:
    with pytest.raises(ValueError, match="'huge' is not one of 'small', 'medium', 'large'"):
        plugin.get_resource_requirements("huge")


def test_helm_values_have_the_services(plugin: DagsterOrchestratorPlugin) -> None:
    assert {"dagster-webserver", "dagster-daemon", "dagster-user-code", "postgresql"} <= set(plugin.get_helm_values())


@pytest.mark.parametrize("flags", [{}, {"lineage_enabled": True}, {"lineage_enabled": True, "iceberg_enabled": True}])
def test_entry_point_code_is_the_same_with_or_without_lineage(
    plugin: DagsterOrchestratorPlugin, tmp_path: Path, flags: dict[str, bool]
) -> None:
    path = plugin.generate_entry_point_code("shop-orders", str(tmp_path), **flags)

    assert path == str(tmp_path / "definitions.py")
    assert 'defs = load_product_definitions("shop-orders", ' in (tmp_path / "definitions.py").read_text(
        encoding="utf-8"
    )


def test_entry_point_code_for_a_bad_name_is_a_value_error(plugin: DagsterOrchestratorPlugin, tmp_path: Path) -> None:
    with pytest.raises(EntryPointError) as raised:
        plugin.generate_entry_point_code("1 shop", str(tmp_path))

    assert isinstance(raised.value, ValueError)


def test_connection_is_checked_at_the_configured_url(plugin: DagsterOrchestratorPlugin) -> None:
    plugin.configure(DagsterConfig(webserver_url="http://user:hunter2@127.0.0.1:1"))

    result = plugin.validate_connection()

    assert not result.success
    assert result.message == "No Dagster at http://127.0.0.1:1/"


def test_connection_is_checked_at_the_address_that_is_given(plugin: DagsterOrchestratorPlugin) -> None:
    plugin.configure(DagsterConfig(webserver_url="http://127.0.0.1:1"))

    assert plugin.validate_connection("http://127.0.0.1:2", timeout=30).message == "No Dagster at http://127.0.0.1:2/"
