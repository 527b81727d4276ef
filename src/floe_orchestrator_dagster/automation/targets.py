"""Asset keys of the selections of jobs and schedules."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.automation.partitions import partitions_by_job
from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.upstream.dagster_dbt_names import DAGSTER_DBT_UNIQUE_ID_METADATA_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from floe_orchestrator_dagster.assets.selection import NodeSelection
    from floe_orchestrator_dagster.product import Product


@dataclass(frozen=True)
class Targets:
    """The assets of a product, found by dbt selection.

    Attributes:
        assets: All assets of the product.
        selection: Resolves dbt selections.
    """

    assets: Sequence[dg.AssetsDefinition | dg.AssetSpec]
    selection: NodeSelection

    def keys(self, select: str, exclude: str | None, where: str) -> list[dg.AssetKey]:
        """Return the sorted keys of the selected assets; ``where`` is the section's place, for errors.

        Raises:
            ConfigError: As :meth:`NodeSelection.unique_ids`.
        """
        return sorted(self._keys[unique_id] for unique_id in self.selection.unique_ids(select, exclude, where))

    def job_keys(self, product: Product, name: str) -> list[dg.AssetKey]:
        """Return the keys of the assets that a job of the product builds."""
        row = next((row for row, job in enumerate(product.config.jobs) if job.name == name), None)
        if row is not None:
            job = product.config.jobs[row]
            return self.keys(job.select, job.exclude, config_path("jobs", row))
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
    def sources(self) -> list[dg.AssetKey]:
        """Keys of assets that the product reads and does not build."""
        return [asset.key for asset in self.assets if isinstance(asset, dg.AssetSpec)]

    @cached_property
    def _keys(self) -> Mapping[str, dg.AssetKey]:
        """Asset keys by dbt's unique id, or by the model's name when the product has no dbt project."""
        specs = [spec for asset in self.assets if isinstance(asset, dg.AssetsDefinition) for spec in asset.specs]
        return {spec.metadata.get(DAGSTER_DBT_UNIQUE_ID_METADATA_KEY, spec.key.path[-1]): spec.key for spec in specs}
