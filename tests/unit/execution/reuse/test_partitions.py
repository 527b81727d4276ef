"""A partition is reused only if its build belongs to the series of builds that the table has."""

from __future__ import annotations

from dataclasses import replace

import pytest

from floe_orchestrator_dagster.execution.reuse.partitions import series_of, unbuilt_partition
from floe_orchestrator_dagster.execution.reuse.records import BuildRecord, State, Unknown, read_build

LAST = BuildRecord("b1", "f", "p", {"a": "1"}, 0, window="monday", series="rule b0")
NEXT = BuildRecord("b2", "f", "p", {"a": "1"}, 0)


def test_build_with_the_same_code_and_inputs_continues_a_series() -> None:
    assert series_of(NEXT, LAST, "rule", keeps_others=True) == "rule b0"


@pytest.mark.parametrize(
    ("build", "last", "keeps_others"),
    [
        (NEXT, LAST, False),
        (NEXT, None, True),
        (NEXT, Unknown("killed"), True),
        (NEXT, replace(LAST, window=None, series=None), True),
        (NEXT, replace(LAST, series="other b0"), True),
        (replace(NEXT, fingerprint="g"), LAST, True),
        (replace(NEXT, place="q"), LAST, True),
        (replace(NEXT, inputs={"a": "2"}), LAST, True),
        (replace(NEXT, inputs={"a": "1", "b": "1"}), LAST, True),
        (replace(NEXT, inputs={"a": None}), replace(LAST, inputs={"a": None}), True),
    ],
)
def test_other_builds_start_a_series(build: BuildRecord, last: State | None, keeps_others: bool) -> None:  # noqa: FBT001  # of a case
    assert series_of(build, last, "rule", keeps_others=keeps_others) == "rule b2"


@pytest.mark.parametrize(
    ("last", "window", "partitions", "why"),
    [
        (LAST, "monday", {"mon": LAST}, None),
        (LAST, "monday", {"mon": replace(LAST, build_id="b0", window="monday")}, None),
        (LAST, "monday", {"mon": None}, "no run has recorded a build of partition mon"),
        (LAST, "monday", {"mon": LAST, "tue": None}, "no run has recorded a build of partition tue"),
        (
            LAST,
            "monday",
            {"mon": replace(LAST, series="rule b9")},
            "its table, its code or what it reads has changed since partition mon was built",
        ),
        (LAST, "tuesday", {"mon": LAST}, "partition mon was built last in a run of other partitions"),
        (LAST, None, {}, "its table was built last in a run of a partition"),
        (NEXT, "monday", {"mon": LAST}, "its table was built last in a run without partitions"),
        (NEXT, None, {}, None),
    ],
)
def test_rows_of_partitions_that_a_table_has(
    last: BuildRecord, window: str | None, partitions: dict[str, BuildRecord | None], why: str | None
) -> None:
    assert unbuilt_partition(last, window, partitions, keeps_others=True) == why


def test_partition_of_a_table_whose_declaration_was_removed() -> None:
    alone = replace(LAST, series=f"rule {LAST.build_id}")
    assert unbuilt_partition(alone, "monday", {"mon": alone}, keeps_others=False) is None

    series = {"mon": LAST}
    after_other = replace(LAST, window="tuesday")
    assert unbuilt_partition(after_other, "monday", series, keeps_others=True) is None
    why = unbuilt_partition(after_other, "monday", series, keeps_others=False)
    assert why == "its table was built last in a run of other partitions"
    # The record of the other build, which a run of monday has stored once more.
    assert unbuilt_partition(LAST, "monday", series, keeps_others=False) == why


def test_record_of_partitions_is_read_as_it_was_stored() -> None:
    assert read_build(LAST.as_json()) == LAST
    assert read_build(NEXT.as_json()) == NEXT
    damaged = {**LAST.as_json(), "series": None}
    assert read_build(damaged) == replace(LAST, window=None, series=None)
