"""The health check: the state of each part, in time, without secrets; the worst state counts."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from floe_core.plugin_metadata import HealthState, HealthStatus

from floe_orchestrator_dagster import DagsterOrchestratorPlugin
from floe_orchestrator_dagster.config import DagsterConfig
from hostile import serving
from unit.samples import Json, contract, manifest, model, node, profiles, write_json, write_project

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SECRET = "hunter2-do-not-print"  # noqa: S105  # the value that no message may show


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that writes a product with a dbt project and sets the environment variable."""

    def write(*, prepared: bool = True, **changes: Json) -> Path:
        write_project(tmp_path)
        path = write_json(tmp_path / "compiled_artifacts.json", contract(model("a")) | changes)
        if prepared:
            write_json(tmp_path / "target" / "manifest.json", manifest(node("a")))
        monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(path))
        return path

    return write


def _health(config: DagsterConfig | None = None, timeout: float | None = None) -> HealthStatus:
    plugin = DagsterOrchestratorPlugin()
    plugin.configure(config)
    return plugin.health_check(timeout)


def _part(health: HealthStatus, name: str) -> tuple[str, str]:
    part: dict[str, Any] = health.details[name]
    return part["state"], part["message"]


def test_plugin_without_a_product_is_healthy() -> None:
    health = _health()

    assert (health.state, health.message) == (HealthState.HEALTHY, "all parts are healthy")
    assert list(health.details) == ["packages", "product", "webserver"]
    assert _part(health, "packages")[1].startswith("dagster 1.")
    assert _part(health, "product") == ("healthy", "not checked: FLOE_ARTIFACTS_PATH is not set")
    assert _part(health, "webserver")[0] == "healthy"


def test_product_that_can_run_is_healthy(served: Callable[..., Path]) -> None:
    served()

    assert _part(_health(), "product") == ("healthy", "shop-orders 1.2.0, 1 dbt asset")


def test_artifacts_that_cannot_be_read_are_unhealthy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(tmp_path / "missing.json"))

    health = _health()

    assert health.state is HealthState.UNHEALTHY
    assert "the file does not exist" in health.message
    assert "Compile the product" in health.message


def test_missing_manifest_is_unhealthy_and_says_what_to_run(served: Callable[..., Path]) -> None:
    path = served(prepared=False)

    health = _health()

    assert health.state is HealthState.UNHEALTHY
    assert f"Run `floe-dagster prepare {path}`" in health.message


def test_adapter_that_is_not_installed_is_unhealthy(served: Callable[..., Path]) -> None:
    served(dbt_profiles=profiles(type="oracle"))

    health = _health()

    assert health.state is HealthState.UNHEALTHY
    assert "the dbt adapter 'oracle' is not installed" in health.message


def test_unset_variable_of_the_profile_is_degraded(served: Callable[..., Path]) -> None:
    served(dbt_profiles=profiles(user="{{ env_var('SHOP_USER') }}"))

    health = _health()

    assert health.state is HealthState.DEGRADED
    assert health.message.endswith("reads variables that are not set here: SHOP_USER")


def test_product_without_a_dbt_project_is_degraded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write_json(tmp_path / "compiled_artifacts.json", contract(model("a")))
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(path))

    assert _health().message == "product: shop-orders 1.2.0 has no dbt project to run"


def test_configured_webserver_that_does_not_respond_is_degraded() -> None:
    health = _health(DagsterConfig(webserver_url=f"http://user:{_SECRET}@127.0.0.1:1"))

    assert health.state is HealthState.DEGRADED
    assert health.message.startswith("webserver: http://127.0.0.1:1/: connection refused.")
    assert _SECRET not in repr(health)


def test_webserver_of_the_environment_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    said = b'{"data": {"version": "1.13.27", "workspaceOrError": {"locationEntries": []}, '
    with serving(said + b'"instance": {"daemonHealth": {"allDaemonStatuses": []}}}}') as server:
        monkeypatch.setenv("DAGSTER_URL", server.url)
        part = _part(_health(), "webserver")

    assert part == ("healthy", f"Dagster 1.13.27 with 0 code locations answers at {server.url}/")


def test_worst_part_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(tmp_path))
    monkeypatch.setenv("DAGSTER_URL", "http://127.0.0.1:1")

    health = _health()

    assert health.state is HealthState.UNHEALTHY
    assert [line.partition(":")[0] for line in health.message.split("; webserver")] == ["product", ""]


def test_part_that_takes_too_long_is_degraded_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = DagsterConfig(webserver_url=f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        health = _health(config, timeout=0.5)
        elapsed = time.monotonic() - started

    assert health.state is HealthState.DEGRADED
    assert health.message.startswith("webserver: ")
    assert elapsed < 30  # the webserver never answers


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_invalid_timeout_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="is not a number of seconds above 0"):
        _health(timeout=timeout)
