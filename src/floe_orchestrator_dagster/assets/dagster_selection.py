"""Resolution of Dagster's asset selections to the assets that a product builds.

Syntax: https://docs.dagster.io/guides/build/assets/asset-selection-syntax/reference
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.upstream.dagster_dbt_names import DAGSTER_DBT_UNIQUE_ID_METADATA_KEY
from floe_orchestrator_dagster.upstream.dagster_selection_syntax import syntax_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Assets = Sequence[dg.AssetsDefinition | dg.AssetSpec]


class AssetSelectionError(ValueError):
    """A selection that is not valid. Callers report it as an error of this package."""


@dataclass(frozen=True)
class DagsterSelection:
    """Resolves selections on the assets of one product.

    Attributes:
        assets: Returns the product's assets. It is called at the first selection.
    """

    assets: Callable[[], Assets]

    def unique_ids(self, text: str) -> frozenset[str]:
        """Return the selected assets that the product builds, by :func:`keys_by_unique_id`.

        Other assets, such as sources, are not among them, but can be named: ``key:"erp/orders"+``.

        Raises:
            AssetSelectionError: The selection is not valid, or needs more than the definitions of the assets.
        """
        selection = parsed_selection(text)
        try:
            keys = selection.resolve(self._definitions, allow_missing=True)
        except (dg.DagsterError, ValueError) as error:
            raise AssetSelectionError(" ".join(str(error).split())) from error
        except Exception as error:  # NotImplementedError, and an error that Dagster does not export
            what = "it needs values that only Dagster's web interface has, such as the status of an asset"
            said = f": {' '.join(str(error).split())}" if str(error) else ""
            raise AssetSelectionError(f"{what} ({type(error).__name__}{said})") from error
        return frozenset(self._unique_ids[key] for key in keys if key in self._unique_ids)

    @cached_property
    def _definitions(self) -> Sequence[dg.AssetsDefinition]:
        return [
            asset if isinstance(asset, dg.AssetsDefinition) else dg.AssetsDefinition(specs=[asset])
            for asset in self.assets()
        ]

    @cached_property
    def _unique_ids(self) -> Mapping[dg.AssetKey, str]:
        built = [asset for asset in self._definitions if asset.is_materializable]
        return {key: unique_id for unique_id, key in keys_by_unique_id(built).items()}


def parsed_selection(text: str) -> dg.AssetSelection:
    """Read a selection.

    Raises:
        AssetSelectionError: It is not valid. The message has the place of the fault.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # of `include_sources`
        what = syntax_error(text)
        if what is None:
            try:
                return dg.AssetSelection.from_string(text, include_sources=True)
            except Exception as error:  # noqa: BLE001  # Dagster 1.10 raises an error that it does not export
                what = str(error)
    raise AssetSelectionError(f"{what[:1].lower()}{what[1:]}")


def keys_by_unique_id(assets: Assets) -> dict[str, dg.AssetKey]:
    """Return asset keys by dbt's unique id, or by the model's name when the product has no dbt project."""
    specs = [spec for asset in assets if isinstance(asset, dg.AssetsDefinition) for spec in asset.specs]
    return {spec.metadata.get(DAGSTER_DBT_UNIQUE_ID_METADATA_KEY, spec.key.path[-1]): spec.key for spec in specs}
