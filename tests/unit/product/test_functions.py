"""Code versions of dbt functions with overloads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from floe_orchestrator_dagster.product.fingerprints import fingerprints

if TYPE_CHECKING:
    from unit.samples import Json

CALLER, FUNCTION = "model.shop.priced", "function.shop.rounded"


def version_of_caller(*overloads: Json) -> str:
    node = {"unique_id": CALLER, "resource_type": "model", "config": {}, "depends_on": {"nodes": [FUNCTION]}}
    function = {"unique_id": FUNCTION, "raw_code": "x", "depends_on": {"nodes": []}, "overloads": [*overloads]}
    manifest: Json = {"metadata": {}, "nodes": {CALLER: node}, "functions": {FUNCTION: function}, "unit_tests": {}}
    manifest["parent_map"] = {CALLER: [FUNCTION], FUNCTION: []}
    return fingerprints(manifest)[CALLER].code


def test_an_overload_is_part_of_the_definition_and_its_compiled_body_is_not() -> None:
    overload: Json = {"defined_in": "rounded_text", "arguments": [{"name": "x", "data_type": "varchar"}]}
    parsed = version_of_caller({**overload, "raw_body": "x::int", "compiled_body": None})

    assert parsed == version_of_caller({**overload, "raw_body": "x::int", "compiled_body": "x::int"})
    assert parsed != version_of_caller({**overload, "raw_body": "x::bigint"})
    assert parsed != version_of_caller()
