"""The plugin's life cycle in floe-core; a second call has no further effect."""

from __future__ import annotations

import copy
import os
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from floe_core.lineage import RunState
from floe_core.plugin_errors import PluginConfigurationError
from floe_core.plugin_metadata import HealthState
from floe_core.plugin_registry import PluginRegistry
from floe_core.plugin_types import PluginType
from floe_core.plugins.orchestrator import OrchestratorPlugin, TransformConfig
from floe_core.telemetry.audit import verify_plugin_instrumentation
from floe_core.version_compat import FLOE_PLUGIN_API_VERSION, is_compatible
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from floe_orchestrator_dagster import DagsterOrchestratorPlugin
from floe_orchestrator_dagster.config import DagsterConfig
from unit.samples import contract, model

if TYPE_CHECKING:
    from collections.abc import Callable

    Call = Callable[[DagsterOrchestratorPlugin], object]

_DAGSTER = (PluginType.ORCHESTRATOR, "dagster")


@pytest.fixture
def registry() -> PluginRegistry:
    found = PluginRegistry()
    found.discover_all()
    return found


# --- floe-core's registry -------------------------------------------------------------------------------------------


def test_api_version_is_supported_by_this_floe_core() -> None:
    assert is_compatible(DagsterOrchestratorPlugin().floe_api_version, FLOE_PLUGIN_API_VERSION)


def test_registry_loads_it_once(registry: PluginRegistry) -> None:
    assert isinstance(registry.get(*_DAGSTER), DagsterOrchestratorPlugin)
    assert registry.get(*_DAGSTER) is registry.get(*_DAGSTER)


def test_registry_configures_it_with_its_own_defaults(registry: PluginRegistry) -> None:
    registry.configure(*_DAGSTER, {})

    assert registry.get_config(*_DAGSTER) == DagsterConfig()


@pytest.mark.parametrize(
    "config", [{"timezne": "UTC"}, {"executor": "celery"}, {"webserver_headers": [{"name": "X", "value": "secret"}]}]
)
def test_registry_rejects_an_invalid_configuration(registry: PluginRegistry, config: dict[str, Any]) -> None:
    with pytest.raises(PluginConfigurationError):
        registry.configure(*_DAGSTER, config)


def test_registry_starts_checks_and_stops_it(registry: PluginRegistry) -> None:
    registry.configure(*_DAGSTER, {})

    registry.activate_plugin(*_DAGSTER)
    health = registry.health_check_all()
    stopped = registry.shutdown_all()

    assert health["ORCHESTRATOR:dagster"].state is HealthState.HEALTHY
    assert stopped["ORCHESTRATOR:dagster"] is None


def test_audit_of_the_compiler_reports_nothing() -> None:
    assert verify_plugin_instrumentation([(PluginType.ORCHESTRATOR, DagsterOrchestratorPlugin())]) == []


# --- twice is once --------------------------------------------------------------------------------------------------


def _outcome(call: Call, plugin: DagsterOrchestratorPlugin) -> object:
    try:
        return call(plugin)
    except Exception as error:  # noqa: BLE001  # whatever it refuses with, it must do so again
        return type(error), str(error)


_names = st.sampled_from(["a", "b", "stg_orders", "fct-orders", "", "ä"])
_transforms = st.lists(st.tuples(_names, st.lists(_names, max_size=2)), max_size=3)
_crons = st.sampled_from(["0 6 * * *", "@daily", "0 0 31 2 *", "nonsense", "0 6 * * MON-FRI"])
_zones = st.sampled_from(["UTC", "Europe/Berlin", "Mars/Base", ""])
_run_id = uuid.UUID(int=7)


def _assets(transforms: list[tuple[str, list[str]]]) -> Call:
    configs = [TransformConfig(name=name, depends_on=depends_on) for name, depends_on in transforms]
    before = copy.deepcopy(configs)

    def call(plugin: DagsterOrchestratorPlugin) -> object:
        assets = plugin.create_assets_from_transforms(configs)
        assert configs == before
        return [(asset.key, sorted(asset.asset_deps[asset.key], key=str)) for asset in assets]

    return call


def _definitions(names: list[str]) -> Call:
    artifacts = contract(*(model(name) for name in names))
    before = copy.deepcopy(artifacts)

    def call(plugin: DagsterOrchestratorPlugin) -> object:
        definitions = plugin.create_definitions(artifacts)
        assert artifacts == before
        repository = definitions.get_repository_def()
        schedules = sorted((schedule.name, str(schedule.cron_schedule)) for schedule in repository.schedule_defs)
        return sorted(repository.asset_graph.get_all_asset_keys(), key=str), schedules

    return call


def _helm_values(plugin: DagsterOrchestratorPlugin) -> object:
    values = plugin.get_helm_values()
    kept = copy.deepcopy(values)
    values.clear()  # callers may change the returned values
    return kept


def _entry_point(name: str) -> Call:
    def call(plugin: DagsterOrchestratorPlugin) -> object:
        directory = Path(tempfile.gettempdir()) / f"floe-entry-point-{os.getpid()}"
        directory.mkdir(exist_ok=True)
        path = Path(plugin.generate_entry_point_code(name, str(directory)))
        return path, path.read_text(encoding="utf-8"), sorted(directory.iterdir())

    return call


_calls: st.SearchStrategy[Call] = st.one_of(
    st.builds(_assets, _transforms),
    st.builds(_definitions, st.lists(st.sampled_from(["a", "b"]), max_size=2)),
    st.builds(lambda job, cron, zone: lambda plugin: plugin.schedule_job(job, cron, zone), _names, _crons, _zones),
    st.builds(
        lambda size: lambda plugin: plugin.get_resource_requirements(size),
        st.sampled_from(["small", "medium", "large", "huge", ""]),
    ),
    st.builds(_entry_point, st.sampled_from(["shop-orders", "1 shop"])),
    st.just(_helm_values),
    st.just(lambda plugin: plugin.validate_connection("http://127.0.0.1:1", timeout=30)),
    st.just(lambda plugin: plugin.health_check()),
    st.just(lambda plugin: plugin.startup()),
    st.just(lambda plugin: plugin.shutdown()),
    st.just(lambda plugin: plugin.sensor_definition()),
    st.just(lambda plugin: plugin.get_lineage_emitter()),
    st.just(lambda plugin: plugin.get_config_schema()),
    st.just(lambda plugin: plugin.emit_lineage_event(RunState.START, "shop_orders", run_id=_run_id)),
    st.just(lambda plugin: (plugin.name, plugin.version, plugin.floe_api_version, plugin.tracer_name)),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(calls=st.lists(_calls, min_size=1, max_size=4))
def test_calling_any_method_twice_has_no_further_effect(calls: list[Call]) -> None:
    once, twice = DagsterOrchestratorPlugin(), DagsterOrchestratorPlugin()
    environment, directory = dict(os.environ), sorted(Path.cwd().iterdir())

    for call in calls:
        expected = _outcome(call, once)
        assert _outcome(call, twice) == expected
        assert _outcome(call, twice) == expected

    assert dict(os.environ) == environment
    assert sorted(Path.cwd().iterdir()) == directory


def test_plugin_may_be_started_and_stopped_repeatedly() -> None:
    plugin = DagsterOrchestratorPlugin()

    for start_or_stop in (plugin.shutdown, plugin.startup, plugin.startup, plugin.shutdown, plugin.shutdown):
        start_or_stop()

    assert plugin.health_check().state is HealthState.HEALTHY


def test_every_method_of_the_contract_is_called_above() -> None:
    asked = Path(__file__).read_text(encoding="utf-8")
    public = [name for name in OrchestratorPlugin.__abstractmethods__ if not name.startswith("_")]

    assert [name for name in public if f"plugin.{name}" not in asked] == []
