"""Definitions of one product in processes with different hash seeds, which order sets of names differently."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from processes import run_python
from unit.samples import Json, contract, manifest, model, node, write_json, write_project

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Each model is before its parents, as `marts/` is before `staging/` in a project.
GRAPH = {
    "report": ["alpha", "beta"],
    "marts_duck": ["stg_a", "stg_b", "beta", "alpha"],
    "marts_pg": ["stg_a", "stg_b"],
    "alpha": [],
    "beta": [],
    "stg_a": [],
    "stg_b": [],
}
ON_POSTGRES = {"marts_pg", "stg_b"}
POSTGRES = {"type": "postgres", "host": "db", "user": "u", "pass": "p", "dbname": "d", "schema": "s", "port": 5432}
PRINT_ALL = """
import json, sys
from pathlib import Path
import dagster as dg
from floe_orchestrator_dagster.code_location import build_definitions
from floe_orchestrator_dagster.inspect.plan import plan_product
from floe_orchestrator_dagster.inspect.validation import examine_product
from floe_orchestrator_dagster.product import load_product

def described(path):
    product = load_product(path)
    definitions = build_definitions(product)
    own = [*definitions.assets, *definitions.asset_checks]
    return {
        "steps": [
            {
                "name": step.op.name,
                "inputs": list(step.op.ins),
                "outputs": list(step.op.outs),
                "checks": [[str(spec.key), spec.blocking, str(spec.additional_deps)] for spec in step.check_specs],
            }
            for step in own
            if isinstance(step, dg.AssetsDefinition)
        ],
        "plan": repr(plan_product(product, definitions).steps),
        "warnings": [str(found.problem) for found in examine_product(path).warnings],
    }

print(json.dumps([described(Path(path)) for path in sys.argv[1:]]))
"""
# A model without a group in a cycle of two groups.
PRINT_LABELS = """
import json
from floe_orchestrator_dagster.assets.labels import label_levels, with_all_labels
labels = {"between": None, "a1": "finance", "b1": "marketing", "a2": "finance", "last": None}
parents = {"between": ["a1"], "a1": [], "b1": ["between"], "a2": ["b1"], "last": ["a2"]}
found = with_all_labels(labels, parents, "ungrouped")
print(json.dumps([found, [[group.name for group in level] for level in label_levels(found, parents)]]))
"""
SEEDS = ("1", "2", "3")


def write_product(directory: Path, computes: Sequence[str], config: Json) -> str:
    """Write a product with a test of two models; returns the path of its artifacts."""
    write_project(directory)
    reads = {name: {"nodes": [f"model.shop.{parent}" for parent in parents]} for name, parents in GRAPH.items()}
    nodes = [
        {
            **node(name, depends_on=depends_on),
            "fqn": ["shop", name.partition("_")[0], name],
            "config": {"materialized": "table", "enabled": True},
        }
        for name, depends_on in reads.items()
    ]
    both = node("both", "test", depends_on=reads["report"], config={"enabled": True, "severity": "ERROR"})
    write_json(directory / "target" / "manifest.json", manifest(*nodes, both))
    models = [
        model(name, *parents, compute=computes[-1] if name in ON_POSTGRES else computes[0])
        for name, parents in GRAPH.items()
    ]
    outputs = {"dev": {"type": "duckdb", "path": "shop.duckdb"}, "postgres": POSTGRES}
    profile = {"shop_orders": {"target": "dev", "outputs": outputs}}
    return str(write_json(directory / "artifacts.json", contract(*models, config=config, dbt_profiles=profile)))


def test_every_process_has_the_same_definitions(tmp_path: Path) -> None:
    cycle = {
        "jobs": [{"name": name, "select": "fqn:*"} for name in ("first", "second", "third")],
        "sensors": [
            {"type": "run_status", "name": "a", "status": "success", "jobs": ["second", "third"], "job": "first"},
            {"type": "run_status", "name": "b", "status": "success", "jobs": ["first"], "job": "second"},
            {"type": "run_status", "name": "c", "status": "success", "jobs": ["first"], "job": "third"},
        ],
    }
    paths = [
        write_product(tmp_path / "two_computes", ["duckdb", "postgres"], cycle),
        write_product(tmp_path / "one_compute", ["duckdb"], {}),
        write_product(tmp_path / "layers", ["duckdb"], {"steps": {"by": "layers", "max": 4}}),
        write_product(tmp_path / "folders", ["duckdb", "postgres"], {"steps": {"by": "folder", "max": 3}}),
        write_product(tmp_path / "selected", ["duckdb"], {"steps": [{"select": "stg_a"}, {"select": "stg_b alpha"}]}),
    ]

    printed = [json.loads(run_python("-c", PRINT_ALL, *paths, PYTHONHASHSEED=seed).stdout) for seed in SEEDS]

    assert [len(product["steps"]) for product in printed[0]] == [3, 1, 4, 5, 5]
    assert printed[1] == printed[0]
    assert printed[2] == printed[0]


def test_every_process_has_the_same_labels() -> None:
    printed = {run_python("-c", PRINT_LABELS, PYTHONHASHSEED=seed).stdout for seed in (*SEEDS, "0")}

    labels = {"between": "finance", "a1": "finance", "b1": "marketing", "a2": "finance", "last": "ungrouped"}
    assert [json.loads(text) for text in printed] == [[labels, [["finance_and_1_more"], ["ungrouped"]]]]
