"""Products that dbt v2 parses: `floe-dagster prepare`, `dagster dev`, and what dbt v2 refuses."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from dbt_v2 import v2_executable
from files import write_files
from floe_orchestrator_dagster.errors import ManifestError, ProfileError
from floe_orchestrator_dagster.product import load_product, manifest_kept_fresh
from floe_orchestrator_dagster.product.engines import EngineChoice, find_engine
from processes import floe_dagster
from unit.samples import contract, model, profiles, write_json

if TYPE_CHECKING:
    from pathlib import Path

FILES = {
    "dbt_project.yml": "{name: shop, version: '1.0', profile: shop_orders}",
    "models/orders.sql": "select 1 as id, 'paid' as status",
    "models/totals.sql": "select count(*) as orders from {{ ref('orders') }}",
    "models/schema.yml": """
        models:
          - name: orders
            columns:
              - name: status
                data_tests: [{accepted_values: {arguments: {values: [paid]}}}]
        """,
}
# Forms that dbt-core 1.x takes: arguments of a test, and settings of a source, outside of their sections.
DEPRECATED = """
    sources:
      - name: landing
        meta: {owner: shop}
        tables: [{name: files}]
    models:
      - name: orders
        columns:
          - name: status
            data_tests:
              - accepted_values:
                  values: [paid]
    """
LONG_AGO = 1_000_000_000
FIX = (
    "    fix: Run `dbt-autofix deprecations --path {}` (`pip install dbt-autofix`), which rewrites the project for dbt "
    "v2, or set plugins.orchestrator.config.dbt.engine to `core`.\n"
)
SECRET = "correct-horse-battery"  # noqa: S105  # nobody's
AGAIN = "    fix: Correct the project and run this command again.\n"


def write_product(directory: Path, *, engine: str = "v2", files: dict[str, str] = FILES, **output: object) -> Path:
    project = write_files(directory / "shop", files)
    config = {"dbt": {"engine": engine, **({} if engine == "core" else {"executable": v2_executable()})}}
    artifacts = contract(
        model("orders"), model("totals"), config=config, dbt_profiles=profiles("shop-orders", **output)
    )
    write_json(project / "compiled_artifacts.json", artifacts)
    for path in project.rglob("*"):  # older than any manifest
        os.utime(path, (LONG_AGO, LONG_AGO), follow_symlinks=False)
    return project / "compiled_artifacts.json"


def test_prepare_leaves_the_manifest_of_dbt_v2_and_nothing_else(tmp_path: Path) -> None:
    artifacts = write_product(tmp_path)
    project = artifacts.parent
    before = sorted(path.name for path in project.iterdir())

    result = floe_dagster("prepare", str(artifacts))

    assert result.stdout == f"shop-orders: 2 dbt assets in {project / 'target' / 'manifest.json'}\n"
    assert result.stderr == ""
    assert sorted(path.name for path in project.iterdir()) == sorted([*before, "target"])
    assert sorted(path.name for path in (project / "target").iterdir()) == [
        "floe_manifest.json",
        "manifest.json",
        "parsed_files.txt",
        "parsed_for_target.txt",
    ]
    version = find_engine(EngineChoice("v2", v2_executable())).version
    assert (project / "target" / "parsed_for_target.txt").read_text().startswith(f"shop_orders dev dbt {version}\n")


def test_what_dbt_v2_refuses_is_named_by_file_and_line(tmp_path: Path) -> None:
    artifacts = write_product(tmp_path, files={**FILES, "models/schema.yml": DEPRECATED})
    project = artifacts.parent

    result = floe_dagster("prepare", str(artifacts), check=False)

    assert result.returncode == 1
    assert result.stderr == (
        f"error: {project}: 2 problems\n"
        '  models/schema.yml:3:5: Ignored unexpected key `"meta"`. YAML path: `meta` (dbt1060)\n'
        '  models/schema.yml:11:23: Deprecated test arguments: ["values"] at top-level detected. Please migrate to the '
        "new format under the 'arguments' field: "
        "https://docs.getdbt.com/reference/deprecations#missingargumentspropertyingenerictestdeprecation (dbt1159)\n"
        f"{FIX.format(project)}"
    )


WITHOUT_PLUS = "Write the key without the plus, under `config:` of its model, column or test. Keys with a plus are for "
AS_LIST = "List the resources, each with `- name:`, and write their settings under `config:` without a plus. "


@pytest.mark.parametrize(
    ("files", "places", "fix"),
    [
        (
            {
                "models/schema.yml": """
                    models:
                      - name: orders
                        +materialized: table
                        config: {+tags: [daily]}
                        columns: [{name: id, +tags: [key], data_tests: [{unique: {config: {+severity: warn}}}]}]
                    """
            },
            ["models/schema.yml:3:5", "models/schema.yml:4:14", "models/schema.yml:5:26", "models/schema.yml:5:72"],
            WITHOUT_PLUS,
        ),
        ({"models/schema.yml": "models: {+materialized: table}"}, ["models/schema.yml:1:9"], AS_LIST),
        (
            {"dbt_project.yml": FILES["dbt_project.yml"][:-1] + ", models: {shop: {materialized: table, +layer: 1}}}"},
            ["dbt_project.yml:1:82", "dbt_project.yml:1:97"],
            "Write a setting of dbt with a plus, such as `+materialized`, and keys of your own under `+meta:`.",
        ),
    ],
    ids=["plus", "map", "project"],
)
def test_key_with_or_without_a_plus_in_the_wrong_place_has_its_own_fix(
    tmp_path: Path, files: dict[str, str], places: list[str], fix: str
) -> None:
    artifacts = write_product(tmp_path, files={**FILES, **files})

    with pytest.raises(ManifestError) as raised:
        load_product(artifacts, manifest_source=manifest_kept_fresh)

    assert [problem.where for problem in raised.value.problems] == places
    assert {problem.fix.startswith(fix) for problem in raised.value.problems} == {True}
    assert str(raised.value).count("    fix: ") == 1


def test_error_of_a_model_is_shown_without_a_stack_trace_or_a_password(tmp_path: Path) -> None:
    broken = "{{ exceptions.raise_compiler_error('no login ' ~ env_var('SHOP_PASSWORD')) }}"
    settings = {"s3_secret_access_key": "{{ env_var('SHOP_PASSWORD') }}"}
    artifacts = write_product(tmp_path, files={**FILES, "models/totals.sql": broken}, settings=settings)

    result = floe_dagster("prepare", str(artifacts), check=False, SHOP_PASSWORD=SECRET)

    assert result.returncode == 1
    assert result.stderr == (
        f"error: {artifacts.parent}: 1 problem\n"
        "  models/totals.sql:1:1: Failed to render SQL invalid operation: Compilation Error for shop.totals from : "
        "no login *** (in models/totals.sql:1:1) (dbt1501)\n"
        f"{AGAIN}"
    )


def test_secrets_with_quotes_and_lines_and_secret_variables_are_masked_in_an_error(tmp_path: Path) -> None:
    broken = "{{ exceptions.raise_compiler_error('<' ~ env_var('SHOP_PASSWORD') ~ '> <' ~ env_var('PRINTED') ~ '>') }}"
    settings = {"s3_secret_access_key": "{{ env_var('SHOP_PASSWORD') }}"}
    files = {**FILES, "models/totals.sql": broken, ".env": f"DBT_ENV_SECRET_OF_FILE={SECRET}\n"}
    artifacts = write_product(tmp_path, files=files, settings=settings)
    variables = {
        "SHOP_PASSWORD": 'pass"word\\ \n  "line',
        "DBT_ENV_SECRET_TOKEN": 'to"ken',
        "PRINTED": f'to"ken {SECRET}',
    }

    result = floe_dagster("prepare", str(artifacts), check=False, **variables)

    assert result.returncode == 1
    assert "Compilation Error for shop.totals from : <***> <*** ***> (in models/totals.sql" in result.stderr


def test_adapter_that_dbt_v2_does_not_have_is_named_with_the_engine_that_has_it(tmp_path: Path) -> None:
    artifacts = write_product(tmp_path, type="oracle")

    result = floe_dagster("prepare", str(artifacts), check=False, DBT_LOG_PATH=str(tmp_path / "logs"))

    assert not (tmp_path / "logs").exists()
    engine = find_engine(EngineChoice("v2", v2_executable()))
    assert result.stderr == (
        "error: dbt profile 'shop_orders', target 'dev': 1 problem\n"
        f"  type: the adapter 'oracle' is not supported by {engine}\n"
        "    fix: Set plugins.orchestrator.config.dbt.engine to `core`, or the key `engine` of this compute in "
        'plugins.orchestrator.config.computes, and `pip install "dbt-core<2" dbt-oracle`.\n'
    )


def test_manifest_of_the_other_engine_is_made_again_in_dagster_dev(tmp_path: Path) -> None:
    made = []
    for engine in ("v2", "core", "core", "v2"):
        product = load_product(write_product(tmp_path, engine=engine), manifest_source=manifest_kept_fresh)
        assert product.dbt is not None
        assert len(product.dbt.manifest.asset_nodes) == 2
        made.append(product.dbt.manifest.content["metadata"])

    core, v2 = (find_engine(EngineChoice(*choice)).version for choice in (("core",), ("v2", v2_executable())))
    assert [metadata["dbt_version"] for metadata in made] == [v2, core, core, v2]
    assert made[1]["generated_at"] == made[2]["generated_at"]


def test_packages_that_dbt_v2_has_installed_are_not_installed_again(tmp_path: Path) -> None:
    write_files(
        tmp_path / "shared",
        {"dbt_project.yml": "{name: shared, version: 1.0.0}", "models/people.sql": "select 1 as id"},
    )
    artifacts = write_product(tmp_path, files={**FILES, "packages.yml": "packages: [{local: ../shared}]"})
    target = artifacts.parent / "target" / "manifest.json"
    shown = f"shop-orders: 3 dbt assets in {target}\n"
    assert floe_dagster("prepare", str(artifacts)).stdout == shown
    lock = artifacts.parent / "package-lock.yml"
    installed = lock.stat().st_mtime_ns

    assert floe_dagster("prepare", str(artifacts)).stdout == shown
    assert lock.stat().st_mtime_ns == installed


def test_project_that_dbt_v2_refuses_does_not_replace_the_manifest(tmp_path: Path) -> None:
    artifacts = write_product(tmp_path)
    load_product(artifacts, manifest_source=manifest_kept_fresh)
    manifest = artifacts.parent / "target" / "manifest.json"
    before = manifest.read_bytes()
    (artifacts.parent / "models" / "schema.yml").write_text("models: [{name: orders, no_such_key: 1}]")

    with pytest.raises(ManifestError, match="no_such_key"):
        load_product(artifacts, manifest_source=manifest_kept_fresh)

    assert manifest.read_bytes() == before


@pytest.mark.parametrize(
    ("adapter", "texts", "numbers"),
    [
        ("duckdb", "path schema database threads", ""),
        ("snowflake", "account user password role database warehouse schema threads port", "connect_retries"),
        ("redshift", "host user password dbname schema threads port", "retries connect_timeout keepalives_idle"),
        ("databricks", "host http_path token catalog schema threads", "connect_retries connect_timeout"),
        ("bigquery", "project dataset keyfile threads", "job_retries maximum_bytes_billed timeout_seconds"),
    ],
)
def test_variables_of_the_profile_need_no_values_to_parse(
    tmp_path: Path, adapter: str, texts: str, numbers: str
) -> None:
    settings: dict[str, Any] = {
        name: f"{{{{ env_var('SHOP_{name.upper()}') }}}}" for name in (*texts.split(), *numbers.split())
    }

    product = load_product(write_product(tmp_path, type=adapter, **settings), manifest_source=manifest_kept_fresh)

    assert product.dbt is not None
    assert {variable.name for variable in product.dbt.profile.missing_variables} == {
        f"SHOP_{name.upper()}" for name in settings
    }


# --- What is said before a run ---------------------------------------------------------------------------------------


def test_validate_names_all_that_dbt_v2_refuses_and_plan_the_engine(tmp_path: Path) -> None:
    artifacts = write_product(tmp_path)
    floe_dagster("prepare", str(artifacts))
    engine = find_engine(EngineChoice("v2", v2_executable()))

    (artifacts.parent / "models" / "schema.yml").write_text(
        "models: [{name: orders, no_such_key: 1}]", encoding="utf-8"
    )

    plan = json.loads(floe_dagster("plan", "--json", str(artifacts)).stdout)

    assert plan["dbt_engine"] == str(engine)

    result = floe_dagster("validate", str(artifacts), check=False)
    # Without a manifest: `prepare`, which makes it, would report the same.
    shutil.rmtree(artifacts.parent / "target")
    unprepared = floe_dagster("validate", str(artifacts), check=False)

    assert result.returncode == 1
    assert result.stderr == unprepared.stderr
    assert result.stderr == (
        f"error: {artifacts.parent}: 1 problem\n"
        '  models/schema.yml:1:25: While parsing config: Ignored unexpected key `"no_such_key"`. YAML path: '
        "`no_such_key` (dbt1060)\n"
        f"{FIX.format(artifacts.parent)}"
    )


def test_package_hub_that_cannot_be_reached_is_one_problem_with_what_to_check(tmp_path: Path) -> None:
    artifacts = write_product(tmp_path)
    packages = "packages: [{package: acme/greetings, version: 1.1.0}]"
    (artifacts.parent / "packages.yml").write_text(packages, encoding="utf-8")

    result = floe_dagster("prepare", str(artifacts), check=False, DBT_PACKAGE_HUB_URL="http://127.0.0.1:9")

    first, problem, fix = result.stderr.splitlines()
    assert (result.returncode, first) == (1, f"error: {artifacts.parent}: 1 problem")
    assert problem.startswith("  dbt deps cannot download the packages: ")
    assert "127.0.0.1:9" in problem
    assert fix.startswith("    fix: Check the network and HTTPS_PROXY. ")


def test_validate_installs_no_packages(tmp_path: Path) -> None:
    artifacts = write_product(tmp_path)
    floe_dagster("prepare", str(artifacts))
    project = artifacts.parent
    write_files(project / "more", {"dbt_project.yml": 'name: more\nversion: "1"\n'})
    (project / "packages.yml").write_text("packages: [{local: more}]", encoding="utf-8")
    before = {path for path in project.rglob("*") if "target" not in path.parts}

    floe_dagster("validate", str(artifacts), check=False)

    assert {path for path in project.rglob("*") if "target" not in path.parts} == before


def test_python_model_is_refused_when_the_product_is_loaded(tmp_path: Path) -> None:
    python = "def model(dbt, session):\n    return dbt.ref('orders')\n"
    files = {name: text for name, text in FILES.items() if name != "models/totals.sql"}
    artifacts = write_product(tmp_path, engine="core", files={**files, "models/totals.py": python})
    product = load_product(artifacts, manifest_source=manifest_kept_fresh)
    assert product.dbt is not None
    path = product.dbt.manifest.path

    write_product(tmp_path, files={**files, "models/totals.py": python})
    with pytest.raises(ManifestError) as raised:
        load_product(artifacts)

    engine = find_engine(EngineChoice("v2", v2_executable()))
    assert str(raised.value) == (
        f"{path}: 1 problem\n"
        f"  models/totals.py: 'totals' is a Python model, which {engine} does not run on duckdb\n"
        "    fix: Set plugins.orchestrator.config.dbt.engine to `core`, or write the model in SQL."
    )


def test_adapter_that_dbt_v2_does_not_have_is_refused_for_the_compute_that_uses_it(tmp_path: Path) -> None:
    artifacts = write_product(tmp_path)
    load_product(artifacts, manifest_source=manifest_kept_fresh)
    compiled = json.loads(artifacts.read_text(encoding="utf-8"))
    compiled["transforms"]["models"][1]["compute"] = "oracle"
    compiled["dbt_profiles"]["shop-orders"]["outputs"]["warehouse"] = {"type": "oracle", "host": "db"}
    write_json(artifacts, compiled)

    with pytest.raises(ProfileError, match=r"target 'warehouse': 1 problem\n  type: the adapter 'oracle' is not"):
        load_product(artifacts)

    compiled["plugins"]["orchestrator"]["config"]["computes"] = {"oracle": {"engine": "core"}}
    write_json(artifacts, compiled)
    dbt = load_product(artifacts).dbt
    assert dbt is not None
    assert [dbt.on(compute).engine.kind for compute in ("duckdb", "oracle")] == ["v2", "core"]


@pytest.mark.parametrize("engine", ["core", "v2"])
def test_check_of_the_engine_builds_two_models_with_it_and_leaves_the_product_as_it_is(
    tmp_path: Path, engine: str
) -> None:
    artifacts = write_product(tmp_path, engine=engine)
    before = sorted(tmp_path.rglob("*"))
    variables = {
        "FLOE_DBT_PROJECT_DIR": str(artifacts.parent),
        "FLOE_STATE_DIR": str(tmp_path / "state"),
        "FLOE_ENV": "prod",
        "DBT_PROFILES_DIR": str(tmp_path / "profiles"),
        "DBT_TARGET_PATH": str(tmp_path / "target"),
        "DBT_LOG_PATH": str(tmp_path / "logs"),
        "DBT_FAIL_FAST": "true",
    }

    result = floe_dagster("check", "--engine", "--artifacts", str(artifacts), check=True, **variables)

    assert sorted(tmp_path.rglob("*")) == before
    assert result.stderr == ""
    found = find_engine(EngineChoice("core") if engine == "core" else EngineChoice("v2", v2_executable()))
    assert result.stdout == f"{found}: two models and three tests have the expected result\n"


def test_check_of_an_engine_that_leaves_a_model_out_names_the_difference(tmp_path: Path) -> None:
    artifacts = write_product(tmp_path)
    executable = tmp_path / "dbt"
    leave_out = f'case "$1" in build) exec {v2_executable()} "$@" --exclude totals;; esac'
    executable.write_text(f'#!/bin/sh\n{leave_out}\nexec {v2_executable()} "$@"\n', encoding="utf-8")
    executable.chmod(0o755)
    artifacts.write_text(artifacts.read_text().replace(v2_executable(), str(executable)), encoding="utf-8")

    result = floe_dagster("check", "--engine", "--json", "--artifacts", str(artifacts), check=False)

    answer = json.loads(result.stdout)
    assert result.returncode == 1
    assert not answer["success"]
    assert (
        "results and failing rows of the checks: expected {'no_large_total': (False, 1), 'not_null_totals_total': "
        "(True, 0), 'unique_amounts_id': (True, 0)}, found {'unique_amounts_id': (True, 0)}"
    ) in answer["differences"]
