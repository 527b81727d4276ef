"""The executor of all jobs' steps by ``executor``."""

from __future__ import annotations

import sys

import dagster as dg
import pytest

from floe_orchestrator_dagster.code_location import build_definitions
from floe_orchestrator_dagster.errors import ConfigError
from unit.samples import model, product, profiles


def executor(name: str | None, adapter: str = "snowflake") -> dg.ExecutorDefinition:
    config = {"executor": name, "jobs": [{"name": "nightly"}]} if name else None
    shop = product(model("a"), config=config, dbt_profiles=profiles(type=adapter))
    return build_definitions(shop).get_repository_def().get_job("shop_orders").executor_def


@pytest.mark.parametrize("name", ["in_process", "multiprocess"])
def test_configured_executor_runs_the_steps(name: str) -> None:
    assert executor(name).name == name


def test_default_executor_is_dagsters() -> None:
    assert executor(None) == dg.multi_or_in_process_executor


@pytest.mark.parametrize("name", [None, "multiprocess"])
def test_steps_on_a_duckdb_file_run_one_after_the_other(name: str | None) -> None:
    limited = executor(name, "duckdb")

    assert limited.name == "multiprocess"
    configured = limited.apply_config_mapping({"config": {}}).value
    assert configured is not None
    assert configured["config"]["max_concurrent"] == 1


def test_k8s_runs_a_pod_per_step() -> None:
    pytest.importorskip("dagster_k8s")

    assert executor("k8s").name == "k8s"


def test_k8s_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dagster_k8s", None)

    with pytest.raises(ConfigError) as raised:
        executor("k8s")

    assert str(raised.value) == (
        "CompiledArtifacts: 1 problem\n"
        "  plugins.orchestrator.config.executor: 'k8s' needs the package dagster-k8s, which is not installed\n"
        "    fix: Run `pip install dagster-k8s` in the image of the code location."
    )
