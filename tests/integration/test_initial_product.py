"""``floe-dagster init`` makes a product of a user's dbt project, which dbt then builds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
import yaml

from command import Answer, invoke
from files import write_files
from floe_orchestrator_dagster import load_product_definitions
from floe_orchestrator_dagster.product import load_product

if TYPE_CHECKING:
    from pathlib import Path

_FILES = {
    "dbt_project.yml": """
        name: my_shop
        version: 2.3.4
        profile: shop
        """,
    "profiles.yml": """
        shop:
          target: "{{ env_var('SHOP_TARGET', 'local') }}"
          outputs:
            local:
              type: duckdb
              path: "data.duckdb"
              schema: analytics
              threads: 2
              settings: {memory_limit: 1GB}
            prod: {type: snowflake, account: a, password: b}
        """,
    "seeds/raw_orders.csv": "id,day\n1,2026-01-01\n2,2026-01-02\n",
    "models/staging/stg_orders.sql": "select id, day from {{ ref('raw_orders') }}",
    "models/staging/helper.sql": "{{ config(materialized='ephemeral') }} select 1 as one",
    "models/marts/orders.sql": "select id from {{ ref('stg_orders') }}, {{ ref('helper') }}",
    "models/marts/day-sales.sql": "select day, count(*) as orders from {{ ref('stg_orders') }} group by 1",
    "models/marts/off.sql": "{{ config(enabled=false) }} select 1 as id",
    "models/marts/report_v2.sql": "select count(*) as orders from {{ ref('orders') }}",
    "models/marts/report_v1.sql": "select 0 as orders",
    "models/marts/schema.yml": """
        models:
          - name: report
            latest_version: 2
            versions: [{v: 1}, {v: 2}]
        """,
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answer]:
    """Initialize a project with everything that floe.yaml cannot list."""
    directory = write_files(tmp_path_factory.mktemp("shop"), _FILES)
    options = ("--yes", "--schedule", "0 6 * * *", "--timezone", "Europe/Berlin", "--key-prefix", "shops/mine")
    return directory, invoke("init", directory, *options)


def _yaml(path: Path) -> Any:  # noqa: ANN401  # the content of a YAML file
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_command_prints_what_it_wrote_and_the_line_that_starts_dagster(written: tuple[Path, Answer]) -> None:
    directory, answer = written

    assert answer.exit_code == 0, answer.stderr
    names = ("manifest.yaml", "floe.yaml", "compiled_artifacts.json", "definitions.py")
    assert answer.stdout == (
        "".join(f"wrote {directory / name}\n" for name in names)
        + "my-shop: 3 models in floe.yaml, 6 assets and 0 checks in Dagster\n\nTo start Dagster:\n\n"
        f"  cd {directory} && dagster dev -f definitions.py\n"
        "\nThe lineage is then at http://127.0.0.1:3000/asset-groups\n"
    )


def test_what_was_left_out_is_said(written: tuple[Path, Answer]) -> None:
    directory, answer = written

    assert answer.stderr.splitlines() == [
        f"note: The compute is that of {directory / 'profiles.yml'} (shop.outputs.local).",
        "note: floe's DuckDB plugin has no setting schema. The profile's values are left out.",
        "note: floe does not accept the name day-sales. dbt builds it, but floe.yaml does not list it.",
    ]


def test_files_have_the_project_and_nothing_else(written: tuple[Path, Answer]) -> None:
    directory, _ = written

    assert _yaml(directory / "floe.yaml") == {
        "apiVersion": "floe.dev/v1",
        "kind": "FloeSpec",
        "metadata": {"name": "my-shop", "version": "2.3.4"},
        "platform": {"manifest": "manifest.yaml"},
        "transforms": [{"name": "orders"}, {"name": "report"}, {"name": "stg_orders"}],
        "schedule": {"cron": "0 6 * * *", "timezone": "Europe/Berlin"},
    }
    plugins = _yaml(directory / "manifest.yaml")["plugins"]
    assert plugins == {
        "compute": {
            "type": "duckdb",
            "config": {"path": "data.duckdb", "threads": 2, "settings": {"memory_limit": "1GB"}},
        },
        "orchestrator": {"type": "dagster", "config": {"key_prefix": ["shops", "mine"]}},
    }


def test_product_loads_without_dbt_and_runs(written: tuple[Path, Answer], tmp_path: Path) -> None:
    directory, _ = written
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")

    definitions = load_product_definitions("my-shop", directory)
    job = definitions.resolve_job_def("my_shop") if hasattr(definitions, "resolve_job_def") else None
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        result = (job or definitions.get_job_def("my_shop")).execute_in_process(instance=instance)

    assert result.success
    keys = {event.asset_key.to_user_string() for event in result.get_asset_materialization_events() if event.asset_key}
    assert keys == {
        f"shops/mine/{name}" for name in ("raw_orders", "stg_orders", "orders", "day-sales", "report_v1", "report_v2")
    }
    assert (directory / "data.duckdb").is_file()


def test_artifacts_need_no_second_parse(written: tuple[Path, Answer]) -> None:
    directory, _ = written
    product = load_product(directory / "compiled_artifacts.json")

    assert product.dbt is not None
    assert (directory / "compiled_artifacts.json").stat().st_mtime <= product.dbt.manifest.path.stat().st_mtime


def test_existing_manifest_is_used_and_json_is_printed(written: tuple[Path, Answer], tmp_path: Path) -> None:
    directory = write_files(tmp_path, {**_FILES, "profiles.yml": "{}", "definitions.py": "# mine\n"})
    platform = (written[0] / "manifest.yaml").read_text(encoding="utf-8").replace("data.duckdb", "theirs.duckdb")
    (directory / "manifest.yaml").write_text(platform, encoding="utf-8")

    answer = invoke("init", directory, "--json")

    said = json.loads(answer.stdout)
    assert said == {
        "product": "my-shop",
        "files": [str(directory / name) for name in ("floe.yaml", "compiled_artifacts.json")],
        "models": 3,
        "notes": [
            "manifest.yaml exists and is used as it is.",
            "floe does not accept the name day-sales. dbt builds it, but floe.yaml does not list it.",
        ],
        "warnings": [],
        "command": (
            f"cd {directory} && FLOE_ARTIFACTS_PATH=compiled_artifacts.json "
            "dagster dev -m floe_orchestrator_dagster.definitions"
        ),
    }
    assert (directory / "definitions.py").read_text(encoding="utf-8") == "# mine\n"
    assert (directory / "manifest.yaml").read_text(encoding="utf-8") == platform
    compiled = json.loads((directory / "compiled_artifacts.json").read_text(encoding="utf-8"))
    assert compiled["dbt_profiles"]["my-shop"]["outputs"]["dev"]["path"] == "theirs.duckdb"
