"""Which target directories of dbt's runs stay."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.code_location import definitions_from_file
from integration.failing_shop import set_shop_engine
from processes import PATCHES

if TYPE_CHECKING:
    from pathlib import Path


def test_target_directories_of_old_runs_go_and_those_of_failures_stay(
    shop: Path, instance: dg.DagsterInstance, engine: dict[str, str]
) -> None:
    artifacts = set_shop_engine(shop, engine)
    job = definitions_from_file(artifacts).resolve_job_def("shop_orders")

    def directories() -> set[Path]:
        return {path.parent for path in (shop / "target").glob("*/.floe-*")}

    def build(name: str) -> Path:
        before = directories()
        job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey(name)], raise_on_error=False)
        [new] = directories() - before
        return new

    failed = build("flaky")
    succeeded = build("first")
    newest = build("first")

    assert directories() == {failed, newest}
    assert not succeeded.exists()
    assert (failed / "compiled" / "shop" / "models" / "flaky.sql").is_file()
    assert not list(newest.glob("partial_parse.msgpack"))
    assert (shop / "target" / "compiled" / "shop" / "models" / "first.sql").is_file()


def test_an_invocation_leaves_dbts_artifacts_as_they_are_at_its_end(shop: Path, instance: dg.DagsterInstance) -> None:
    job = definitions_from_file(shop / "compiled_artifacts.json").resolve_job_def("shop_orders")

    job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey("first")])

    [target] = (path.parent for path in (shop / "target").glob("*/.floe-succeeded"))
    manifest, results = (json.loads((target / f"{name}.json").read_text()) for name in ("manifest", "run_results"))
    assert manifest["nodes"]["model.shop.first"]["compiled"]
    assert "model.shop.first" in {result["unique_id"] for result in results["results"]}
    # dbt writes this one before its first node, for itself, unless a patch leaves it out.
    assert (target / "graph.gpickle").exists() is bool(PATCHES)
