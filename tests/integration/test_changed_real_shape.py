"""One edited staging model of a product in a real shape: with `build: changed`, a run builds its cone and nothing else.

``REAL_MODELS=400`` generates a product of that many models instead of 60.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from floe_orchestrator_dagster.code_location import build_location, definitions_from_file
from floe_orchestrator_dagster.inspect.changes import plan_changes
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from integration.test_changed_builds import built, reused
from unit.samples import write_json

if TYPE_CHECKING:
    import dagster as dg

pytestmark = pytest.mark.skipif("BUILDS" not in os.environ, reason="it builds a large product: run `make test-builds`")

MODELS = int(os.environ.get("REAL_MODELS", "60"))
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


class Product:
    """A generated product, and its runs."""

    def __init__(self, artifacts: Path, instance: dg.DagsterInstance) -> None:
        """Create the tables of its sources, and parse it."""
        self.artifacts, self.instance = artifacts, instance
        content = json.loads(artifacts.read_text(encoding="utf-8"))
        [profile] = content["dbt_profiles"].values()
        database = artifacts.parent / profile["outputs"]["dev"]["path"]
        database.parent.mkdir()
        with duckdb.connect(str(database)) as connection:
            connection.execute((artifacts.parent / "sources.sql").read_text(encoding="utf-8"))
        self.parse()
        sources = sorted({source["source_name"] for source in self.manifest["sources"].values()})
        config = {"build": "changed", "assume_unchanged": sources, "executor": "in_process"}
        content["plugins"]["orchestrator"]["config"] = config
        write_json(artifacts, content)

    def parse(self) -> None:
        """Parse the project as `floe-dagster prepare` does."""
        load_product(self.artifacts, manifest_source=manifest_rebuilt)

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest of dbt."""
        found: dict[str, Any] = json.loads((self.artifacts.parent / "target" / "manifest.json").read_text())
        return found

    def run(self) -> dg.ExecuteInProcessResult:
        """Run the product's job."""
        job = definitions_from_file(self.artifacts).get_repository_def().get_job("retail_orders")
        return job.execute_in_process(instance=self.instance)

    def planned(self) -> set[str]:
        """Return the nodes that a run would build."""
        steps = build_location(load_product(self.artifacts)).builds
        return {one.node for one in plan_changes(self.instance, steps).assets if one.is_built}


def cone(manifest: dict[str, Any], node: str) -> set[str]:
    """Return a node and all that is downstream of it, without tests."""
    found, waiting = set(), [node]
    while waiting:
        one = waiting.pop()
        if one in manifest["nodes"] and manifest["nodes"][one]["resource_type"] != "test" and one not in found:
            found.add(one)
            waiting.extend(manifest["child_map"][one])
    return found


def test_edited_staging_model_of_a_real_shape_builds_its_cone_and_nothing_else(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from products import generate_real_product

    product = Product(generate_real_product(tmp_path, MODELS), instance)
    manifest = product.manifest
    kinds = {"model", "seed", "snapshot"}
    nodes = {one: node for one, node in manifest["nodes"].items() if node["resource_type"] in kinds}
    stored = {one for one, node in nodes.items() if node["config"]["materialized"] != "ephemeral"}
    snapshots = {one for one, node in nodes.items() if node["resource_type"] == "snapshot"}
    assert len(built(product.run())) == len(stored)
    assert product.planned() == snapshots

    # Of the staging models that less than half of the product reads, the one with the largest cone.
    own = [one for one, node in nodes.items() if node["fqn"][:2] == ["generated", "staging"]]
    cones = {one: cone(manifest, one) & stored for one in own}
    edited = max((one for one, found in cones.items() if len(found) < len(stored) / 2), key=lambda one: len(cones[one]))
    assert len(cones[edited]) > 3
    file = product.artifacts.parent / nodes[edited]["original_file_path"]
    code = f"select * from (\n{file.read_text(encoding='utf-8')}\n) as edited where id = 1"  # noqa: S608  # own models
    file.write_text(code, encoding="utf-8")
    product.parse()

    assert product.planned() == cones[edited] | snapshots
    result = product.run()
    assert result.success
    assert len(built(result)) == len(cones[edited] | snapshots)
    assert len(reused(result)) == len(stored - cones[edited] - snapshots)
