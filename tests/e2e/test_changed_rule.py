"""A daemon builds an edited model with its cone, and no view for new rows (``condition: changed``)."""

# ruff: noqa: S608  # SQL of the test's own models
from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from e2e.servers import DagsterDev, answers, dagster_home, free_port, server, wait_until
from e2e.shop import LOCATION, ended, eventually, runs
from files import write_files
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from unit.samples import contract, model, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    "AUTOMATION" not in os.environ, reason="the daemon evaluates conditions every 30 s: run `make test-automation`"
)

TABLE = "{{ config(materialized='table') }}"
FILES = {
    "dbt_project.yml": "{name: shop_orders, profile: shop_orders, version: '1.0'}",
    "seeds/numbers.csv": "id\n1\n",
    "models/base.sql": f"{TABLE} select id from {{{{ ref('numbers') }}}}",
    "models/shown.sql": "select * from {{ ref('base') }}",
    "models/top.sql": f"{TABLE} select count(*) as n from {{{{ ref('shown') }}}}",
    "models/aside.sql": f"{TABLE} select 1 as id",
    "models/schema.yml": "models: [{name: base, columns: [{name: id, data_tests: [unique]}]}]",
}
NAMES = ("base", "shown", "top", "aside")
RELOAD = "mutation ($name: String!) { reloadRepositoryLocation(repositoryLocationName: $name) { __typename } }"


class Watched:
    """A served product, and the runs of its automation."""

    def __init__(self, dev: DagsterDev, artifacts: Path) -> None:
        """Start with no runs."""
        self._dev, self._artifacts = dev, artifacts
        self._seen: set[str] = set()

    def deploy(self, name: str, content: str) -> None:
        """Change a file of the project, parse it and serve it."""
        write_files(self._dev.project, {name: content})
        load_product(self._artifacts, manifest_source=manifest_rebuilt)
        answer = self._dev.graphql(RELOAD, name=LOCATION)
        assert answer["reloadRepositoryLocation"]["__typename"] == "WorkspaceLocationEntry"

    def next_builds(self) -> set[str]:
        """Wait for the next run; returns the names of the assets that it has built."""
        eventually(self._dev, lambda: bool(self._new()))
        [run_id, *others] = self._new()
        assert not others, runs(self._dev, "__ASSET_JOB")
        assert ended(self._dev, run_id) == "SUCCESS"
        [run] = [run for run in runs(self._dev, "__ASSET_JOB") if run["runId"] == run_id]
        self._seen.add(run_id)
        return {asset["key"]["path"][-1] for asset in run["assets"]}

    def _new(self) -> list[str]:
        return [run["runId"] for run in runs(self._dev, "__ASSET_JOB") if run["runId"] not in self._seen]


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """Serve a product whose assets are built by the rule ``changed``."""
    project, log, port = write_files(tmp_path / "shop", FILES), tmp_path / "dagster_dev.log", free_port()
    config = {"automation": {"condition": "changed"}, "executor": "in_process"}
    artifacts = write_json(project / "compiled_artifacts.json", contract(*map(model, NAMES), config=config))
    load_product(artifacts, manifest_source=manifest_rebuilt)
    dev = DagsterDev(f"http://127.0.0.1:{port}", project, log)
    environment = {"FLOE_ARTIFACTS_PATH": str(artifacts), "DAGSTER_HOME": str(dagster_home(tmp_path / "home"))}
    with server("dev", "-m", LOCATION, "--host", "127.0.0.1", "--port", str(port), log=log, **environment) as process:
        wait_until(lambda: answers(dev), 600, process, log)
        yield Watched(dev, artifacts)


def test_edited_model_builds_itself_and_its_cone_and_new_rows_build_no_view(watched: Watched) -> None:
    assert watched.next_builds() == {"numbers", *NAMES}

    watched.deploy("models/base.sql", f"{TABLE} select id, id + 1 as next from {{{{ ref('numbers') }}}}")
    assert watched.next_builds() == {"base", "shown", "top"}

    watched.deploy("seeds/numbers.csv", "id\n1\n2\n")
    assert watched.next_builds() == {"numbers", "base", "top"}
