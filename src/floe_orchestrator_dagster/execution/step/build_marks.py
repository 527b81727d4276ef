"""Marks of tables and tests in the key-value storage of Dagster's instance.

There is a mark per asset, the asset that has built the table in each place, the columns of each table after its last
build, and the last result per test. Dagster can read them for thousands of assets at once:

- Before dbt starts, each table that it will build gets a mark. If the process is killed before the materialization is
  stored, the mark stays, and the older record does not count.
- A table that is reused gets a mark with the newest event of the event log. The next decision only looks at events
  after it.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from floe_orchestrator_dagster.upstream.dagster_history import store_values, stored_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import dagster as dg

    from floe_orchestrator_dagster.execution.reuse.records import CheckRecord
    from floe_orchestrator_dagster.execution.step.build_history import BuildHistory

CODE = "code"
"""Name of the code of an incremental model in the mark of its build."""
DAMAGED = {"damaged": True}
"""A mark that cannot be read."""
_PREFIX = "floe/build"


def mark_started(
    instance: dg.DagsterInstance,
    run_id: str,
    history: BuildHistory,
    keys: Iterable[dg.AssetKey],
    codes: Mapping[dg.AssetKey, str],
) -> None:
    """Mark tables that dbt is about to build: older records of them, also those of other assets, do not count.

    Args:
        instance: The Dagster instance.
        run_id: Id of the run.
        history: What the instance knew before the run.
        keys: The assets of the tables.
        codes: Fingerprints of incremental models among them; empty for one whose rows will also come from other code.
    """
    keys = list(keys)
    events = {key: last.storage_id if (last := history.materializations.get(key)) else None for key in keys}
    relations = {key: history.relations[key] for key in keys if key in history.relations}
    owners = {key_of_relation(relation): {"asset": key.to_string()} for key, relation in relations.items()}
    started = {
        key_of(key): {"event": event, "started": run_id, **({CODE: codes[key]} if key in codes else {})}
        for key, event in events.items()
    }
    write_marks(instance, {**started, **owners})


def mark_reused(instance: dg.DagsterInstance, run_id: str, history: BuildHistory, keys: Iterable[dg.AssetKey]) -> None:
    """Mark tables that a run reuses: their records count, whatever other runs have planned before this decision."""
    events = {key: history.materializations[key].storage_id for key in keys}
    marks = {key_of(key): {"event": event, "cursor": history.cursor, "run": run_id} for key, event in events.items()}
    write_marks(instance, marks)


def store_shapes(instance: dg.DagsterInstance, shapes: Mapping[dg.AssetKey, tuple[str, str]]) -> None:
    """Store the builds of tables, and their columns and identities after the build."""
    write_marks(
        instance, {key_of_shape(key): {"build": build, "shape": shape} for key, (build, shape) in shapes.items()}
    )


def store_tests(instance: dg.DagsterInstance, records: Mapping[dg.AssetCheckKey, CheckRecord | None]) -> None:
    """Store the results of tests; None for a test that is about to run."""
    values = {key_of(key): record.as_json() if record else {"started": True} for key, record in records.items()}
    write_marks(instance, values)


def write_marks(instance: dg.DagsterInstance, values: Mapping[str, Mapping[str, Any]]) -> None:
    """Write marks."""
    if values:
        store_values(instance, {key: json.dumps(value) for key, value in values.items()})


def read_marks(instance: dg.DagsterInstance, keys: Iterable[str]) -> dict[str, Any]:
    """Read marks. A damaged one is :data:`DAMAGED`; missing ones are left out."""
    return {key: _value(text) for key, text in stored_values(instance, keys).items()}


def _value(text: str) -> Any:  # noqa: ANN401  # JSON
    try:
        return orjson.loads(text)
    except ValueError:
        return DAMAGED


@lru_cache(maxsize=1 << 16)
def key_of(key: dg.AssetKey | dg.AssetCheckKey) -> str:
    """Return the key of the mark of a table or of the last result of a test."""
    name = getattr(key, "name", None)
    asset = key if name is None else key.asset_key  # type: ignore[union-attr]
    text = asset.to_string()  # type: ignore[union-attr]
    return hashed_key(text if name is None else f"{text} {name}")


def key_of_shape(key: dg.AssetKey) -> str:
    """Return the key of the columns of a table."""
    return hashed_key(f"shape {key.to_string()}")


def key_of_relation(relation: str) -> str:
    """Return the key of the asset that has built the table in a place."""
    return hashed_key(f"table {relation}")


def hashed_key(text: str) -> str:
    """Return a key of fixed length: MySQL's storage compares only the first 64 characters."""
    return f"{_PREFIX} {hashlib.sha256(text.encode()).hexdigest()[:40]}"
