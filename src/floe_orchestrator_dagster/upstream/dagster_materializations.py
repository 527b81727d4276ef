"""Latest materializations of many assets, without the objects that Dagster creates for each of their metadata.

Dagster's own function creates the objects of each event, such as its column lineage, which takes most of the time. Here
the text of an event is parsed, and an object is created for each metadata value that is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import dagster as dg
import orjson
from dagster._serdes import deserialize_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_CODE_VERSION = "dagster/code_version"  # tag of materializations
_RECORD, _JSON = "EventLogRecord", "JsonMetadataEntryData"
# Method of SQL storages that reads the rows of assets, and columns of a row.
_FETCH, _TEXT, _WIPED = "_fetch_asset_rows", "last_materialization", "asset_details"
_KEYS_AT_ONCE = 400  # SQLite limits the number of variables in a statement


@dataclass(frozen=True)
class Materialization:
    """The latest materialization of an asset.

    Attributes:
        storage_id: Its id in the event log.
        run_id: Id of the run.
        timestamp: Time of the event.
        metadata: Its metadata.
        partition: Its partition, if any.
        code_version: Code version of the asset when it was built, if it had one.
    """

    storage_id: int
    run_id: str
    timestamp: float
    metadata: Mapping[str, dg.MetadataValue[Any]]
    partition: str | None
    code_version: str | None = None


class _StoredMetadata(Mapping[str, "dg.MetadataValue[Any]"]):
    """Metadata of an event as it is stored. A value becomes an object when it is read."""

    def __init__(self, entries: Sequence[Mapping[str, Any]]) -> None:
        self._stored = {str(entry["label"]): entry["entry_data"] for entry in entries}

    def __getitem__(self, name: str) -> dg.MetadataValue[Any]:
        return cast("dg.MetadataValue[Any]", deserialize_value(json.dumps(self._stored[name])))

    def json(self, name: str) -> object:
        """Return the JSON of a value without creating its object; None for another type."""
        stored = self._stored.get(name) or {}
        return stored.get("data") if stored.get("__class__") == _JSON else None

    def __contains__(self, name: object) -> bool:
        return name in self._stored

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def stored_json(metadata: Mapping[str, dg.MetadataValue[Any]], name: str) -> object:
    """Return the JSON of a metadata value; None without one."""
    if isinstance(metadata, _StoredMetadata) and (found := metadata.json(name)) is not None:
        return found
    value = metadata.get(name)
    return value.value if value is not None else None


def latest_materializations(
    instance: dg.DagsterInstance, keys: Iterable[dg.AssetKey]
) -> dict[dg.AssetKey, Materialization]:
    """Read the latest materialization of each asset; without assets that were never materialized."""
    found: dict[dg.AssetKey, Materialization] = {}
    every = list(keys)
    for start in range(0, len(every), _KEYS_AT_ONCE):
        part = every[start : start + _KEYS_AT_ONCE]
        parsed, others = _parsed_rows(instance, part)
        found |= parsed
        for record in instance.get_asset_records(others) if others else ():
            latest = record.asset_entry.last_materialization_record
            event = latest.asset_materialization if latest is not None else None
            if latest is not None and event is not None:
                found[record.asset_entry.asset_key] = Materialization(
                    latest.storage_id,
                    latest.run_id,
                    latest.timestamp,
                    event.metadata,
                    event.partition,
                    (event.tags or {}).get(_CODE_VERSION),
                )
    return found


def partition_materializations(
    instance: dg.DagsterInstance, key: dg.AssetKey, partitions: Iterable[str]
) -> dict[str, Materialization]:
    """Read the latest materialization of partitions of an asset; without partitions that were never materialized."""
    event, every, latest = dg.DagsterEventType.ASSET_MATERIALIZATION, sorted(partitions), dict[str, int]()
    for start in range(0, len(every), _KEYS_AT_ONCE):
        part = set(every[start : start + _KEYS_AT_ONCE])
        latest |= instance.event_log_storage.get_latest_storage_id_by_partition(key, event, part)
    ids, found = sorted({*latest.values()}), dict[int, Materialization]()
    for start in range(0, len(ids), _KEYS_AT_ONCE):
        chosen = ids[start : start + _KEYS_AT_ONCE]
        wanted = dg.AssetRecordsFilter(asset_key=key, storage_ids=chosen)
        for record in instance.fetch_materializations(wanted, limit=len(chosen)).records:
            stored = record.asset_materialization
            if stored is not None:
                found[record.storage_id] = Materialization(
                    record.storage_id, record.run_id, record.timestamp, stored.metadata, stored.partition
                )
    return {partition: found[row] for partition, row in latest.items() if row in found}


def _parsed_rows(
    instance: dg.DagsterInstance, keys: Sequence[dg.AssetKey]
) -> tuple[dict[dg.AssetKey, Materialization], Sequence[dg.AssetKey]]:
    """Return the materializations in a SQL storage's rows, and the assets that Dagster's own function has to read.

    These are all assets of other storages, and those that were wiped or have an event in an older or unknown form.
    """
    fetch = getattr(instance.event_log_storage, _FETCH, None)
    if fetch is None:
        return {}, keys
    found, others = dict[dg.AssetKey, Materialization](), list[dg.AssetKey]()
    for row in fetch(asset_keys=keys):
        key = dg.AssetKey.from_db_string(row["asset_key"])
        if key is None:
            continue
        parsed = _parsed(row[_TEXT]) if row[_TEXT] and not row[_WIPED] else None
        if parsed is None:
            others.append(key)
        else:
            found[key] = parsed
    return found, others


def _parsed(text: str) -> Materialization | None:
    """Parse a stored materialization; None for one in another form."""
    try:
        record = orjson.loads(text)
        entry = record["event_log_entry"]
        event = entry["dagster_event"]["event_specific_data"]["materialization"]
        if record["__class__"] != _RECORD:
            return None
        return Materialization(
            int(record["storage_id"]),
            str(entry["run_id"]),
            float(entry["timestamp"]),
            _StoredMetadata(event["metadata_entries"]),
            event["partition"],
            (event["tags"] or {}).get(_CODE_VERSION),
        )
    except (ValueError, KeyError, TypeError):
        return None
