"""Builds of partitions of one table: those whose rows the table still has.

The record of a table is that of its last build, of whichever partitions. It counts under the same conditions as without
partitions: code, inputs, tests, the table itself, other runs. Consecutive builds of a table form a series if each one
left the rows of the others, and all had the same code and the same inputs. The rows of a partition count if its last
build belongs to the series of the table's last build.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from floe_orchestrator_dagster.execution.reuse.records import BuildRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from floe_orchestrator_dagster.execution.reuse.records import State

_MADE_FOR_ALL = "its table was built last in a run without partitions"
_MADE_FOR_PARTITION = "its table was built last in a run of a partition"
_MADE_FOR_OTHERS = "its table was built last in a run of other partitions"


def series_of(build: BuildRecord, last: State | None, rule: str, *, keeps_others: bool) -> str:
    """Return the series that a build of partitions belongs to: that of the build before, or a new one.

    Args:
        build: The build.
        last: What was known before it about the build that the table had.
        rule: Hash of the rule by which the table has partitions. Those of another rule may overlap.
        keeps_others: Whether it certainly left the rows of the other partitions in the table.
    """
    new = f"{rule} {build.build_id}"
    if not keeps_others or not isinstance(last, BuildRecord) or last.series is None:
        return new
    is_same = (last.fingerprint, last.place, last.inputs) == (build.fingerprint, build.place, build.inputs)
    is_known = None not in build.inputs.values() and last.series.startswith(f"{rule} ")
    return last.series if is_same and is_known else new


def unbuilt_partition(
    last: BuildRecord, window: str | None, partitions: Mapping[str, BuildRecord | None], *, keeps_others: bool
) -> str | None:
    """Return why a table does not have the rows of a run's partitions; None if it has them.

    Args:
        last: The build that the table has.
        window: Hash of the run's window of partitions; None for a run without partitions.
        partitions: The last build of each of the run's partitions; None for a partition without a record.
        keeps_others: Whether builds of the table leave the rows of other partitions.
    """
    if window is None:
        return None if last.window is None else _MADE_FOR_PARTITION
    if last.window is None:
        return _MADE_FOR_ALL
    for partition, build in partitions.items():
        if build is None:
            return f"no run has recorded a build of partition {partition}"
        if build.series != last.series:
            return f"its table, its code or what it reads has changed since partition {partition} was built"
        if build.window != window:
            return f"partition {partition} was built last in a run of other partitions"
    # If a declaration was removed, it may have been wrong: the builds of a series may have changed each other's rows.
    is_alone = last.series is not None and last.series.endswith(f" {last.build_id}")
    return None if keeps_others or (is_alone and last.window == window) else _MADE_FOR_OTHERS
