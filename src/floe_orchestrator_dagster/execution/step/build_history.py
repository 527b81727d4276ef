"""Knowledge of Dagster's instance about tables and tests: records of builds, marks, results of tests.

The record of a build is in the metadata of its materialization. The marks are beside it, see
:mod:`~floe_orchestrator_dagster.execution.step.build_marks`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.execution.reuse.records import (
    BuildRecord,
    CheckRecord,
    State,
    Unknown,
    read_build,
    read_test,
)
from floe_orchestrator_dagster.execution.step.build_marks import (
    CODE,
    DAMAGED,
    key_of,
    key_of_relation,
    key_of_shape,
    read_marks,
    write_marks,
)
from floe_orchestrator_dagster.upstream.dagster_history import PlannedRuns, StartedSteps, newest_event, planned_runs
from floe_orchestrator_dagster.upstream.dagster_materializations import (
    Materialization,
    latest_materializations,
    stored_json,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RECORD = "floe/build"
"""Key of the metadata with the record of a build."""
BEFORE = "floe/build_before"
"""Key of the metadata of a build that does not count: the record of the last one that counts."""
OTHER_ROWS = "floe/other_rows"
"""Key of the metadata with the option of a run, such as ``empty``, whose table has other rows than usual."""
BUILT_IN_RUN = "floe/built_in_run"
"""Key of the metadata of a reused table or result: the run that built it."""
_WARNED = "warned"


@dataclass(frozen=True)
class BuildHistory:
    """Knowledge about tables and tests before a run.

    Attributes:
        cursor: The newest event of the event log.
        states: The build that each table has, by asset key.
        materializations: The latest materialization of each asset.
        contended: Tables that another unfinished run may build.
        tests: The last result of each test.
        relations: Hash of each asset's table, without the version and project that build it.
        last_records: The record of each asset's latest materialization, whether it counts or not.
        last_counted: The record of each asset's last build that counts, also if later builds do not. Its fingerprint is
            empty if one of these had other code.
        shapes: Of each table, the last build after which its columns were looked up, and these.
        warned: Code of incremental models about whose change a run that does not count has warned already.
        unfinished: Code with which runs have started to build incremental models, and have recorded no result.
    """

    cursor: int = 0
    states: Mapping[dg.AssetKey, State] = field(default_factory=dict)
    materializations: Mapping[dg.AssetKey, Materialization] = field(default_factory=dict)
    contended: frozenset[dg.AssetKey] = frozenset()
    tests: Mapping[dg.AssetCheckKey, CheckRecord] = field(default_factory=dict)
    relations: Mapping[dg.AssetKey, str] = field(default_factory=dict)
    last_records: Mapping[dg.AssetKey, BuildRecord] = field(default_factory=dict)
    last_counted: Mapping[dg.AssetKey, BuildRecord] = field(default_factory=dict)
    shapes: Mapping[dg.AssetKey, tuple[str, str]] = field(default_factory=dict)
    warned: Mapping[dg.AssetKey, str] = field(default_factory=dict)
    unfinished: Mapping[dg.AssetKey, str] = field(default_factory=dict)


def read_history(
    instance: dg.DagsterInstance,
    run_id: str,
    places: Mapping[dg.AssetKey, str],
    checks: Iterable[dg.AssetCheckKey],
    relations: Mapping[dg.AssetKey, str],
) -> BuildHistory:
    """Read what is known about tables and tests.

    Args:
        instance: The Dagster instance.
        run_id: Id of the own run.
        places: Hash of connection and name of each asset's table in this run.
        checks: The checks of the product's tests.
        relations: Hash of each asset's table, as in :class:`BuildHistory`.
    """
    cursor = newest_event(instance)  # before all other queries, so that no later event is missed
    checks = list(checks)
    owners = map(key_of_relation, relations.values())
    values = read_marks(instance, [*map(key_of, places), *map(key_of, checks), *map(key_of_shape, places), *owners])
    latest = latest_materializations(instance, places)
    reader = _Reader(run_id, latest, values, relations)
    cursors = {key: reader.cursor(key) for key in latest}
    planned = planned_runs(
        instance, run_id, min((found for found in cursors.values() if found is not None), default=cursor)
    )
    started = StartedSteps(instance)
    tests = {check: record for check in checks if (record := read_test(values.get(key_of(check)))) is not None}
    return BuildHistory(
        cursor,
        {key: reader.state(key, place, planned, started) for key, place in places.items()},
        latest,
        frozenset(places) if planned.all_by else frozenset(planned.unfinished),
        tests,
        relations,
        reader.records,
        {key: last for key in latest if (last := reader.last_counted(key)) is not None},
        {key: shape for key in places if (shape := _shape(values.get(key_of_shape(key)))) is not None},
        {key: code for key in latest if (code := _text(_stored(latest[key], BEFORE), _WARNED)) is not None},
        {key: code for key in places if (code := _text(reader.mark(key), CODE)) is not None},
    )


def _text(value: object, name: str) -> str | None:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) else None


def _shape(value: object) -> tuple[str, str] | None:
    found = (value.get("build"), value.get("shape")) if isinstance(value, dict) else (None, None)
    build, shape = found
    return (build, shape) if isinstance(build, str) and isinstance(shape, str) else None


@dataclass(frozen=True)
class _Reader:
    run_id: str
    latest: Mapping[dg.AssetKey, Materialization]
    values: Mapping[str, Any]
    relations: Mapping[dg.AssetKey, str]

    @cached_property
    def records(self) -> dict[dg.AssetKey, BuildRecord]:
        """The records of the latest materializations; without those that have no valid one."""
        found = {key: recorded_build(latest) for key, latest in self.latest.items()}
        return {key: record for key, record in found.items() if record is not None}

    def record(self, key: dg.AssetKey) -> BuildRecord | None:
        """Return the record of the latest materialization; None without a valid one."""
        return self.records.get(key)

    def last_counted(self, key: dg.AssetKey) -> BuildRecord | None:
        """Return the record of the last build that counts, which later builds hand on; None without one."""
        return self.record(key) or _recorded(self.latest[key], BEFORE)

    def mark(self, key: dg.AssetKey) -> dict[str, Any]:
        """Return the mark that belongs to the latest materialization, or to none; empty without one."""
        mark, latest = self.values.get(key_of(key)), self.latest.get(key)
        event = latest.storage_id if latest is not None else None
        return mark if isinstance(mark, dict) and "event" in mark and mark["event"] == event else {}

    def cursor(self, key: dg.AssetKey) -> int | None:
        """Return the event up to which other runs are known not to have built a table; None without a record."""
        record, mark = self.record(key), self.mark(key)
        found = mark.get("cursor") if "cursor" in mark else record.cursor if record is not None else None
        return found if isinstance(found, int) else None

    def state(self, key: dg.AssetKey, place: str, planned: PlannedRuns, started: StartedSteps) -> State:
        """Return the build that a table has."""
        latest = self.latest.get(key)
        if latest is None:
            return Unknown("no run has built it")
        record, mark, cursor = self.record(key), self.mark(key), self.cursor(key)
        if record is None or cursor is None or (latest.partition is not None) != (record.window is not None):
            return Unknown("the run that built it last recorded no build that counts")
        doubt = self._marked(key, record, place)
        if doubt:
            return Unknown(doubt)
        other = planned.unfinished.get(key) or planned.all_by
        if other:
            return Unknown(f"run {_short(other)} may be building it")
        if cursor < planned.bound:
            return Unknown("too many runs have started since it was built")
        known = {latest.run_id, mark.get("run")}
        later = (one for one in reversed(planned.since.get(key, ())) if one.event > cursor and one.run_id not in known)
        # A run whose earlier steps have failed never starts the step that builds the asset.
        found = next((one for one in later if started.may_have(one)), None)
        return Unknown(f"run {_short(found.run_id)} was to build it, and has recorded no result") if found else record

    def _marked(self, key: dg.AssetKey, record: BuildRecord, place: str) -> str | None:
        """Return why the marks of a table contradict the record of its last build; None if they do not."""
        mark, owner = self.mark(key), self.values.get(key_of_relation(self.relations.get(key, "")))
        if record.place != place:
            return "it was built last under another name or on another target, connection or version of dbt"
        if self.values.get(key_of(key)) == DAMAGED:
            return "the mark of its last build is damaged"
        if owner is not None and owner != {"asset": key.to_string()}:
            return "another asset has built its table since"
        if mark.get("started"):
            return f"run {_short(mark['started'])} started to build it, and has recorded no result"
        return None


def builder_of(materialization: Materialization) -> str:
    """Return the id of the run that built a table. A later run may have materialized it again without building it."""
    reused = materialization.metadata.get(BUILT_IN_RUN)
    return str(reused.value) if reused is not None else materialization.run_id


def recorded_build(materialization: Materialization) -> BuildRecord | None:
    """Return the record of a build in its materialization; None without a valid one."""
    return _recorded(materialization, RECORD)


def record_before(record: BuildRecord, warned: str | None) -> dg.JsonMetadataValue:
    """Return the value of the metadata :data:`BEFORE`.

    Args:
        record: The record of the last build that counts.
        warned: Code about whose change a run has warned; None without one.
    """
    return dg.JsonMetadataValue({**record.as_json(), _WARNED: warned})


def _recorded(materialization: Materialization, name: str) -> BuildRecord | None:
    return read_build(_stored(materialization, name))


def _stored(materialization: Materialization, name: str) -> object:
    return stored_json(materialization.metadata, name)


def metadata_again(
    instance: dg.DagsterInstance, built: Mapping[dg.AssetKey, str]
) -> dict[dg.AssetKey, tuple[dict[str, Any], str | None]]:
    """Return metadata and data version with which builds of earlier tries of a run are materialized again.

    Without assets whose last materialization is not that of the build, or that a run has started to build since.

    Args:
        instance: The Dagster instance.
        built: Assets with the id of the run that built them.
    """
    latest = latest_materializations(instance, built)
    reader = _Reader("", latest, read_marks(instance, map(key_of, latest)), {})
    found = {}
    for key, last in latest.items():
        if builder_of(last) != built[key] or reader.mark(key).get("started"):
            continue
        metadata: dict[str, Any] = {name: last.metadata[name] for name in (BEFORE, OTHER_ROWS) if name in last.metadata}
        record, cursor = reader.record(key), reader.cursor(key)
        if record is not None and cursor is not None:
            metadata[RECORD] = dg.JsonMetadataValue(replace(record, cursor=cursor).as_json())
        found[key] = metadata, record.build_id if record is not None else None
    return found


def mark_kept(instance: dg.DagsterInstance, run_id: str, built: Mapping[dg.AssetKey, str]) -> None:
    """Mark tables of earlier tries that a run was to build, and neither builds nor materializes again.

    Args:
        instance: The Dagster instance.
        run_id: Id of the run.
        built: Assets with the id of the run that built them.
    """
    latest = latest_materializations(instance, built)
    reader = _Reader("", latest, read_marks(instance, map(key_of, latest)), {})
    kept = {
        key: last for key, last in latest.items() if last.run_id == built[key] and not reader.mark(key).get("started")
    }
    # Builds that other runs have planned since then count as before.
    cursors = {key: cursor for key in kept if (cursor := reader.cursor(key)) is not None}
    marks = {
        key_of(key): {"event": kept[key].storage_id, "cursor": cursor, "run": run_id} for key, cursor in cursors.items()
    }
    write_marks(instance, marks)


def _short(run_id: object) -> str:
    return str(run_id)[:8]
