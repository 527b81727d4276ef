"""The built wheel in an environment without a dbt engine: a prepared product loads, and what needs dbt says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import duckdb
import pytest

from dbt_v2 import v2_executable
from floe_orchestrator_dagster.code_location import definitions_from_file
from processes import PATCHES, clean_environment
from unit.samples import write_json
from without_dbt import environment_without_dbt, run_without_dbt

REPOSITORY = Path(__file__).parent.parent.parent
_RUN = """
import json, sys
from pathlib import Path
from dagster import DagsterInstance
from floe_orchestrator_dagster.code_location import definitions_from_file

definitions = definitions_from_file(Path(sys.argv[1]))
keys = [key.to_user_string() for key in definitions.resolve_asset_graph().get_all_asset_keys()]
with DagsterInstance.ephemeral() as instance:
    job = definitions.resolve_job_def("retail_orders")
    result = job.execute_in_process(instance=instance, raise_on_error=False)
failure = next(event for event in result.all_events if event.is_step_failure).step_failure_data
print("\\n" + json.dumps([len(keys), failure.user_failure_data.description]))
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the packages of an environment without dbt, with the wheel of this checkout."""
    directory = tmp_path_factory.mktemp("without_dbt")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory)]
    subprocess.run(build, cwd=REPOSITORY, env=clean_environment(), check=True, capture_output=True, timeout=600)
    (built,) = directory.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(directory / "wheel")
    return environment_without_dbt(directory / "packages", directory / "wheel")


def test_a_prepared_product_is_validated_and_planned(packages: Path, prepared_sample: Path) -> None:
    artifacts = str(prepared_sample / "compiled_artifacts.json")

    validated = run_without_dbt(packages, "-m", "floe_orchestrator_dagster", "validate", artifacts)
    status, plan = run_without_dbt(packages, "-m", "floe_orchestrator_dagster", "plan", artifacts)

    warning = f"warning: {artifacts}: no dbt is installed; runs will fail\n"
    assert validated == (0, f"{warning}retail-orders: valid (18 assets, 83 checks, 1 schedule)\n")
    assert status == 0
    assert "Jobs: a run of the whole job" in plan


def test_a_run_names_the_commands_that_install_an_engine(packages: Path, prepared_sample: Path) -> None:
    artifacts = prepared_sample / "compiled_artifacts.json"

    status, printed = run_without_dbt(packages, "-c", _RUN, str(artifacts))

    assert status == 0, printed
    keys, description = json.loads(printed.splitlines()[-1])
    assert keys == len(definitions_from_file(artifacts).resolve_asset_graph().get_all_asset_keys())
    assert "no dbt engine is installed" in description
    assert '`pip install "dbt-core>=1.9,<2"`' in description
    assert "`pip install dbt` installs dbt v2" in description


def test_prepare_names_the_commands_that_install_an_engine(packages: Path, sample: Path) -> None:
    status, printed = run_without_dbt(
        packages, "-m", "floe_orchestrator_dagster", "prepare", str(sample / "compiled_artifacts.json")
    )

    assert status == 1
    assert "no dbt engine is installed" in printed
    assert "`pip install dbt` installs dbt v2" in printed
    assert "Traceback" not in printed


@pytest.mark.skipif(bool(PATCHES), reason="without the patch `dbt-selection`, dagster-dbt needs dbt-core")
def test_dbt_v2_on_the_path_prepares_plans_and_builds_a_product_without_dbt_core(
    packages: Path, sample: Path, tmp_path: Path
) -> None:
    artifacts = sample / "compiled_artifacts.json"
    content = json.loads(artifacts.read_text(encoding="utf-8"))
    content["plugins"]["orchestrator"]["config"] = {
        "jobs": [{"name": "early", "select": "+int_order_amounts path:seeds", "exclude": "stg_payments"}],
        "partitions": [
            {"select": "stg_stores", "type": "static", "values": ["north", "south"], "vars": {"key": "region"}}
        ],
    }
    write_json(artifacts, content)
    stores = sample / "models" / "staging" / "stg_stores.sql"
    stores.write_text(
        f"{stores.read_text(encoding='utf-8')}\nwhere '{{{{ var('region') }}}}' = 'north'", encoding="utf-8"
    )
    (tmp_path / "home").mkdir()
    paths = {"FLOE_ARTIFACTS_PATH": str(artifacts), "DAGSTER_HOME": str(tmp_path / "home")}
    path = os.pathsep.join([str(Path(v2_executable()).parent), os.defpath])
    module = ("-m", "floe_orchestrator_dagster.definitions")
    of_north = ("asset", "materialize", *module, "--select", "stg_stores", "--partition", "north")

    for arguments, expected in (
        (("floe_orchestrator_dagster", "prepare"), "18 dbt assets"),
        (("floe_orchestrator_dagster", "validate"), "retail-orders: valid (18 assets, 83 checks, 2 schedules)"),
        (("floe_orchestrator_dagster", "plan"), "dbt 2."),
        (("floe_orchestrator_dagster", "check", "--engine"), "dbt 2."),
        (("dagster", "job", "execute", *module, "--job", "early"), "RUN_SUCCESS"),
        (("dagster", *of_north), "RUN_SUCCESS"),
    ):
        status, printed = run_without_dbt(packages, "-m", *arguments, path=path, **paths)
        assert (status, expected in printed) == (0, True), printed

    with duckdb.connect(str(sample / "warehouse" / "retail_orders.duckdb"), read_only=True) as connection:
        tables = {name for (name,) in connection.sql("select table_name from information_schema.tables").fetchall()}
        rows = connection.sql("select count(*) from stg_stores").fetchall()
    assert {"stores", "products", "stg_orders"} <= tables
    assert "fct_orders" not in tables
    assert rows == [(12,)]
