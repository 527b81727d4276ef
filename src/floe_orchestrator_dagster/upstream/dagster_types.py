"""Classes that Dagster does not export, for annotations only; not imported at run time."""

# ruff: noqa: PLC0414  # `import X as X` lets other modules import X from here
from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph as AssetGraph
    from dagster._core.definitions.assets.graph.asset_graph import AssetNode as AssetNode
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition as UnresolvedAssetJobDefinition,
    )
