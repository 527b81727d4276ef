"""dbt nodes → asset specs: dagster-dbt's defaults, with what the contract and floe.yaml declare on top."""

from __future__ import annotations

import re
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.assets.attributes import AssetAttributes
from floe_orchestrator_dagster.assets.contracts import (
    contract_metadata,
    contract_owners,
    contract_tags,
    freshness_attributes,
    ingestion_metadata,
    ingestion_tags,
)
from floe_orchestrator_dagster.assets.links import AssetLinks
from floe_orchestrator_dagster.assets.names import acceptable_group, acceptable_key_part, acceptable_name
from floe_orchestrator_dagster.assets.owners import declared_owners
from floe_orchestrator_dagster.assets.product_asset import product_key
from floe_orchestrator_dagster.assets.quality import declared_check_spec, product_quality
from floe_orchestrator_dagster.assets.source_keys import SourceKeys, source_keys
from floe_orchestrator_dagster.product.quality import is_error
from floe_orchestrator_dagster.product.trimming import CODE_VERSION
from floe_orchestrator_dagster.upstream.dagster_dbt_names import (
    DAGSTER_DBT_MANIFEST_METADATA_KEY,
    DAGSTER_DBT_TRANSLATOR_METADATA_KEY,
    DAGSTER_DBT_UNIQUE_ID_METADATA_KEY,
    DagsterDbtTranslator,
    DagsterDbtTranslatorSettings,
    DbtManifestWrapper,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from dagster_dbt import DbtProject as DagsterDbtProject
    from floe_core.schemas.compiled_artifacts import IngestionOutputTable

    from floe_orchestrator_dagster.assets.stages import DbtTest
    from floe_orchestrator_dagster.product import Product
    from floe_orchestrator_dagster.product.contracts import TableContract
    from floe_orchestrator_dagster.product.quality import QualityMatches

# dagster-dbt takes for a check what is called a test: unit tests are shown to it under this prefix.
UNIT_TEST_PREFIX = "test:"
_OBJECTS = {DAGSTER_DBT_MANIFEST_METADATA_KEY, DAGSTER_DBT_TRANSLATOR_METADATA_KEY}


class FloeDbtTranslator(DagsterDbtTranslator):
    """Keys as dagster-dbt's, so that a project can move here without renaming an asset."""

    def __init__(
        self,
        product: Product,
        tests: Mapping[str, DbtTest] = MappingProxyType({}),
        conditions: Mapping[str, dg.AutomationCondition[Any]] = MappingProxyType({}),
        first: Collection[str] = (),
        sources: SourceKeys | None = None,
    ) -> None:
        """Translate the nodes of one product.

        Args:
            product: The product.
            tests: The dbt tests that are checks, by unique id.
            conditions: The configured automation conditions, by unique id.
            first: The first node of each definition, by unique id. Of many assets only these carry the objects that
                dagster-dbt attaches for itself (manifest, translator): there it looks for them.
            sources: The keys, where another translator of the product has computed them.
        """
        may_share = product.config.dbt.enable_duplicate_source_asset_keys
        super().__init__(
            DagsterDbtTranslatorSettings(
                enable_source_tests_as_checks=True, enable_duplicate_source_asset_keys=may_share
            )
        )
        self._attributes = AssetAttributes(product)
        self._product = product
        self._first = frozenset(first)
        self._links = AssetLinks(product)
        self._group = product.identifier
        self._group_by = product.config.group_by
        self._conditions = conditions
        self._key_prefix = product.config.key_prefix
        self._tests = tests
        self._specs: dict[str, dg.AssetSpec] = {}
        self._known_sources = sources

    @cached_property
    def quality(self) -> QualityMatches:
        """The declared quality checks and the dbt tests that implement them."""
        return product_quality(self._product)

    @cached_property
    def key_of(self) -> Mapping[str, dg.AssetKey]:
        """Key of every model, seed, snapshot and source, by unique id."""
        return self.sources.key_of

    @cached_property
    def product_key(self) -> dg.AssetKey:
        """Key of the product itself."""
        return product_key(self._product, frozenset(self.key_of.values()))

    def get_asset_spec(
        self, manifest: Mapping[str, Any], unique_id: str, project: DagsterDbtProject | None
    ) -> dg.AssetSpec:
        """Add tier and freshness to dagster-dbt's spec; each node is translated once, whatever stage asks for it."""
        spec = self._specs.get(unique_id)
        if spec is None:
            # A stage's manifest says nothing else about the node.
            base = super().get_asset_spec(self._whole or manifest, unique_id, project)
            contract = self._attributes.contracts.by_node.get(unique_id)
            output = self._attributes.ingestion.by_source.get(unique_id)
            node = manifest["nodes"].get(unique_id) or manifest["sources"][unique_id]
            kinds = {output.quality_tier} if output else self._attributes.kinds(self._attributes.names(node))
            bare = self._attributes.are_many and unique_id not in self._first
            changes: dict[str, Any] = {"metadata": _without_objects(base.metadata)} if bare else {}
            changes |= freshness_attributes(contract) if contract else {}
            changes |= self._deps(base, unique_id)
            spec = self._specs[unique_id] = base.replace_attributes(kinds=base.kinds | kinds, **changes)
        return spec

    def _deps(self, spec: dg.AssetSpec, unique_id: str) -> dict[str, Any]:
        """Let what reads a source depend on the model that builds the source's table."""
        if self._product.dbt is None or not self.sources.tables:
            return {}
        manifest = self._product.dbt.manifest
        nodes, sources = manifest.content["nodes"], manifest.content["sources"]
        moved = {
            self.get_asset_key(sources[source]): self.get_asset_key(nodes[self.sources.tables[source]])
            for source in manifest.relations_read_by(unique_id) & self.sources.tables.keys()
        }
        return {"deps": list({key: dg.AssetDep(key) for key in _moved(spec.deps, moved)}.values())} if moved else {}

    def with_objects(self, spec: dg.AssetSpec) -> dg.AssetSpec:
        """Attach the objects that dagster-dbt attaches for itself, where they were left out."""
        objects = (DbtManifestWrapper(self._whole or {}), self)
        keys = (DAGSTER_DBT_MANIFEST_METADATA_KEY, DAGSTER_DBT_TRANSLATOR_METADATA_KEY)
        return spec.merge_attributes(metadata=dict(zip(keys, objects, strict=True)))

    @cached_property
    def _whole(self) -> Mapping[str, Any] | None:
        """The manifest that dagster-dbt translates from; of many assets none says which project it is of."""
        if self._product.dbt is None or not self._attributes.are_many:
            return self._product.dbt.manifest.content if self._product.dbt else None
        content = self._product.dbt.manifest.content
        metadata = {key: value for key, value in content["metadata"].items() if key != "project_id"}
        return {**content, "metadata": metadata}

    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: DagsterDbtProject | None
    ) -> dg.AssetCheckSpec | None:
        """Describe the check that a dbt test is, on the node that it was found to check.

        As dagster-dbt's, with what the contract declares, and described as the dbt test is, where dagster-dbt looks
        into the test's meta only. dagster-dbt has no check for unit tests and for tests over several models; they are
        checks here.
        """
        test = unique_id.removeprefix(UNIT_TEST_PREFIX)
        placed = self._tests.get(test)
        if placed is None:
            return None
        node = manifest["nodes"][unique_id]
        if placed.checks is None:
            return self._product_check_spec(node, placed, test)
        asset_spec = self.get_asset_spec(manifest, placed.checks, project)
        if manifest["parent_map"].get(test) == [placed.checks] and test not in self.quality.by_test:
            return _plain_check_spec(asset_spec.key, node, placed)
        stock = super().get_asset_check_spec(asset_spec, manifest, unique_id, project) if test == unique_id else None
        spec = stock or self._own_check_spec(asset_spec, manifest, unique_id, placed)
        description = spec.description or _test_description(node)
        # As dagster-dbt does, but for its first versions, which block on nothing.
        blocking = is_error(node) and not placed.is_later
        spec = spec._replace(name=placed.name, description=description or None, blocking=blocking)
        declared = self.quality.by_test.get(test)
        if declared is None:
            return spec
        spec = declared_check_spec(spec, declared.check, self._product)
        return spec._replace(blocking=False) if placed.is_later else spec

    def _product_check_spec(self, node: Mapping[str, Any], placed: DbtTest, test: str) -> dg.AssetCheckSpec:
        """Describe a test that reads no asset: a check of the product, which nothing waits for."""
        spec = _plain_check_spec(self.product_key, node, placed)
        declared = self.quality.by_test.get(test)
        spec = declared_check_spec(spec, declared.check, self._product) if declared else spec
        return spec._replace(blocking=False)

    def _own_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, test: DbtTest
    ) -> dg.AssetCheckSpec:
        read = {self.get_asset_spec(manifest, parent, None).key for parent in test.reads}
        return dg.AssetCheckSpec(
            name=test.name,
            asset=asset_spec.key,
            additional_deps=sorted(read - {asset_spec.key}),
            metadata={DAGSTER_DBT_UNIQUE_ID_METADATA_KEY: unique_id.removeprefix(UNIT_TEST_PREFIX)},
        )

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """Key as dagster-dbt's, under the configured prefix; the key that a source declares is another product's."""
        return self.sources.key_of.get(dbt_resource_props["unique_id"]) or self._key(dbt_resource_props)

    @cached_property
    def sources(self) -> SourceKeys:
        """Keys of sources that collide with others, and sources that are tables of models."""
        if self._known_sources is not None:
            return self._known_sources
        if self._product.dbt is None:
            return SourceKeys({}, {}, {}, ())
        may_share = self._product.config.dbt.enable_duplicate_source_asset_keys
        return source_keys(self._product.dbt.manifest, self._key, self._key_prefix, may_share=may_share)

    def _key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        key = super().get_asset_key(dbt_resource_props)
        declares_key = _declares_key(dbt_resource_props)
        if not declares_key:
            key = dg.AssetKey([acceptable_key_part(part) for part in key.path])
        names_another = dbt_resource_props["resource_type"] == "source" and declares_key
        return key.with_prefix(self._key_prefix) if self._key_prefix and not names_another else key

    def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """The node's description, without its SQL; the data contract's where dbt has none."""
        contract = self._contract(dbt_resource_props)
        named = f"dbt {dbt_resource_props['resource_type']} {dbt_resource_props['name']}"
        declared = contract.table.description if contract else None
        return (dbt_resource_props.get("description") or declared or named).strip()

    def get_metadata(self, dbt_resource_props: Mapping[str, Any]) -> Mapping[str, Any]:
        """dagster-dbt's metadata (table, columns, materialization), the product's and contracts', and links.

        Of many assets the columns are those of data contracts only; runs attach the others.
        """
        schema = dbt_resource_props.get("schema")
        contract, output = self._contract(dbt_resource_props), self._output(dbt_resource_props)
        shown = dbt_resource_props if not self._attributes.are_many else {**dbt_resource_props, "columns": {}}
        return {
            **super().get_metadata(shown),
            **self._attributes.metadata(self._attributes.names(dbt_resource_props)),
            **({"floe/schema": schema} if schema and not self._attributes.are_many else {}),
            **(contract_metadata(contract, dbt_resource_props.get("columns") or {}) if contract else {}),
            **(ingestion_metadata(output) if output else {}),
            **self._links.metadata(dbt_resource_props),
            **_original_group(dbt_resource_props),
        }

    def get_tags(self, dbt_resource_props: Mapping[str, Any]) -> Mapping[str, str]:
        """Dbt's tags, the contracts' and the product's."""
        contract, output = self._contract(dbt_resource_props), self._output(dbt_resource_props)
        return {
            **super().get_tags(dbt_resource_props),
            **(contract_tags(contract) if contract else {}),
            **self._attributes.tags(self._attributes.names(dbt_resource_props)),
            **(ingestion_tags(output) if output else {}),
        }

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """The group that the configuration asks for; the product where the node has none."""
        if self._group_by == "product":
            return self._group
        if self._group_by == "tier":
            return self._attributes.tier(self._attributes.names(dbt_resource_props)) or self._group
        if self._group_by == "folder":
            return _folder(dbt_resource_props) or self._group
        named = super().get_group_name(dbt_resource_props)
        return acceptable_group(str(named)) if named else self._group

    def get_automation_condition(self, dbt_resource_props: Mapping[str, Any]) -> dg.AutomationCondition[Any] | None:
        """dagster-dbt's condition (meta), else that of the first configured rule that selects the node."""
        named = super().get_automation_condition(dbt_resource_props)
        return named or self._conditions.get(dbt_resource_props["unique_id"])

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> Sequence[str] | None:
        """dagster-dbt's owners (meta or dbt group) and the data contract's team, else the product's owner."""
        contract = self._contract(dbt_resource_props)
        declared = contract_owners(contract) if contract else []
        found = list(dict.fromkeys([*declared_owners(dbt_resource_props), *declared]))
        return found or self._attributes.owners or None

    def get_code_version(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """The version computed when the manifest was trimmed; it equals dagster-dbt's."""
        return dbt_resource_props.get(CODE_VERSION)

    def _contract(self, node: Mapping[str, Any]) -> TableContract | None:
        return self._attributes.contracts.by_node.get(node["unique_id"])

    def _output(self, node: Mapping[str, Any]) -> IngestionOutputTable | None:
        return self._attributes.ingestion.by_source.get(node["unique_id"])


def _moved(deps: Iterable[dg.AssetDep], keys: Mapping[dg.AssetKey, dg.AssetKey]) -> Iterator[dg.AssetKey]:
    return (keys.get(dep.asset_key, dep.asset_key) for dep in deps)


def _without_objects(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the objects that dagster-dbt attaches for itself."""
    return {key: value for key, value in metadata.items() if key not in _OBJECTS}


def _plain_check_spec(key: dg.AssetKey, node: Mapping[str, Any], placed: DbtTest) -> dg.AssetCheckSpec:
    """Describe a test that reads one asset, as most do, as dagster-dbt and we would in several steps."""
    description = (node.get("meta") or {}).get("description") or _test_description(node)
    return dg.AssetCheckSpec(
        name=placed.name,
        asset=key,
        description=description or None,
        metadata={DAGSTER_DBT_UNIQUE_ID_METADATA_KEY: node["unique_id"].removeprefix(UNIT_TEST_PREFIX)},
        blocking=is_error(node) and not placed.is_later,
    )


def _test_description(node: Mapping[str, Any]) -> str:
    """Describe a test as dbt does, or by its own name where the check cannot have it."""
    described: str = (node.get("description") or "").strip()
    return described or ("" if acceptable_name(node["name"]) == node["name"] else f"dbt test {node['name']}")


def _original_group(node: Mapping[str, Any]) -> dict[str, str]:
    """Show the dbt group of a node whose group in Dagster has another name."""
    group = (node.get("config") or {}).get("group")
    return {"floe/dbt_group": group} if isinstance(group, str) and acceptable_group(group) != group else {}


def _folder(node: Mapping[str, Any]) -> str | None:
    """Name the first folder under the model path, as a group may be called; None right under it."""
    folders = node["fqn"][1:-1]
    # Between folder and name: a version's model, a table's source, the file of a snapshot written in SQL.
    in_sql = node["resource_type"] == "snapshot" and node["original_file_path"].endswith(".sql")
    if node.get("version") is not None or node["resource_type"] == "source" or in_sql:
        folders = folders[:-1]
    return re.sub(r"\W", "_", folders[0], flags=re.ASCII) if folders else None


def _declares_key(dbt_resource_props: Mapping[str, Any]) -> bool:
    """Whether a node says its key itself, in ``meta.dagster.asset_key``, where dagster-dbt looks for it."""
    meta = dbt_resource_props.get("config", {}).get("meta") or dbt_resource_props.get("meta") or {}
    return bool(meta.get("dagster", {}).get("asset_key"))
