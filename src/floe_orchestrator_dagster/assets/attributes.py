"""Tags, owners, kinds, links and metadata of a product's assets, and the facts about the product itself."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.errors import Problem
from floe_orchestrator_dagster.product.contracts import (
    match_ingestion_outputs,
    match_table_contracts,
    read_table_contracts,
)
from floe_orchestrator_dagster.product.manifest import declared_nodes
from floe_orchestrator_dagster.product.tags import PRODUCT_TAG, tag_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from floe_core.schemas.compiled_artifacts import ResolvedModel
    from pydantic import BaseModel

    from floe_orchestrator_dagster.product import DbtProject, Product
    from floe_orchestrator_dagster.product.contracts import ContractMatches, IngestionMatches, TableContract
    from floe_orchestrator_dagster.product.manifest import Manifest


MANY_ASSETS = 200
"""Number of models, seeds and snapshots above which the definitions of assets contain less.

An asset's columns are then recorded by its first run, its code reference has no label, which is also the end of its
path, and its checks have no description of what they test. Large products load faster in this form, in every process
and in the webserver.
"""

_VALID_TAG_KEY = re.compile(r"([A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}")
# Email addresses that Dagster accepts as owners. Any other owner becomes a team.
_EMAIL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._%+-]*@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}")
_TEAM = "team:"
_SSH = re.compile(r"git@([\w.-]+):(.+)")
_SCHEMELESS = re.compile(r"[\w-]+(\.[\w-]+)+/\S+")
# Paths of a file on the default branch, by host.
_FILE_PATHS = {"github": "blob/HEAD", "gitlab": "-/blob/HEAD"}


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
        return {
            PRODUCT_TAG: tag_value(self.product.name),
            "floe/domain": tag_value(self.product.domain),
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
        """Metadata of all assets of the product: the values that its tags cannot contain unchanged."""
        product = self.product
        return metadata_beside_tags({PRODUCT_TAG: product.name, "floe/domain": product.domain})

    def tags(self, names: Sequence[str]) -> dict[str, str]:
        """Return the tags of a node: those of the contract, the product, the compute and the tier.

        Args:
            names: As returned by :meth:`names`.
        """
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
        """Return the metadata of a node: the values that its tags cannot contain unchanged.

        Args:
            names: As returned by :meth:`names`.
        """
        return {**self.product_metadata, **metadata_beside_tags({"floe/compute": self.compute(names)})}

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


def metadata_beside_tags(values: Mapping[str, str]) -> dict[str, str]:
    """Return the values that a tag cannot contain unchanged, such as a name with a space."""
    return {key: value for key, value in values.items() if tag_value(value) != value}


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


def declared_owners(node: Mapping[str, Any]) -> list[str]:
    """Return a node's owners in Dagster's form: those in ``meta.dagster.owners``, else the owner of its dbt group.

    An email address of a dbt group that Dagster does not accept becomes a team. A ``group`` that is only a name has no
    owner.
    """
    declared = _dagster_owners(node)
    if declared:
        return [owner.strip() for owner in declared if isinstance(owner, str) and is_dagster_owner(owner.strip())]
    group = node.get("group")
    owner = group.get("owner") if isinstance(group, dict) else None
    emails = _listed(owner.get("email")) if isinstance(owner, dict) else []
    return [found for email in emails if isinstance(email, str) for found in dagster_owners(email.strip())]


def owner_problems(manifest: Manifest) -> list[Problem]:
    """Return a problem for each owner in ``meta.dagster.owners`` that Dagster does not accept."""
    consumers = ("exposures", "semantic_models", "metrics", "saved_queries")
    others = (node for name in ("sources", *consumers) for node in (manifest.content.get(name) or {}).values())
    nodes = [*manifest.asset_nodes, *others]
    return [problem for node in nodes for problem in _problems(node)]


def _problems(node: Mapping[str, Any]) -> Iterator[Problem]:
    for owner in _dagster_owners(node):
        if not isinstance(owner, str) or not is_dagster_owner(owner.strip()):
            yield Problem(
                f"{node['unique_id']} ({node.get('original_file_path')}), meta.dagster.owners",
                f"{owner!r} is not an owner",
                "Write an email address, or `team:` and a name.",
            )


def _dagster_owners(node: Mapping[str, Any]) -> list[object]:
    meta = node.get("meta") or (node.get("config") or {}).get("meta")
    dagster = meta.get("dagster") if isinstance(meta, dict) else None
    return _listed(dagster.get("owners")) if isinstance(dagster, dict) else []


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else ([value] if value else [])


@dataclass(frozen=True)
class AssetLinks:
    """Links of a product's dbt nodes."""

    product: Product

    def metadata(self, node: Mapping[str, Any], *, is_reduced: bool) -> dict[str, Any]:
        """Return metadata with a reference to the node's code, and its page in the dbt docs.

        Args:
            node: The node.
            is_reduced: Whether to leave out the label of the code reference, which is also the end of its path. For a
                source, the code reference is left out, too.
        """
        path = node.get("original_file_path")
        docs, dbt = self.product.config.docs_url, self.product.dbt
        omits_code = is_reduced and node["resource_type"] == "source"
        return {
            **(
                {"dagster/code_references": self._code(node, path, dbt, label=None if is_reduced else path)}
                if path and dbt and not omits_code
                else {}
            ),
            **({"floe/docs": dg.MetadataValue.url(_docs_page(docs, node))} if docs else {}),
        }

    def _code(
        self, node: Mapping[str, Any], path: str, dbt: DbtProject, *, label: str | None
    ) -> dg.CodeReferencesMetadataValue:
        file = _directory(node, dbt) / path
        url = self._url(file)
        with warnings.catch_warnings():
            # Dagster's code references are in beta since 1.8.
            warnings.simplefilter("ignore", dg.BetaWarning)
            local = dg.LocalFileCodeReference(file_path=str(file), label=label)
            online = [dg.UrlCodeReference(url=url, label=label)] if url else []
            return dg.CodeReferencesMetadataValue(code_references=[local, *online])

    def _url(self, file: Path) -> str | None:
        repository = self._repository
        if repository is None or self._root is None or self._root not in file.parents:
            return repository
        shown = next((path for host, path in _FILE_PATHS.items() if host in repository), None)
        return f"{repository}/{shown}/{file.relative_to(self._root).as_posix()}" if shown else repository

    @cached_property
    def _repository(self) -> str | None:
        return repository_url(self.product.artifacts.identity.repository)

    @cached_property
    def _root(self) -> Path | None:
        """The root of the git checkout; without one, as in an image, the directory of the dbt project."""
        if self.product.dbt is None:
            return None
        project = self.product.dbt.directory.path
        return next((path for path in [project, *project.parents] if (path / ".git").exists()), project)


def repository_url(repository: str) -> str | None:
    """Convert ``identity.repository`` to a web URL: from a URL, ``git@host:path`` or ``host/path``; else None."""
    text = repository.strip().removesuffix("/").removesuffix(".git")
    if text.startswith(("https://", "http://")):
        return text
    ssh = _SSH.fullmatch(text)
    if ssh:
        return f"https://{ssh[1]}/{ssh[2]}"
    return f"https://{text}" if _SCHEMELESS.fullmatch(text) else None


def _directory(node: Mapping[str, Any], dbt: DbtProject) -> Path:
    """Return the directory of a node's project: the product's dbt project, or an installed package."""
    own = dbt.manifest.content["metadata"].get("project_name")
    package = str(node.get("package_name"))
    return dbt.directory.path if package == own else dbt.directory.packages_path / package


def _docs_page(docs_url: str, node: Mapping[str, Any]) -> str:
    return f"{docs_url.rstrip('/')}/#!/{node['resource_type']}/{node['unique_id']}"


def product_metadata(product: Product) -> dict[str, Any]:
    """Return the facts about the whole product, the metadata of its job and code location."""
    metadata = product.artifacts.metadata
    return {
        "floe/product": metadata.product_name,
        "floe/product_version": metadata.product_version,
        "floe/product_id": product.artifacts.identity.product_id,
        "floe/source_hash": metadata.source_hash,
        "floe/floe_version": metadata.floe_version,
        "floe/contract_version": product.artifacts.version,
        "floe/compiled_at": metadata.compiled_at.isoformat(),
        **{f"floe/label/{key}": value for key, value in product.spec.labels.items()},
        **_declared("governance", product.artifacts.governance),
        **_declared("enforcement", product.artifacts.enforcement_result),
    }


def _declared(section: str, values: BaseModel | None) -> dict[str, Any]:
    """Return each field of a section of the contract, such as ``floe/governance/data_retention_days``."""
    fields = values.model_dump(mode="json", exclude_none=True) if values else {}
    return {f"floe/{section}/{name}": value for name, value in fields.items()}
