"""Parsing of the dbt project, which only `floe-dagster prepare` and `dagster dev` do."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from copy import deepcopy
from typing import TYPE_CHECKING

import pytest
import yaml
from dbt.config.project import package_config_from_data
from dbt.task.deps import _create_sha1_hash

from code_locations import reconstruct, serve
from files import write_files
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.errors import ManifestError
from processes import clean_environment, floe_dagster

if TYPE_CHECKING:
    from pathlib import Path


def artifacts(project: Path) -> Path:
    return project / "target" / "compiled_artifacts.json"


def manifest(project: Path) -> Path:
    return project / "build" / "dbt" / "manifest.json"


def change_time(path: Path) -> int:
    return path.stat().st_mtime_ns


@pytest.fixture
def in_dagster_dev(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_IS_DEV_CLI", "1")


def test_missing_manifest_names_the_command_outside_dagster_dev(stranger: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        definitions_from_file(artifacts(stranger))

    assert str(caught.value) == (
        f"{stranger}: 1 problem\n"
        f"  no manifest.json in {stranger}/build/dbt\n"
        f"    fix: Run `floe-dagster prepare {artifacts(stranger)}` (dbt deps and dbt parse)."
    )


def test_prepare_says_what_it_made(stranger: Path) -> None:
    result = floe_dagster("prepare", FLOE_ARTIFACTS_PATH=str(artifacts(stranger)))

    assert result.stdout == f"jaffle-shop: 3 dbt assets in {manifest(stranger)}\n"
    assert sorted(path.name for path in manifest(stranger).parent.iterdir() if path.is_dir()) == []


@pytest.mark.usefixtures("in_dagster_dev")
def test_dagster_dev_parses_what_is_missing_or_outdated_and_only_then(
    stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(artifacts(stranger)))
    assert serve().has_job("jaffle_shop")
    first = change_time(manifest(stranger))

    definitions_from_file(artifacts(stranger))
    assert change_time(manifest(stranger)) == first

    (stranger / "models" / "more.sql").write_text("select 1 as id", encoding="utf-8")
    graph = definitions_from_file(artifacts(stranger)).resolve_asset_graph()
    assert change_time(manifest(stranger)) > first
    assert "kitchen/more" in {key.to_user_string() for key in graph.get_all_asset_keys()}

    (stranger / "models" / "more.sql").unlink()
    graph = definitions_from_file(artifacts(stranger)).resolve_asset_graph()
    assert "kitchen/more" not in {key.to_user_string() for key in graph.get_all_asset_keys()}


@pytest.mark.usefixtures("in_dagster_dev")
def test_dagster_dev_replaces_a_manifest_that_is_cut_off(stranger: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest(stranger).parent.mkdir(parents=True)
    manifest(stranger).write_text('{"metadata": {', encoding="utf-8")
    future = time.time() + 60
    os.utime(manifest(stranger), (future, future))

    with caplog.at_level(logging.WARNING):
        graph = definitions_from_file(artifacts(stranger)).resolve_asset_graph()

    assert len(graph.materializable_asset_keys) == 3
    assert "is not JSON, or is cut off" in caplog.text


@pytest.mark.usefixtures("in_dagster_dev")
def test_run_workers_of_dagster_dev_never_parse(stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(artifacts(stranger)))

    with pytest.raises(ManifestError, match=r"no manifest\.json"):
        reconstruct()


def test_dbts_own_words_explain_a_project_that_does_not_parse(stranger: Path) -> None:
    (stranger / "models" / "totals.sql").write_text("select * from {{ ref('gone') }}", encoding="utf-8")

    result = floe_dagster("prepare", str(artifacts(stranger)), check=False)

    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == (
        f"error: {stranger}: 1 problem\n"
        "  dbt parse failed with exit code 2:\n"
        "      Encountered an error:\n"
        "      Compilation Error\n"
        "        Model 'model.jaffle.totals' (models/totals.sql) depends on a node named 'gone' which was not found\n"
        "    fix: Correct the project and run this command again.\n"
    )


@pytest.mark.usefixtures("in_dagster_dev")
def test_in_dagster_dev_a_corrected_project_is_parsed_by_a_reload(stranger: Path) -> None:
    (stranger / "models" / "totals.sql").write_text("select * from {{ ref('gone') }}", encoding="utf-8")

    with pytest.raises(ManifestError, match=r"fix: Correct the project and load the code location again\."):
        definitions_from_file(artifacts(stranger))


def test_a_parse_that_is_killed_leaves_the_manifest_that_was_there(stranger: Path, tmp_path: Path) -> None:
    floe_dagster("prepare", str(artifacts(stranger)))
    before = manifest(stranger).read_bytes()
    (stranger / "models" / "more.sql").write_text("select 1 as id", encoding="utf-8")

    process = subprocess.Popen(
        [sys.executable, "-m", "floe_orchestrator_dagster", "prepare", str(artifacts(stranger))],
        env=clean_environment(TMPDIR=str(tmp_path)),
        start_new_session=True,
    )
    wait_for_parse(manifest(stranger).parent)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=120)

    assert manifest(stranger).read_bytes() == before


def wait_for_parse(target: Path) -> None:
    deadline = time.monotonic() + 300
    while not any(target.glob(".parse-*")):
        if time.monotonic() > deadline:
            pytest.fail("dbt parse did not start")
        time.sleep(0.05)


# --- dbt packages ---------------------------------------------------------------------------------------------------

NOWHERE = "http://127.0.0.1:9/"  # the discard port, where no server listens


def add_hub_package(project: Path) -> None:
    """Declare, lock and install a package as `dbt deps` does; its model is `greeting`."""
    declared = {"packages": [{"package": "acme/greetings", "version": "1.0.0"}]}
    specifications = package_config_from_data(deepcopy(declared), deepcopy(declared)).packages
    locked = [{**declared["packages"][0], "name": "greetings"}]
    files = {
        "packages.yml": yaml.safe_dump(declared),
        "package-lock.yml": yaml.safe_dump({"packages": locked, "sha1_hash": _create_sha1_hash(specifications)}),
        "dbt_packages/greetings/dbt_project.yml": "{name: greetings, version: 1.0.0}",
        "dbt_packages/greetings/models/greeting.sql": "select 'hello' as word",
    }
    write_files(project, files)


def test_prepare_without_a_network_uses_packages_that_the_lock_names_and_that_are_there(stranger: Path) -> None:
    add_hub_package(stranger)

    result = floe_dagster("prepare", str(artifacts(stranger)), DBT_PACKAGE_HUB_URL=NOWHERE)

    assert result.stdout == f"jaffle-shop: 4 dbt assets in {manifest(stranger)}\n"
    assert result.stderr == ""


def test_prepare_without_a_network_says_in_one_line_what_it_cannot_reach(stranger: Path) -> None:
    add_hub_package(stranger)
    (stranger / "packages.yml").write_text("packages: [{package: acme/greetings, version: 1.1.0}]", encoding="utf-8")

    result = floe_dagster("prepare", str(artifacts(stranger)), check=False, DBT_PACKAGE_HUB_URL=NOWHERE)

    first, problem, fix = result.stderr.splitlines()
    assert result.returncode == 1
    assert first == f"error: {stranger}: 1 problem"
    assert problem.startswith("  dbt deps cannot download the packages: HTTPConnectionPool(host='127.0.0.1', port=9)")
    assert fix == (
        "    fix: Check the network and HTTPS_PROXY. "
        "With `--no-deps`, `init` and `prepare` use the packages that are installed."
    )

    result = floe_dagster("prepare", "--no-deps", str(artifacts(stranger)), DBT_PACKAGE_HUB_URL=NOWHERE)

    assert result.stdout == f"jaffle-shop: 4 dbt assets in {manifest(stranger)}\n"


def test_repository_that_cannot_be_reached_is_named_with_its_login_masked(stranger: Path) -> None:
    repository = NOWHERE.replace("//", "//robot:hunter2@")
    (stranger / "packages.yml").write_text(f"packages: [{{git: '{repository}', revision: v1}}]", encoding="utf-8")

    result = floe_dagster("prepare", str(artifacts(stranger)), check=False)

    assert result.returncode == 1
    # git leaves the login out itself, or dbt repeats the address with it.
    shown = result.stderr.replace("//***@", "//")
    assert f"dbt deps cannot download the packages: fatal: unable to access '{NOWHERE}" in shown
    assert len(result.stderr.splitlines()) == 3
    assert "hunter2" not in result.stderr


@pytest.mark.usefixtures("in_dagster_dev")
def test_dagster_dev_installs_what_packages_yml_adds_and_parses_a_changed_local_package(stranger: Path) -> None:
    def models() -> set[str]:
        graph = definitions_from_file(artifacts(stranger)).resolve_asset_graph()
        return {key.path[-1] for key in graph.materializable_asset_keys}

    shared = write_files(
        stranger.parent / "shared",
        {"dbt_project.yml": "{name: shared, version: 1.0.0}", "models/people.sql": "select 1 as id"},
    )
    before = models()
    assert "people" not in before

    (stranger / "packages.yml").write_text("packages: [{local: ../shared}]", encoding="utf-8")
    assert models() == before | {"people"}
    first = change_time(manifest(stranger))

    assert models() == before | {"people"}
    assert change_time(manifest(stranger)) == first

    (shared / "models" / "places.sql").write_text("select 1 as id", encoding="utf-8")
    assert models() == before | {"people", "places"}


def test_an_adapter_that_is_not_installed_is_named_with_its_package(stranger: Path) -> None:
    path = artifacts(stranger)
    compiled = json.loads(path.read_text(encoding="utf-8"))
    compiled["dbt_profiles"]["jaffle-shop"]["outputs"]["dev"]["type"] = "oracle"
    path.write_text(json.dumps(compiled), encoding="utf-8")

    result = floe_dagster("prepare", str(path), check=False)

    assert result.stderr == (
        "error: dbt profile 'jaffle_shop', target 'dev': 1 problem\n"
        "  type: the dbt adapter 'oracle' is not installed in this Python environment\n"
        "    fix: pip install dbt-oracle, or choose another compute in manifest.yaml and compile again.\n"
    )


def test_prepare_refuses_a_schedule_that_cannot_work(stranger: Path) -> None:
    path = artifacts(stranger)
    path.write_text(path.read_text(encoding="utf-8").replace("@daily", "0 25 * * *"), encoding="utf-8")

    result = floe_dagster("prepare", str(path), check=False)

    assert result.returncode == 1
    assert result.stderr.startswith(
        f"error: {path}: 1 problem\n  plugins.orchestrator.config.default_schedule: cron '0 25 * * *' cannot fire: "
    )
