"""Files and output of the command line for the sample product, from the source and from the built wheel."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest
import yaml

from conftest import REPOSITORY
from floe_orchestrator_dagster.code_location import definitions_from_file
from processes import clean_environment, floe_dagster, run_python

if TYPE_CHECKING:
    from pathlib import Path

_LEFT_BEHIND = (
    "target/manifest.json",
    "logs/dbt.log",
    "warehouse/retail_orders.duckdb",
    "dbt_packages/a.sql",
    ".user.yml",
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the demo, written and prepared as its user does."""
    directory = tmp_path_factory.mktemp("demo") / "retail-orders"
    floe_dagster("demo", str(directory))
    floe_dagster("prepare", str(directory / "compiled_artifacts.json"))
    return directory


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel of a checkout in which the sample was run, without a network, and unpack it."""
    checkout = tmp_path_factory.mktemp("wheel") / "checkout"
    checkout.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(REPOSITORY / name, checkout)
    for name in ("src", "dbt_project"):
        shutil.copytree(REPOSITORY / name, checkout / name, ignore=shutil.ignore_patterns("target", "warehouse"))
    for name in _LEFT_BEHIND:
        path = checkout / "dbt_project" / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(checkout.parent)],
        cwd=checkout,
        env=clean_environment(),
        check=True,
        capture_output=True,
        timeout=600,
    )
    (built,) = checkout.parent.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(checkout.parent / "installed")
    return checkout.parent / "installed"


def test_demo_is_a_valid_product(demo: Path) -> None:
    artifacts = demo / "compiled_artifacts.json"

    said = floe_dagster("validate", str(artifacts))

    checks = len(definitions_from_file(artifacts).resolve_asset_graph().asset_check_keys)
    assert said.stdout == f"retail-orders: valid (18 assets, {checks} checks, 1 schedule)\n"
    assert "error" not in re.findall(r"^\w+", said.stderr, re.MULTILINE)


def test_demo_loads_in_dagster(demo: Path) -> None:
    command = ("-m", "dagster", "definitions", "validate", "-m", "floe_orchestrator_dagster.definitions")

    result = run_python(*command, FLOE_ARTIFACTS_PATH=str(demo / "compiled_artifacts.json"))

    assert "Validation successful for code location floe_orchestrator_dagster.definitions." in result.stdout


def test_plan_reads_well_where_no_terminal_is(demo: Path) -> None:
    said = floe_dagster("plan", str(demo / "compiled_artifacts.json")).stdout

    assert said.startswith(
        "retail-orders 1.0.0 in domain retail\n"
        f"  artifacts    {demo}/compiled_artifacts.json\n"
        f"  dbt project  {demo}\n"
        "  dbt target   retail_orders.dev\n"
        f"  dbt engine   dbt-core {version('dbt-core')}\n"
        "\n"
        "Assets: 18 built here, 4 external\n"
        "  asset, by group                      tier    materialized  compute  checks  blocking\n"
        "  ────────────────────────────────────────────────────────────────────────────────────\n"
        "  finance (3)\n"
        "    fct_daily_revenue                  gold    table         duckdb        5"
    )
    jobs = said.partition("\n\nJobs: a run of the whole job\n")[2].partition("\n\n")[0].splitlines()
    assert jobs[0] == "  job            assets  checks  steps  starts dbt"
    assert re.fullmatch(r"  retail_orders      18      \d\d      1           1", jobs[2])
    assert (
        "\n"
        "Schedules: their state once loaded, and their next ticks\n"
        "  retail_orders_schedule  running\n"
        "    job                   retail_orders\n"
        "    cron                  0 6 * * MON-FRI in America/New_York\n"
        "    next                  "
    ) in said
    assert said.endswith("\n\nNot in this product: sensors, automation, pools.\n")
    assert "\x1b" not in said


def test_plan_equals_dagsters_definitions(demo: Path) -> None:
    artifacts = demo / "compiled_artifacts.json"
    plan = json.loads(floe_dagster("plan", "--json", str(artifacts)).stdout)

    graph = definitions_from_file(artifacts).resolve_asset_graph()
    assert {asset["key"]: asset["upstream"] for asset in plan["assets"]} == {
        node.key.to_user_string(): sorted(key.to_user_string() for key in node.parent_keys)
        for node in graph.asset_nodes
    }
    assert {asset["key"]: asset["group"] for asset in plan["assets"]} == {
        node.key.to_user_string(): node.group_name for node in graph.asset_nodes
    }
    blocking = [key for key in graph.asset_check_keys if graph.get(key).blocking]
    assert (plan["checks"], plan["blocking_checks"]) == (len(graph.asset_check_keys), len(blocking))
    assert {asset["key"] for asset in plan["assets"] if asset["external"]} == {
        "exposure/weekly_trading_dashboard",
        "shop/orders",
        "shop/order_items",
        "shop/payments",
    }


def test_example_of_the_reference_works_on_the_sample(demo: Path, tmp_path: Path) -> None:
    product = shutil.copytree(demo, tmp_path / "configured")
    path = product / "compiled_artifacts.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    page = (REPOSITORY / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    config = yaml.safe_load(example)["plugins"]["orchestrator"]["config"]
    config["alerts"] = [channel for channel in config["alerts"] if "plugin" not in channel]  # none is installed
    content["plugins"]["orchestrator"]["config"] = config
    path.write_text(json.dumps(content), encoding="utf-8")

    plan = json.loads(floe_dagster("plan", "--json", str(path)).stdout)

    assert {job["name"] for job in plan["jobs"]} == {"retail_orders", "finance_marts", "gold_of_finance"}
    assert {schedule["name"] for schedule in plan["schedules"]} == {
        "finance_at_noon",
        "gold_hourly",
        "retail_orders_schedule",
        "staging_hourly",
    }
    assert {"finance_after_product", "after_exports"} < {sensor["name"] for sensor in plan["sensors"]}
    assert [asset["key"] for asset in plan["assets"] if asset["partitions"]] == ["retail/fct_daily_revenue"]
    assert {rule["condition"]: sorted(rule["assets"]) for rule in plan["automation"]} == {
        "on_cron(@daily, UTC)": ["retail/fct_orders"],
        "eager": ["retail/dim_customers"],
        "on_missing": [
            "retail/customer_lifetime_value",
            "retail/dim_products",
            "retail/fct_daily_revenue",
            "retail/product_performance",
        ],
    }
    assert plan["pools"] == [
        {
            "name": "retail_warehouse",
            "limit": 1,
            "command": "dagster instance concurrency set retail_warehouse 1",
        }
    ]


def test_broken_sample_reports_every_place(demo: Path, tmp_path: Path) -> None:
    product = shutil.copytree(demo, tmp_path / "broken")
    path = product / "compiled_artifacts.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["plugins"]["orchestrator"]["config"] = {"timezne": "UTC"}
    content["transforms"]["models"][0]["name"] = "stg_custmers"
    content["dbt_profiles"]["retail-orders"]["target"] = "production"
    path.write_text(json.dumps(content), encoding="utf-8")
    spec = (product / "floe.yaml").read_text(encoding="utf-8")
    (product / "floe.yaml").write_text(spec.replace('"0 6 * * MON-FRI"', '"0 25 * * *"'), encoding="utf-8")

    result = floe_dagster("validate", "--json", str(path), check=False)

    assert result.returncode == 1
    problems = json.loads(result.stdout)["problems"]
    assert problems[1]["what"].startswith("floe.yaml of 'retail-orders', schedule: cron '0 25 * * *' cannot fire: ")
    assert [(problem["file"], problem["where"]) for problem in problems] == [
        (str(path), "plugins.orchestrator.config.timezne"),
        ("", ""),
        (str(path), "dbt_profiles.retail-orders.target"),
        (str(path), "transforms.models[0].name"),
    ]


def test_wheel_carries_the_sample_as_git_holds_it(wheel: Path, sample: Path) -> None:
    packaged = wheel / "floe_orchestrator_dagster" / "_demo"

    files = {path.relative_to(packaged) for path in packaged.rglob("*") if path.is_file()}

    assert files == {path.relative_to(sample) for path in sample.rglob("*") if path.is_file()}
    assert all((packaged / name).read_bytes() == (sample / name).read_bytes() for name in files)


def test_demo_of_an_installed_wheel_can_be_prepared(wheel: Path, tmp_path: Path) -> None:
    directory = tmp_path / "retail-orders"

    floe_dagster("demo", str(directory), PYTHONPATH=str(wheel))
    said = floe_dagster("prepare", "--json", str(directory / "compiled_artifacts.json"), PYTHONPATH=str(wheel)).stdout

    manifest = str(directory / "target" / "manifest.json")
    assert json.loads(said) == {"product": "retail-orders", "manifest": manifest, "assets": 18}
