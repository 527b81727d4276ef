"""Descriptions of Python assets for lineage events, from the code location and from a run's materializations."""

from __future__ import annotations

from datetime import timezone
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.product.tags import PRODUCT_TAG, tag_value

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from floe_orchestrator_dagster.assets.product_translator import ProductTranslator
    from floe_orchestrator_dagster.lineage.datasets.names import DatasetName
    from floe_orchestrator_dagster.lineage.events.python_assets import PythonAsset

# Tag of lineage sensors with the name of their product.
LINEAGE_TAG = "floe/lineage_of"
_COLUMNS = "dagster/column_schema"
_ROWS = "dagster/row_count"


class AssetDescriptions:
    """The assets of a code location."""

    def __init__(self, translator: ProductTranslator, repository: dg.RepositoryDefinition | None) -> None:
        """Describe assets of a product's code location. Without a repository, only the names of assets are known."""
        self._product = translator.product
        self._translator = translator
        self._graph = repository.asset_graph if repository is not None else None
        tags = [sensor.tags for sensor in repository.sensor_defs] if repository is not None else []
        self._reporting = {tag[LINEAGE_TAG] for tag in tags if LINEAGE_TAG in tag}

    def reported(self, assets: Collection[dg.AssetKey]) -> set[dg.AssetKey]:
        """Return the assets of a run for which this product emits events.

        These are its own assets. One product also emits the events of assets that belong to no product. It is the first
        by name of the run's products with lineage. If the run has none, it is the first of those in the code location.
        """
        mine, of = tag_value(self._product.name), {key: self._product_of(key) for key in assets}
        reporting = {mine, *self._reporting}
        first = min(reporting.intersection(of.values()) or reporting)
        return {key for key, product in of.items() if (first if product is None else product) == mine}

    def _product_of(self, key: dg.AssetKey) -> str | None:
        tags = self._graph.get(key).tags if self._graph is not None and self._graph.has(key) else {}
        return tags.get(PRODUCT_TAG)

    def asset(self, key: dg.AssetKey, made: dg.AssetMaterialization | None) -> PythonAsset:
        """Describe an asset, with the columns of the materialization or else the declared ones."""
        from floe_orchestrator_dagster.lineage.events.python_assets import PythonAsset

        if self._graph is None or not self._graph.has(key):
            return PythonAsset(tuple(key.path), columns=_columns(made.metadata if made else {}))
        node = self._graph.get(key)
        return PythonAsset(
            key=tuple(key.path),
            reads=[tuple(parent.path) for parent in sorted(node.parent_keys)],
            description=node.description or "",
            owners=list(node.owners),
            tags=dict(node.tags),
            columns=_columns(made.metadata if made else {}) or _columns(node.metadata),
        )

    def names(self, key: dg.AssetKey) -> Mapping[tuple[str, ...], DatasetName]:
        """Return the dataset names of the dbt tables among an asset and its upstream assets."""
        reads = self._graph.get(key).parent_keys if self._graph is not None and self._graph.has(key) else ()
        return {tuple(one.path): self._tables[one] for one in (key, *reads) if one in self._tables}

    def rows(self, made: dg.AssetMaterialization | None) -> int | None:
        """Return the row count in a materialization's metadata; None when there is none."""
        value = made.metadata.get(_ROWS) if made else None
        return int(value.value) if isinstance(value, dg.IntMetadataValue) and value.value is not None else None

    def window(self, key: dg.AssetKey, partition: str | None) -> tuple[datetime, datetime] | None:
        """Return start and end of a time partition in UTC; None for other partitions and times out of range."""
        definition = self._graph.get(key).partitions_def if self._graph is not None and self._graph.has(key) else None
        if partition is None or not isinstance(definition, dg.TimeWindowPartitionsDefinition):
            return None
        try:
            window = definition.time_window_for_partition_key(partition)
            return window.start.astimezone(timezone.utc), window.end.astimezone(timezone.utc)
        except (ValueError, OverflowError):  # a key of earlier partitions, or a day such as 9999-12-31
            return None

    @cached_property
    def _tables(self) -> Mapping[dg.AssetKey, DatasetName]:
        """Dataset names of the dbt tables by asset key, each as on the target that builds the table."""
        from floe_orchestrator_dagster.lineage.datasets.computes import read_computes

        dbt = self._product.dbt
        if dbt is None:
            return {}
        computes = read_computes(self._product, dbt.profile, dbt.profile.environment, PurePosixPath(dbt.directory.path))
        relations = [*dbt.manifest.asset_nodes, *dbt.manifest.content["sources"].values()]
        # Python assets can also read sources that are left out. If such a source has the key of another node, the
        # other node replaces it.
        relations.sort(key=lambda node: node["unique_id"] in self._translator.key_of)
        return {self._translator.get_asset_key(node): computes.identify(node).dataset for node in relations}


def _columns(metadata: Mapping[str, object]) -> dict[str, str]:
    value = metadata.get(_COLUMNS)
    schema = value.value if isinstance(value, dg.TableSchemaMetadataValue) else value
    return {column.name: column.type for column in schema.columns} if isinstance(schema, dg.TableSchema) else {}
