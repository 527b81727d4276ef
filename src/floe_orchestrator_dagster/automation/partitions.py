"""Assignment of partitions to jobs, and the partitions that a tick requests.

A Dagster job supports one kind of partitions. The product's main job builds assets without partitions and those with
the first time partitions of the configuration. Each other kind has a separate job.
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
    """Return the partitions that each job builds, by the job's name; empty without partitions.

    Static partitions always have a separate job, because each static partition is a run. In the main job, each of these
    runs would build all other assets again.

    Raises:
        ConfigError: The configured partitions are not valid.
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
    """Return the partitions that a tick requests.

    Of time partitions, the tick requests those that have ended since the previous tick. If none has ended, it requests
    the newest complete one again. A late evaluation does not change the result. Of static partitions, it requests all.

    Args:
        definition: The partitions of the job.
        previous: Time of the previous tick.
        instant: Time of the tick.
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
    """Request one run per partition.

    Args:
        key_prefix: Identifies the tick. Each run's key is unique within it.
        partitions: The partitions.
        keys: Assets of the job to build; None for all of them.
        tags: Tags of the runs.
    """
    if not partitions:
        yield dg.SkipReason("no partition is complete yet")
    for key in partitions:
        yield dg.RunRequest(run_key=f"{key_prefix}/{key}", partition_key=key, asset_selection=keys, tags=tags)
