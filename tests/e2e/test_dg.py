"""The commands of ``dg`` in a project that ``create-dagster`` makes, with a product as a component."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import psutil
import pytest

from command import invoke
from e2e.servers import DagsterDev, answers, dagster_home, free_port, server, wait_until
from e2e.shop import captured, ended, launch
from files import write_files
from processes import clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("dagster_dg_cli", reason="dg is not installed")

TYPE = "floe_orchestrator_dagster.FloeProductComponent"
SHOP = {
    "dbt_project.yml": "{name: shop, profile: shop, version: '1.0'}",
    "profiles.yml": "shop: {target: dev, outputs: {dev: {type: duckdb, path: shop.duckdb}}}",
    "models/stg_orders.sql": "select 1 as id",
    "models/orders.sql": "{{ config(materialized='table') }} select id from {{ ref('stg_orders') }}",
    "models/schema.yml": "models: [{name: orders, columns: [{name: id, data_tests: [unique]}]}]",
}


def environment(root: Path) -> dict[str, str]:
    """Return the environment of a project whose package is not installed."""
    return {"DAGSTER_HOME": str(root.parent / "home"), "PYTHONPATH": str(root / "src"), "HOME": str(root.parent)}


def run(command: str, directory: Path, **variables: str) -> str:
    """Run a command of this Python's environment; returns its output."""
    name, *arguments = command.split()
    done = subprocess.run(
        [str(Path(sys.executable).parent / name), *arguments],
        cwd=directory,
        env=clean_environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a Dagster project with a product in ``shop``, as a component that ``dg`` has scaffolded."""
    directory = tmp_path_factory.mktemp("dg")
    dagster_home(directory / "home")
    root = directory / "ours"
    run("create-dagster project ours --no-uv-sync", directory, HOME=str(directory))
    write_files(root / "shop", SHOP)
    assert invoke("init", root / "shop", "--yes", "--profiles-dir", root / "shop").exit_code == 0
    run(f"dg scaffold defs {TYPE} shop --artifacts shop/compiled_artifacts.json", root, **environment(root))
    return root


@pytest.fixture(scope="module")
def dev(root: Path) -> Iterator[tuple[DagsterDev, psutil.Process]]:
    """Serve the project with ``dg dev``."""
    port, log = free_port(), root / "dg_dev.log"
    dev = DagsterDev(f"http://127.0.0.1:{port}", root, log)
    arguments = ("dev", "--host", "127.0.0.1", "--port", str(port))
    with server(*arguments, log=log, module="dagster_dg_cli.cli", **environment(root)) as process:
        wait_until(lambda: answers(dev), 600, process, log)
        yield dev, psutil.Process(process.pid)


def test_scaffold_writes_the_path_from_the_root_of_the_project(root: Path) -> None:
    assert (root / "src" / "ours" / "defs" / "shop" / "defs.yaml").read_text(encoding="utf-8") == (
        f"type: {TYPE}\n\nattributes:\n  artifacts: '{{{{ context.project_root }}}}/shop/compiled_artifacts.json'\n"
    )


def test_check_accepts_the_project(root: Path) -> None:
    assert "All definitions loaded successfully." in run("dg check defs", root, **environment(root))


def test_list_shows_assets_checks_and_job_after_a_change_too(root: Path) -> None:
    write_files(root / "shop", {"models/returns.sql": "select id from {{ ref('orders') }}"})

    listed = json.loads(run("dg list defs --json", root, **environment(root)))

    assert {asset["asset_key"] for asset in listed["assets"]} == {"stg_orders", "orders", "returns"}
    assert [check["key"] for check in listed["asset_checks"]] == ["orders:unique_orders_id"]
    assert [job["name"] for job in listed["jobs"]] == ["shop"]


def test_launch_builds_the_product(root: Path) -> None:
    shown = run("dg launch --job shop", root, **environment(root))

    assert "Began running node" not in shown
    with duckdb.connect(str(root / "shop" / "shop.duckdb"), read_only=True) as warehouse:
        assert warehouse.table("orders").fetchall() == [(1,)]


def test_dev_runs_the_product_and_ends_with_one_signal(dev: tuple[DagsterDev, psutil.Process]) -> None:
    served, process = dev

    run_id = launch(served, "shop", location="ours")

    assert ended(served, run_id) == "SUCCESS"
    assert "Began running node model.shop.orders" in captured(served, run_id)
    terminal = served.log.read_text(encoding="utf-8", errors="replace")
    assert " success model orders, " in terminal
    assert "Began running node" not in terminal
    below = process.children(recursive=True)
    process.terminate()
    process.wait(timeout=120)
    _, alive = psutil.wait_procs(below, timeout=120)
    assert alive == []
