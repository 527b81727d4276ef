"""A step that fails is tried again as often as configured, with a dbt of its own each time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.product import load_product, manifest_made_anew
from unit.samples import contract, model, write_json

if TYPE_CHECKING:
    from pathlib import Path


def test_failing_step_is_tried_as_often_as_configured(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    write_json(tmp_path / "dbt_project.yml", {"name": "shop_orders", "profile": "shop_orders", "version": "1.0"})
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "broken.sql").write_text("select * from nowhere", encoding="utf-8")
    artifacts = contract(model("broken"), config={"retries": {"max_retries": 1, "delay_seconds": 0.1}})
    path = write_json(tmp_path / "compiled_artifacts.json", artifacts)
    load_product(path, manifest_source=manifest_made_anew)

    job = definitions_from_file(path).get_repository_def().get_job("shop_orders")
    result = job.execute_in_process(instance=instance, raise_on_error=False)

    assert not result.success
    again = [event for event in result.all_events if event.event_type is dg.DagsterEventType.STEP_UP_FOR_RETRY]
    assert len(again) == 1
    assert len(list((tmp_path / "target").glob("*/run_results.json"))) == 2
