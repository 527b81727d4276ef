"""dbt functions (UDFs): built with what calls them, in subsets and in retries; lineage goes through them."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from files import write_files
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.product import load_product, manifest_kept_fresh, manifest_rebuilt
from integration.failing_shop import built, ran, tried_again
from unit.samples import contract, model, write_json

if TYPE_CHECKING:
    from lineage_backend import LineageServer

pytestmark = pytest.mark.skipif(
    tuple(map(int, version("dbt-core").split(".")[:2])) < (1, 11), reason="dbt-core has functions since 1.11"
)

FILES = {
    "dbt_project.yml": """
        name: shop
        version: "1.0"
        profile: shop_orders
        on-run-end: ["copy (select 1 as id) to 'flag.csv'"]
        """,
    # dbt-duckdb creates no functions by itself. One of them wants a file, which a hook writes at the end of a try.
    "macros/functions.sql": """
        {% macro duckdb__scalar_function_sql(target_relation) %}
          {% if model.name == 'lone' %}{% do run_query("select * from read_csv('flag.csv')") %}{% endif %}
          create or replace macro {{ target_relation.render() }}(x) as ({{ model.compiled_code }})
        {% endmacro %}
        """,
    "functions/plus_rate.sql": "x + (select max(rate) from {{ ref('rates') }})",
    "functions/plus_rate_and_one.sql": "{{ function('plus_rate') }}(x) + 1",
    "functions/lone.sql": "x * 2",
    "functions/schema.yml": """
        functions:
          - {name: plus_rate, arguments: [{name: x, data_type: integer}], returns: {data_type: integer}}
          - {name: plus_rate_and_one, arguments: [{name: x, data_type: integer}], returns: {data_type: integer}}
          - {name: lone, arguments: [{name: x, data_type: integer}], returns: {data_type: integer}}
        """,
    "models/rates.sql": "{{ config(materialized='table') }} select 5 as rate",
    "models/priced.sql": """
        {{ config(materialized='table') }}
        select {{ function('plus_rate_and_one') }}(id) as price from {{ ref('inlined') }}
        """,
    "models/inlined.sql": "{{ config(materialized='ephemeral') }} select {{ function('plus_rate') }}(1) as id",
    "models/plain.sql": "select 1 as id",
}
NAMES = ("rates", "priced", "plain")


@pytest.fixture(scope="module")
def _parsed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = write_files(tmp_path_factory.mktemp("functions") / "shop", FILES)
    config = {"executor": "in_process", "retries": {"max_retries": 1}}
    artifacts = contract(*(model(name) for name in NAMES), config=config)
    artifacts["observability"]["lineage"] = True
    load_product(write_json(project / "compiled_artifacts.json", artifacts), manifest_source=manifest_rebuilt)
    return project


@pytest.fixture
def project(_parsed: Path, tmp_path: Path) -> Path:
    """Give a project with three functions: one calls another, which reads a model; nothing calls the third."""
    return Path(shutil.copytree(_parsed, tmp_path / "shop"))


def job(project: Path) -> dg.JobDefinition:
    return definitions_from_file(project / "compiled_artifacts.json").resolve_job_def("shop_orders")


def test_functions_come_along_with_what_calls_them(
    project: Path, instance: dg.DagsterInstance, backend: LineageServer
) -> None:
    chosen = [dg.AssetKey("rates"), dg.AssetKey("priced")]

    result = job(project).execute_in_process(instance=instance, asset_selection=chosen)

    assert set(built(result)) == {"rates", "priced"}
    assert [names - {"shop-on-run-end-0"} for names in ran(project)] == [
        {"rates", "priced", "plus_rate", "plus_rate_and_one"}
    ]
    complete = [event for event in backend.events if event["eventType"] == "COMPLETE"]
    priced = next(event for event in complete if event["job"]["name"] == "model.shop.priced")
    assert [dataset["name"] for dataset in priced["inputs"]] == ["shop.main.rates"]


def test_a_function_that_failed_is_built_by_the_retry(project: Path, instance: dg.DagsterInstance) -> None:
    result = job(project).execute_in_process(instance=instance)

    assert tried_again(result) == 1
    first, second = ({name for name in names if not name.startswith("shop-on-run-end")} for names in ran(project))
    assert first == {*NAMES, "plus_rate", "plus_rate_and_one", "lone"}
    assert second == {"lone"}


def test_uncalled_functions_are_built_after_the_tables_that_they_read(
    project: Path, instance: dg.DagsterInstance
) -> None:
    macros = project / "macros" / "functions.sql"
    lines = macros.read_text(encoding="utf-8").splitlines()
    macros.write_text("\n".join(line for line in lines if "flag.csv" not in line), encoding="utf-8")
    declared = "{name: NAME, arguments: [{name: x, data_type: integer}], returns: {data_type: integer}}"
    functions = {
        "highest": "x + (select max(price) from {{ ref('priced') }})",
        "higher": "{{ function('highest') }}(x) + 1",
    }
    with (project / "functions" / "schema.yml").open("a", encoding="utf-8") as schema:
        schema.writelines(f"  - {declared.replace('NAME', name)}\n" for name in functions)
    write_files(project / "functions", {f"{name}.sql": code for name, code in functions.items()})
    path = project / "compiled_artifacts.json"
    artifacts = json.loads(path.read_text(encoding="utf-8"))
    artifacts["plugins"]["orchestrator"]["config"]["steps"] = [{"select": "priced"}]
    write_json(path, artifacts)
    load_product(path, manifest_source=manifest_rebuilt)

    result = job(project).execute_in_process(instance=instance)

    assert set(built(result)) == set(NAMES)
    assert [names - {"shop-on-run-end-0"} for names in ran(project)] == [
        {"rates", "plain", "lone"},
        {"priced", "plus_rate", "plus_rate_and_one", "highest", "higher"},
    ]


def test_what_a_function_reads_is_upstream_of_what_calls_it(project: Path) -> None:
    graph = definitions_from_file(project / "compiled_artifacts.json").get_repository_def().asset_graph

    assert {key.path[-1]: graph.get(key).parent_keys for key in graph.get_all_asset_keys()} == {
        "rates": set(),
        "priced": {dg.AssetKey("rates")},
        "plain": set(),
    }


def test_a_function_that_changes_is_a_change_of_what_calls_it(project: Path) -> None:
    path = project / "compiled_artifacts.json"

    def code_versions() -> dict[str, str | None]:
        product = load_product(path, manifest_source=manifest_kept_fresh)
        assert product.dbt is not None
        return {node["name"]: node["code_version"] for node in product.dbt.manifest.asset_nodes}

    before = code_versions()
    (project / "functions" / "plus_rate.sql").write_text("x - 1", encoding="utf-8")
    after = code_versions()

    assert {name for name in NAMES if before[name] != after[name]} == {"priced"}


def test_a_selection_of_a_function_and_what_calls_it(project: Path) -> None:
    path = project / "compiled_artifacts.json"
    artifacts = json.loads(path.read_text(encoding="utf-8"))
    artifacts["plugins"]["orchestrator"]["config"]["jobs"] = [{"name": "priced", "select": "plus_rate+"}]
    write_json(path, artifacts)

    chosen = definitions_from_file(path).resolve_job_def("priced")

    assert chosen.asset_layer.executable_asset_keys == {dg.AssetKey("priced")}
