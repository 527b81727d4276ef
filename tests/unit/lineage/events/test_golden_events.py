"""The events of a real run of some of the sample's nodes, whole, against the file that holds them.

To write the file after an intended change: ``WRITE_GOLDEN=1 pytest tests/unit/lineage/events/test_golden_events.py``.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from typing import Any

from floe_orchestrator_dagster.lineage.events.python_assets import PythonAsset, asset_event, product_event
from openlineage_schemas import as_json, assert_valid
from unit.lineage.sample_run import CREATED_AT, DATA, lineage_run, new_events, observed

GOLDEN = DATA / "events.jsonl"
_LEFT_OUT = ("_producer", "_schemaURL", "producer", "schemaURL")


def test_events_of_the_run_are_those_of_the_golden_file() -> None:
    run = lineage_run(window=(CREATED_AT - timedelta(days=1), CREATED_AT))
    export = PythonAsset(("exports", "orders"), (("marts", "fct_orders"),), "Orders for the warehouse's dashboard")
    ended_at = CREATED_AT + timedelta(hours=1)
    events = [
        product_event(run, "START", CREATED_AT),
        *observed(new_events(window=run.window)),
        asset_event(run, export, "START", CREATED_AT),
        asset_event(run, export, "COMPLETE", ended_at, rows=4000),
        product_event(run, "COMPLETE", ended_at),
    ]
    assert_valid(events)
    lines = [json.dumps(normalized(as_json(event)), ensure_ascii=False, sort_keys=True) for event in events]

    if os.environ.get("WRITE_GOLDEN"):
        GOLDEN.write_text("\n".join(lines) + "\n", encoding="utf-8")

    assert lines == GOLDEN.read_text(encoding="utf-8").splitlines()


def normalized(value: Any) -> Any:  # noqa: ANN401  # any JSON
    """Leave out what is the same everywhere, and what says nothing."""
    if isinstance(value, list):
        return [normalized(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {name: normalized(item) for name, item in value.items() if name not in _LEFT_OUT}
    return {name: item for name, item in kept.items() if item not in ({}, [])}
