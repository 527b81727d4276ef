"""Jobs of a product whose assets follow partitions: a Dagster job has one kind of them.

The product's own job builds what is not partitioned and what follows the first time partitions of the configuration.
Each other kind has a job of its own.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import chain, count
from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.assets.partitions import partitions_definitions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from floe_orchestrator_dagster.product import Product

_LONGEST_PARTITION = timedelta(days=32)


def partitions_by_job(product: Product) -> dict[str, dg.PartitionsDefinition[str]]:
    """Return which job builds which kind of partitions; empty without partitions.

    Static partitions always have a job of their own: each of them is a run, and must not build all else every time.

    Raises:
        ConfigError: Partitions that cannot be.
    """
    found: dict[str, dg.PartitionsDefinition[str]] = {}
    for rule, definition in zip(product.config.partitions, partitions_definitions(product), strict=True):
        if definition in found.values():
            continue
        name = f"{product.identifier}_{rule.type}"
        numbered = (name if number == 1 else f"{name}_{number}" for number in count(1))
        names = numbered if rule.type == "static" else chain([product.identifier], numbered)
        found[next(free for free in names if free not in found)] = definition
    return found


def requested_partitions(definition: dg.PartitionsDefinition[str], previous: datetime, instant: datetime) -> list[str]:
    """Choose the partitions that a tick asks for.

    Of time partitions those that became complete since the tick before, however late this one is evaluated, else the
    newest complete one again; of static ones all.

    Args:
        definition: The partitions of the job.
        previous: The tick before.
        instant: The tick.
    """
    if not isinstance(definition, dg.TimeWindowPartitionsDefinition):
        return list(definition.get_partition_keys())
    first, last = definition.get_first_partition_window(), definition.get_last_partition_window()
    if first is None or last is None:
        return []
    earliest = previous - _LONGEST_PARTITION * (abs(definition.end_offset) + 2)
    begin = max(first.start, min(earliest, last.start))
    keys = definition.get_partition_keys_in_time_window(dg.TimeWindow(begin, last.end))
    ends = [definition.time_window_for_partition_key(key).end for key in keys]

    def existing(at: datetime) -> int:
        return max(0, sum(end <= at for end in ends) + definition.end_offset)

    return list(keys[existing(previous) : existing(instant)] or keys[: existing(instant)][-1:])


def partition_requests(
    key_prefix: str, partitions: Sequence[str], keys: Sequence[dg.AssetKey] | None, tags: dict[str, str]
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Ask for one run per partition.

    Args:
        key_prefix: Distinguishes this tick from others: of several runs each has to have a key.
        partitions: The partitions.
        keys: What to build of the job; None for everything.
        tags: Tags of the runs.
    """
    if not partitions:
        yield dg.SkipReason("no partition is complete yet")
    for key in partitions:
        yield dg.RunRequest(run_key=f"{key_prefix}/{key}", partition_key=key, asset_selection=keys, tags=tags)
