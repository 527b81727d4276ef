"""The latest materializations are those that Dagster's own function returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.upstream import dagster_materializations
from floe_orchestrator_dagster.upstream.dagster_materializations import latest_materializations, stored_json

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

BUILT, PARTITIONED, PLAIN, WIPED, AGAIN, OBSERVED = map(
    dg.AssetKey, ("built", "partitioned", "plain", "wiped", "again", "observed")
)
KEYS = (BUILT, PARTITIONED, PLAIN, WIPED, AGAIN, OBSERVED, dg.AssetKey("unknown"))
RECORD = {"format": 1, "inputs": {"a": None}, "time": 1.5}
METADATA: dict[str, Any] = {
    "record": dg.JsonMetadataValue(RECORD),
    "rows": 3,
    "lineage": dg.TableColumnLineage({"id": [dg.TableColumnDep(PLAIN, "id")]}),
    "run": dg.MetadataValue.dagster_run("r"),
}


def described(instance: dg.DagsterInstance) -> dict[str, Any]:
    return {
        key.to_user_string(): (
            found.storage_id,
            found.run_id,
            found.timestamp,
            dict(found.metadata),
            found.partition,
            found.code_version,
        )
        for key, found in latest_materializations(instance, KEYS).items()
    }


def test_materializations_are_those_of_dagster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        events: list[dg.AssetMaterialization | dg.AssetObservation] = [
            dg.AssetMaterialization(BUILT, metadata={"old": 1}),
            dg.AssetMaterialization(BUILT, metadata=METADATA, tags={"dagster/code_version": "c1"}),
            dg.AssetMaterialization(PARTITIONED, partition="north"),
            *(dg.AssetMaterialization(key) for key in (PLAIN, WIPED, AGAIN)),
            dg.AssetObservation(OBSERVED),
        ]
        for event in events:
            instance.report_runless_asset_event(event)
        instance.wipe_assets([WIPED, AGAIN])
        instance.report_runless_asset_event(dg.AssetMaterialization(AGAIN, metadata={"rows": 4}))

        found, built = described(instance), latest_materializations(instance, [BUILT])[BUILT]
        monkeypatch.setattr(dagster_materializations, "_FETCH", "no such method")
        expected = described(instance)

    assert found == expected
    assert found.keys() == {"built", "partitioned", "plain", "again"}
    assert (stored_json(built.metadata, "record"), stored_json(built.metadata, "rows")) == (RECORD, 3)
    assert stored_json(built.metadata, "missing") is None
