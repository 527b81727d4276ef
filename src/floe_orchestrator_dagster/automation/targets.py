"""Assets and partitions of jobs and schedules, and the partitions that a tick requests.

A Dagster job supports one kind of partitions. The product's main job builds assets without partitions and those with
the first time partitions of the configuration. Each other kind has a separate job.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from itertools import chain, count
from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.assets.dagster_selection import keys_by_unique_id
from floe_orchestrator_dagster.assets.partitions import partitions_definitions
from floe_orchestrator_dagster.config import config_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from floe_orchestrator_dagster.assets.selection import NodeSelection
    from floe_orchestrator_dagster.config.automation import SelectedAssets
    from floe_orchestrator_dagster.product import Product


_LONGEST_PARTITION = timedelta(days=32)


@dataclass(frozen=True)
class Targets:
    """The assets of a product, found by dbt selection.

    Attributes:
        assets: All assets of the product.
        selection: Resolves dbt selections.
        checks: The checks with separate definitions.
    """

    assets: Sequence[dg.AssetsDefinition | dg.AssetSpec]
    selection: NodeSelection
    checks: Sequence[dg.AssetChecksDefinition] = ()

    def keys(self, entry: SelectedAssets, where: str) -> list[dg.AssetKey]:
        """Return the sorted keys of the selected assets; ``where`` is the entry's place, for errors.

        Raises:
            ConfigError: As :meth:`NodeSelection.chosen`.
        """
        return sorted(self._keys[unique_id] for unique_id in self.selection.chosen(entry, where))

    def job_keys(self, product: Product, name: str) -> list[dg.AssetKey]:
        """Return the keys of the assets that a job of the product builds."""
        row = next((row for row, job in enumerate(product.config.jobs) if job.name == name), None)
        if row is not None:
            return self.keys(product.config.jobs[row], config_path("jobs", row))
        by_job = partitions_by_job(product)
        if name != product.identifier:
            return self.keys_following(by_job[name])
        others = {
            key for other, definition in by_job.items() if other != name for key in self.keys_following(definition)
        }
        return [key for key in self._keys.values() if key not in others]

    def keys_following(self, definition: dg.PartitionsDefinition[str]) -> list[dg.AssetKey]:
        """Return the sorted keys of the assets with these partitions."""
        return sorted(key for key, followed in self._partitions.items() if followed == definition)

    def partitions_of(self, keys: Iterable[dg.AssetKey]) -> list[dg.PartitionsDefinition[str]]:
        """Return the distinct partitions of the assets."""
        found: list[dg.PartitionsDefinition[str]] = []
        for key in keys:
            followed = self._partitions.get(key)
            if followed is not None and followed not in found:
                found.append(followed)
        return found

    @cached_property
    def _partitions(self) -> Mapping[dg.AssetKey, dg.PartitionsDefinition[str]]:
        return {
            key: asset.partitions_def
            for asset in self.assets
            if isinstance(asset, dg.AssetsDefinition) and asset.partitions_def is not None
            for key in asset.keys
        }

    @cached_property
    def checked_sources(self) -> list[dg.AssetKey]:
        """Keys of the sources that have checks."""
        definitions = [asset for asset in (*self.assets, *self.checks) if isinstance(asset, dg.AssetsDefinition)]
        checked = {key.asset_key for definition in definitions for key in definition.check_keys}
        return [asset.key for asset in self.assets if isinstance(asset, dg.AssetSpec) and asset.key in checked]

    @cached_property
    def _keys(self) -> Mapping[str, dg.AssetKey]:
        return keys_by_unique_id(self.assets)


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
