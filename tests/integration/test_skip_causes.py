"""A skipped node names the failures that it waits for, and no failure beside it, in the run's log and in lineage."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import TYPE_CHECKING

from packaging.version import Version

from files import write_files
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from integration.failing_shop import built, logged
from openlineage_schemas import assert_valid_json
from unit.samples import contract, model, write_json

if TYPE_CHECKING:
    from pathlib import Path

    import dagster as dg

    from lineage_backend import LineageServer

FILES = {
    "dbt_project.yml": '{name: shop, profile: shop_orders, version: "1.0"}',
    "models/orders.sql": "select 1 as id",
    "models/broken.sql": "select no_column from {{ ref('orders') }}",
    "models/optional.sql": "{{ config(on_error='continue') }} select no_column from {{ ref('orders') }}",
    "models/fallback.sql": "select 1 as id -- {{ ref('optional') }}",
    "models/after_both.sql": "select 1 as id -- {{ ref('optional') }} {{ ref('broken') }}",
    "models/checked.sql": "select id from {{ ref('orders') }}",
    "models/after_checked.sql": "select id from {{ ref('checked') }}",
    "models/unit_tested.sql": "select id from {{ ref('orders') }}",
    "models/after_unit_tested.sql": "select id from {{ ref('unit_tested') }}",
    "models/schema.yml": """
        models:
          - name: checked
            columns: [{name: id, data_tests: [{accepted_values: {name: nine, arguments: {values: [9]}}}]}]
        unit_tests:
          - name: two
            model: unit_tested
            given: [{input: ref('orders'), rows: [{id: 1}]}]
            expect: {rows: [{id: 2}]}
        """,
}
NAMES = (
    *("orders", "broken", "optional", "fallback", "after_both"),
    *("checked", "after_checked", "unit_tested", "after_unit_tested"),
)
# https://docs.getdbt.com/reference/resource-configs/on_error
CONTINUES = Version(version("dbt-core")) >= Version("1.12")


def test_a_skipped_node_names_what_it_waits_for(
    tmp_path: Path, instance: dg.DagsterInstance, backend: LineageServer, engine: dict[str, str]
) -> None:
    project = write_files(tmp_path / "shop", FILES)
    artifacts = contract(*(model(name) for name in NAMES), config={"executor": "in_process", "dbt": engine})
    artifacts["observability"]["lineage"] = True
    path = write_json(project / "compiled_artifacts.json", artifacts)
    load_product(path, manifest_source=manifest_rebuilt)

    job = definitions_from_file(path).resolve_job_def("shop_orders")
    result = job.execute_in_process(instance=instance, raise_on_error=False)

    # dbt v2 does not know the setting yet.
    continues = CONTINUES and engine["engine"] == "core"
    assert not result.success
    skipped = re.findall(r"skipped model (\w+)(.*)", logged(instance, result.run_id, "WARNING"))
    assert dict(skipped) == {
        "after_both": " because of broken",
        **({} if continues else {"fallback": " because of optional"}),
        "after_checked": " because of nine",
        "unit_tested": " because of two",
        "after_unit_tested": " because of two",
    }
    assert set(built(result)) == {"orders", "checked", *(["fallback"] if continues else [])}
    evaluated = [evaluation.check_name for evaluation in result.get_asset_check_evaluations()]
    assert sorted(evaluated) == ["nine", "two"]
    aborted = [event for event in backend.events if event["eventType"] == "ABORT"]
    nine = next(
        name for name in (event["job"]["name"] for event in backend.events) if name.startswith("test.shop.nine")
    )
    assert {event["job"]["name"]: event["run"]["facets"]["errorMessage"]["message"] for event in aborted} == {
        "model.shop.after_both": "dbt skipped it because of model.shop.broken",
        **({} if continues else {"model.shop.fallback": "dbt skipped it because of model.shop.optional"}),
        "model.shop.after_checked": f"dbt skipped it because of {nine}",
        "model.shop.unit_tested": "dbt skipped it because of unit_test.shop.unit_tested.two",
        "model.shop.after_unit_tested": "dbt skipped it because of unit_test.shop.unit_tested.two",
    }
    assert_valid_json(backend.events)
