"""Tags, owners, kinds and metadata of a product's assets (FR-008)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.product.contracts import match_table_contracts, read_table_contracts
from floe_orchestrator_dagster.product.ingestion import match_ingestion_outputs
from floe_orchestrator_dagster.product.manifest import declared_nodes
from floe_orchestrator_dagster.product.tags import PRODUCT_TAG, tag_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from floe_core.schemas.compiled_artifacts import ResolvedModel

    from floe_orchestrator_dagster.product import Product
    from floe_orchestrator_dagster.product.contracts import ContractMatches, TableContract
    from floe_orchestrator_dagster.product.ingestion import IngestionMatches

MANY_ASSETS = 200
"""With more models, seeds and snapshots than this, the definitions of assets are reduced.

Columns are recorded by an asset's first run, and metadata does not repeat the asset's tags or the code location's
metadata. Large products then load faster in every process and in the webserver.
"""

_VALID_TAG_KEY = re.compile(r"([A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}")
# Email addresses that Dagster accepts as owners. Any other owner becomes a team.
_EMAIL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._%+-]*@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}")
_TEAM = "team:"


@dataclass(frozen=True)
class AssetAttributes:
    """Attributes of a product's assets: those of the product and those of each model."""

    product: Product

    @cached_property
    def owners(self) -> list[str]:
        """The product's owner in Dagster's form: an email address, or ``team:name``."""
        return dagster_owners(self.product.spec.owner)

    @cached_property
    def product_tags(self) -> dict[str, str]:
        """Tags of all assets of the product."""
        owner = self.product.spec.owner
        return {
            PRODUCT_TAG: tag_value(self.product.name),
            "floe/domain": tag_value(self.product.artifacts.identity.domain),
            **({"floe/owner": tag_value(owner)} if owner else {}),
        }

    @cached_property
    def table_contracts(self) -> list[TableContract]:
        """The data contracts, one per table.

        Raises:
            ArtifactsError: A data contract is not valid.
        """
        return read_table_contracts(self.product.artifacts.data_contracts, self.product.origin)

    @cached_property
    def contracts(self) -> ContractMatches:
        """The data contracts of dbt nodes; empty without a dbt project."""
        return match_table_contracts(self.table_contracts, self._manifest)

    @cached_property
    def ingestion(self) -> IngestionMatches:
        """The ingestion outputs with and without a dbt source."""
        return match_ingestion_outputs(self.product.artifacts.ingestion_outputs, self._manifest)

    @cached_property
    def has_many_assets(self) -> bool:
        """Whether the product has more assets than :data:`MANY_ASSETS`."""
        return self.product.dbt is not None and len(self.product.dbt.manifest.asset_nodes) > MANY_ASSETS

    @cached_property
    def product_metadata(self) -> dict[str, str]:
        """Metadata of all assets of the product: product, version, source hash and domain."""
        metadata = self.product.artifacts.metadata
        return {
            "floe/product": metadata.product_name,
            "floe/product_version": metadata.product_version,
            "floe/source_hash": metadata.source_hash,
            "floe/domain": self.product.artifacts.identity.domain,
        }

    def tags(self, names: Sequence[str]) -> dict[str, str]:
        """Return the tags of the node with these names: of the product, the contract, the compute and the tier."""
        model, tier, compute = self._declared(names), self.tier(names), self.compute(names)
        return {
            **declared_tags((model.tags if model else None) or ()),
            **self.product_tags,
            **({"floe/compute": tag_value(compute)} if compute else {}),
            **({"floe/tier": tier} if tier else {}),
        }

    def kinds(self, names: Sequence[str]) -> set[str]:
        """Return the kinds besides dbt's: the quality tier. Dagster has icons for bronze, silver and gold."""
        tier = self.tier(names)
        return {tier} if tier else set()

    def metadata(self, names: Sequence[str]) -> dict[str, str]:
        """Return the metadata of the node with these names: of the product, the compute and the tier.

        Empty when the product has many assets.
        """
        if self.has_many_assets:
            return {}
        tier, compute = self.tier(names), self.compute(names)
        return {
            **self.product_metadata,
            **({"floe/compute": compute} if compute else {}),
            **({"floe/tier": tier} if tier else {}),
        }

    def compute(self, names: Sequence[str]) -> str:
        """Return the node's compute; the product's default for a node that the contract does not declare."""
        transforms = self.product.artifacts.transforms
        model = self._declared(names)
        return model.compute if model else (transforms.default_compute if transforms else "")

    def tier(self, names: Sequence[str]) -> str | None:
        """Return the declared quality tier: bronze, silver, gold or None."""
        model = self._declared(names)
        return model.quality_tier if model else None

    def names(self, node: Mapping[str, Any]) -> list[str]:
        """Return the name under which the contract declares a dbt node; empty for an undeclared node."""
        name = self._declared_as.get(node["unique_id"])
        return [name] if name is not None else []

    @cached_property
    def _declared_as(self) -> Mapping[str, str]:
        return declared_nodes(self._models, self._manifest)

    @cached_property
    def _manifest(self) -> Mapping[str, Any]:
        return self.product.dbt.manifest.content if self.product.dbt else {"nodes": {}, "sources": {}}

    def _declared(self, names: Sequence[str]) -> ResolvedModel | None:
        return next((self._models[name] for name in names if name in self._models), None)

    @cached_property
    def _models(self) -> Mapping[str, ResolvedModel]:
        return {model.name: model for model in self.product.models}


def dagster_owners(owner: str | None) -> list[str]:
    """Return an owner in Dagster's form: an email address, or ``team:name``."""
    if not owner or owner == _TEAM:
        return []
    return [owner if is_dagster_owner(owner) else f"{_TEAM}{owner}"]


def is_dagster_owner(owner: str) -> bool:
    """Return whether Dagster accepts an owner: an email address, or ``team:name``."""
    return bool(_EMAIL.fullmatch(owner)) or (owner.startswith(_TEAM) and owner != _TEAM)


def declared_tags(tags: Iterable[str]) -> dict[str, str]:
    """Convert dbt's tags to Dagster's, without those that Dagster rejects as keys, as dagster-dbt does."""
    return {tag: "" for tag in tags if _VALID_TAG_KEY.fullmatch(tag)}
