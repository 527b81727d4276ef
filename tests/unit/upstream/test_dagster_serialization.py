"""Serialization of Dagster's objects: the same text as Dagster's, without its generators for each object.

This module has no ``from __future__ import annotations``: Dagster reads the annotations of steps at run time.
"""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import dagster as dg
import pytest

from floe_orchestrator_dagster.upstream import dagster_serialization
from floe_orchestrator_dagster.upstream.dagster_serialization import find_problem, replace_serialization
from processes import run_python

# Dagster warns about some of the objects, and when it describes a schedule.
pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore:Property:DeprecationWarning")
_SERDES: Any = import_module("dagster_shared.serdes.serdes")
_LAZY: Any = _SERDES._LazySerializationWrapper
_OFF = """
from importlib import import_module
from floe_orchestrator_dagster.upstream.dagster_serialization import replace_serialization
serdes = import_module("dagster_shared.serdes.serdes")
own = serdes._LazySerializationWrapper.items, serdes._pack_object
replace_serialization()
print(own == (serdes._LazySerializationWrapper.items, serdes._pack_object))
"""


class Options(dg.Config):
    """Options of a step."""

    full_refresh: bool = False
    name: str = "a"


@pytest.fixture(autouse=True)
def dagsters_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use Dagster's own functions until a test replaces them, and keep all fields, which another patch can remove."""
    monkeypatch.setattr(dagster_serialization, "_shortening", {})
    for place, name in ((_LAZY, "items"), (_SERDES, "_pack_object")):
        own = getattr(place, name)
        monkeypatch.setattr(place, name, getattr(own, "__wrapped__", own))


def definitions(count: int = 3) -> dg.Definitions:
    """Definitions with all that a repository's snapshot can contain."""
    days = dg.DailyPartitionsDefinition("2026-01-01")
    both = dg.MultiPartitionsDefinition({"day": days, "country": dg.StaticPartitionsDefinition(["at", "ch"])})
    columns = dg.TableSchema([dg.TableColumn("id", "int", constraints=dg.TableColumnConstraints(nullable=False))])
    lineage = dg.TableColumnLineage({"id": [dg.TableColumnDep(dg.AssetKey(["raw", "orders"]), "id")]})
    metadata: dict[str, Any] = {
        "text": "ä\n\"'",
        "none": None,
        "count": 3,
        "share": 0.5,
        "is_new": True,
        "values": {"a": [1, {"b": None}]},
        "page": dg.MetadataValue.url("https://example.com"),
        "notes": dg.MetadataValue.md("*x*"),
        "other": dg.AssetKey("other"),
        "at": dg.TimestampMetadataValue(1.5),
        "dagster/column_schema": columns,
        "dagster/column_lineage": lineage,
        "dagster/code_references": dg.CodeReferencesMetadataValue(
            code_references=[dg.LocalFileCodeReference(file_path="/a/b.sql", line_number=3, label="b")]
        ),
    }
    specs = [
        dg.AssetSpec(
            ["raw", f"table_{row}"],
            deps=[
                f"source_{row}",
                dg.AssetDep("orders", partition_mapping=dg.TimeWindowPartitionMapping(start_offset=-1)),
            ],
            metadata=metadata,
            tags={"team": "sales", "is_new": ""},
            kinds={"dbt", "gold"},
            owners=["team:sales", "a@example.com"],
            code_version="1",
            skippable=True,
            automation_condition=dg.AutomationCondition.eager() if row else None,
        )
        for row in range(count)
    ]
    checks = [
        dg.AssetCheckSpec(
            "unique", asset=spec.key, blocking=bool(row), metadata={"row": row}, additional_deps=["orders"]
        )
        for row, spec in enumerate(specs)
    ]

    @dg.multi_asset(specs=specs, check_specs=checks, can_subset=True, partitions_def=days, op_tags={"a": "b"}, pool="p")
    def tables(config: Options) -> Iterator[Any]:  # noqa: ARG001  # its schema is part of the job
        yield from ()

    @dg.asset(partitions_def=days, description="Orders")
    def orders() -> None:
        """Return nothing."""

    @dg.asset(partitions_def=both, retry_policy=dg.RetryPolicy(2))
    def countries() -> None:
        """Return nothing."""

    job = dg.define_asset_job("daily", selection=[orders, tables], tags={"x": "y"}, metadata={"a": 1})

    @dg.sensor(job=job, name="changes")
    def changes() -> None:
        """Request nothing."""

    return dg.Definitions(
        assets=[tables, orders, countries, dg.AssetSpec("other", metadata=metadata)],
        jobs=[job],
        schedules=[
            dg.ScheduleDefinition(job=job, cron_schedule="0 4 * * *"),
            dg.build_schedule_from_partitioned_job(job, name="p"),
        ],
        sensors=[changes, dg.AutomationConditionSensorDefinition("conditions", target="*")],
        metadata={"product": "shop"},
    )


def snapshots(count: int = 3) -> list[str]:
    """Serialize what Dagster's code server sends, and what the identifiers of jobs are computed from."""
    repository = definitions(count).get_repository_def()
    data: Any = import_module("dagster._core.remote_representation.external_data").RepositorySnap
    return [
        *(dg.serialize_value(data.from_def(repository, defer_snapshots=is_deferred)) for is_deferred in (True, False)),
        *(dg.serialize_value(job.get_job_snapshot()) for job in repository.get_all_jobs()),
        *(job.get_job_snapshot_id() for job in repository.get_all_jobs()),
    ]


def test_snapshots_are_those_of_dagster() -> None:
    own = snapshots()
    replace_serialization()

    assert snapshots() == own
    assert '"depended_by": []' in own[0] or '"depended_by"' not in own[0]


def test_events_and_values_are_those_of_dagster() -> None:
    @dg.asset(check_specs=[dg.AssetCheckSpec("positive", asset="numbers")])
    def numbers() -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster does not know its argument
        found = dg.AssetCheckResult(passed=True, metadata={"rows": 3, "share": 0.5, "column": "ä"})
        return dg.MaterializeResult(
            metadata={"rows": dg.MetadataValue.int(3), "json": {"a": [1]}}, check_results=[found]
        )

    events = dg.materialize([numbers]).all_events
    others: list[Any] = [dg.AssetKey(["a", "b"]), [dg.AssetKey("a"), (1, 2)], {"a": {dg.AssetKey("b")}}, None, "a"]

    def texts() -> list[str]:
        packed = [_SERDES.serialize_value(_SERDES.pack_value(value)) for value in [*events, *others]]
        return [*map(dg.serialize_value, [*events, *others]), *packed, dg.serialize_value(others, indent=2)]

    own = texts()
    replace_serialization()

    assert texts() == own
    assert dg.deserialize_value(texts()[-1], list)[0] == dg.AssetKey(["a", "b"])


def test_objects_of_many_assets_are_not_read_by_dagsters_generators(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    pack_items = _SERDES.ObjectSerializer.pack_items

    def reading(serializer: Any, value: Any, *rest: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401  # Dagster's types
        # Dagster 1.10 has a serializer of its own for this class of automation conditions.
        if _SERDES.is_record(value) and type(value).__name__ != "InitialEvaluationCondition":
            read.append(type(value).__name__)
        yield from pack_items(serializer, value, *rest)

    monkeypatch.setattr(_SERDES.ObjectSerializer, "pack_items", reading)
    monkeypatch.setattr(_SERDES.NamedTupleSerializer, "pack_items", reading)
    replace_serialization()

    def reads(count: int) -> int:
        read.clear()
        snapshots(count)
        return len(read)

    assert reads(20) == reads(2)


def test_a_value_that_cannot_be_serialized_is_refused_with_dagsters_message() -> None:
    def message(value: object) -> str:
        with pytest.raises(_SERDES.SerializationError) as caught:
            dg.serialize_value([dg.AssetKey("a"), value])  # type: ignore[list-item]  # that is the point
        return str(caught.value)

    broken = dg.AssetCheckSpec("a", asset="b", metadata={"c": object()})
    own = message(broken), message(object())
    replace_serialization()

    assert (message(broken), message(object())) == own


def test_another_dagster_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_problem() is None
    with monkeypatch.context() as patched:
        patched.setattr(_SERDES, "_wrap_object", lambda obj, path: (obj, path))
        assert find_problem() == ("dagster_shared.serdes.serdes has no _wrap_object(obj, whitelist_map, descent_path)")
    with monkeypatch.context() as patched:
        patched.setattr(_SERDES._WHITELIST_MAP.object_serializers["AssetKey"], "skips", {"path"}, raising=False)
        assert find_problem() == "records have changed"
    monkeypatch.delattr(_SERDES, "_LazySerializationWrapper")
    assert find_problem() == "dagster_shared.serdes.serdes has no _LazySerializationWrapper of an object"


def test_a_second_call_replaces_nothing() -> None:
    replace_serialization()
    once = _LAZY.items, _SERDES._pack_object
    replace_serialization()

    assert (_LAZY.items, _SERDES._pack_object) == once


def test_without_patches_dagsters_functions_are_used() -> None:
    assert run_python("-c", _OFF, FLOE_UPSTREAM_PATCHES="off").stdout == "True\n"
    assert run_python("-c", _OFF).stdout == "False\n"
