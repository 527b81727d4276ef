"""The connection check asks real webservers: the sample's, and one that has no daemon and whose product is missing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from e2e.servers import DagsterDev, answers, dagster_home, free_port, server, wait_until
from floe_orchestrator_dagster import DagsterOrchestratorPlugin
from floe_orchestrator_dagster.config import DagsterConfig
from floe_orchestrator_dagster.connection import check
from processes import floe_dagster

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def unwell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterDev]:
    """Serve a code location that does not load, below a path, without a daemon."""
    directory = tmp_path_factory.mktemp("unwell")
    home, log, port = dagster_home(directory / "home"), directory / "webserver.log", free_port()
    served = DagsterDev(f"http://127.0.0.1:{port}/floe", directory, log)
    missing = str(directory / "compiled_artifacts.json")
    arguments = ["-m", "floe_orchestrator_dagster.definitions", "--host", "127.0.0.1", "--port", str(port)]
    environment = {"DAGSTER_HOME": str(home), "FLOE_ARTIFACTS_PATH": missing}
    command = ["--path-prefix", "/floe", *arguments]
    with server(*command, log=log, module="dagster_webserver", **environment) as process:
        wait_until(lambda: answers(served), 600, process, log)
        yield served


def test_running_dagster_answers_with_version_locations_and_daemons(dagster_dev: DagsterDev) -> None:
    found = check(dagster_dev.url)

    assert found.error == ""
    assert found.webserver is not None
    assert found.webserver.version == dg.__version__
    assert [(location.name, location.state) for location in found.webserver.locations or ()] == [("floe", "loaded")]
    assert "SCHEDULER" in {daemon.type for daemon in found.webserver.daemons or ()}


def test_plugin_finds_the_running_dagster_that_is_configured(dagster_dev: DagsterDev) -> None:
    plugin = DagsterOrchestratorPlugin()
    plugin.configure(DagsterConfig(webserver_url=dagster_dev.url))

    result = plugin.validate_connection()

    assert result.success
    assert result.message == f"Dagster {dg.__version__} with 1 code location answers at {dagster_dev.url}/"


def test_webserver_without_daemon_and_product_answers_with_warnings(unwell: DagsterDev) -> None:
    result = floe_dagster("check", unwell.url, "--json")

    answer = json.loads(result.stdout)
    [location, daemons] = answer["warnings"]
    assert (answer["success"], answer["version"]) == (True, dg.__version__)
    assert location.startswith("code location 'floe_orchestrator_dagster.definitions' does not load: ")
    assert daemons.startswith("daemons that do not run: ")
    assert "SCHEDULER" in daemons


def test_webserver_below_a_path_is_not_found_at_its_root(unwell: DagsterDev) -> None:
    result = floe_dagster("check", unwell.url.removesuffix("/floe"), check=False)

    assert result.returncode == 1
    assert "include the path, if it was started with --path-prefix." in result.stderr
