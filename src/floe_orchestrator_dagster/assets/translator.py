"""The public translator of dbt nodes: dagster-dbt's specs, with attributes of contract, floe.yaml and configuration."""

from __future__ import annotations

import copy
import re
import types
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import dagster as dg

from floe_orchestrator_dagster.assets.attributes import declared_owners
from floe_orchestrator_dagster.assets.contracts import (
    contract_metadata,
    contract_owners,
    contract_tags,
    ingestion_metadata,
    ingestion_tags,
)
from floe_orchestrator_dagster.assets.freshness import freshness_attributes
from floe_orchestrator_dagster.assets.names import acceptable_group, acceptable_key_part
from floe_orchestrator_dagster.errors import EntryPointError
from floe_orchestrator_dagster.product.trimming import CODE_VERSION
from floe_orchestrator_dagster.upstream.dagster_dbt_names import (
    CACHED_SPECS,
    DAGSTER_DBT_MANIFEST_METADATA_KEY,
    DAGSTER_DBT_TRANSLATOR_METADATA_KEY,
    DagsterDbtTranslator,
    DagsterDbtTranslatorSettings,
    DbtManifestWrapper,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from dagster_dbt import DbtProject as DagsterDbtProject
    from floe_core.schemas.compiled_artifacts import IngestionOutputTable

    from floe_orchestrator_dagster.assets.attributes import AssetAttributes, AssetLinks
    from floe_orchestrator_dagster.product import Product
    from floe_orchestrator_dagster.product.contracts import TableContract

    CheckSpecOf = Callable[[dg.AssetSpec, Mapping[str, Any], str, DagsterDbtProject | None], dg.AssetCheckSpec | None]

_STORAGE_KIND = "dagster/storage_kind"
# Dagster's tags of kinds, and the number of kinds that it accepts.
_KIND = "dagster/kind/"
_MOST_KINDS = 10
_OBJECTS = (DAGSTER_DBT_MANIFEST_METADATA_KEY, DAGSTER_DBT_TRANSLATOR_METADATA_KEY)


@dataclass(frozen=True)
class TranslatedProduct:
    """The product of a translator's nodes.

    Attributes:
        product: The product.
        attributes: Attributes of its assets.
        links: Links from its assets to files and pages.
        manifest: The product's manifest with the sources that are assets; None without a dbt project.
        project: The manifest with all sources, in the metadata of specs.
        settings: Settings for dagster-dbt.
        conditions: The configured automation conditions, by unique id.
        first: Unique ids of the first node of each definition. When a product has many assets, only their specs have
            dagster-dbt's internal objects (manifest, translator), which dagster-dbt reads from the first spec.
        translator: The translator in the metadata of specs.
        check_spec: Returns the check spec of a dbt test.
        specs: Cache of the translated specs, by unique id.
    """

    product: Product
    attributes: AssetAttributes
    links: AssetLinks
    manifest: Mapping[str, Any] | None
    project: DbtManifestWrapper
    settings: DagsterDbtTranslatorSettings
    conditions: Mapping[str, dg.AutomationCondition[Any]]
    first: Collection[str]
    translator: DagsterDbtTranslator
    check_spec: CheckSpecOf
    specs: dict[str, dg.AssetSpec] = field(default_factory=dict)


class FloeDbtTranslator(DagsterDbtTranslator):
    """Translates dbt nodes to asset and check specs, with floe's attributes.

    Subclass it to change the specs, and pass an instance to
    :func:`~floe_orchestrator_dagster.load_product_definitions`. The methods are those of dagster-dbt's translator.
    ``super()`` returns floe's values: those of ``floe.yaml``, the contract, the configuration and dbt's ``meta``.

    Partitions and other settings come from the product's configuration, ``plugins.orchestrator.config``.

    Examples:
        >>> class Translator(FloeDbtTranslator):
        ...     def get_tags(self, dbt_resource_props):
        ...         return {**super().get_tags(dbt_resource_props), "team": "analytics"}
    """

    _floe_product: TranslatedProduct | None = None

    @property
    def settings(self) -> DagsterDbtTranslatorSettings:
        """The product's settings; before a product is loaded, those of the constructor."""
        return self._floe_product.settings if self._floe_product else super().settings

    @property
    def _floe(self) -> TranslatedProduct:
        if self._floe_product is None:
            raise EntryPointError(
                f"{type(self).__name__} has no product. Pass it as `translator` to load_product_definitions, which "
                "calls it for each dbt node."
            )
        return self._floe_product

    def get_asset_spec(
        self, manifest: Mapping[str, Any], unique_id: str, project: DagsterDbtProject | None
    ) -> dg.AssetSpec:
        """Return dagster-dbt's spec with tier and freshness. Each node is translated once."""
        floe = self._floe
        spec = floe.specs.get(unique_id)
        if spec is None:
            # A node is the same in the manifests of all stages. Only `manifest` has sources that are not assets.
            project_manifest = (
                manifest if floe.manifest is None or _is_other_source(unique_id, floe.manifest) else floe.manifest
            )
            base = super().get_asset_spec(project_manifest, unique_id, project)
            contract = floe.attributes.contracts.by_node.get(unique_id)
            output = floe.attributes.ingestion.by_source.get(unique_id)
            node = manifest["nodes"].get(unique_id) or manifest["sources"][unique_id]
            kinds = {output.quality_tier} if output else floe.attributes.kinds(floe.attributes.names(node))
            # The order of dagster-dbt's dependencies, and therefore of a step's inputs, differs between processes.
            deps = sorted(base.deps, key=lambda dep: dep.asset_key)
            metadata = self._with_objects_of(base.metadata, unique_id)
            fresh = freshness_attributes(contract, node)
            spec = floe.specs[unique_id] = _changed(base, deps, base.kinds | kinds, metadata, fresh)
        return spec

    def _with_objects_of(self, metadata: Mapping[str, Any], unique_id: str) -> dict[str, Any]:
        """Remove dagster-dbt's internal objects, except from the first spec, when the product has many assets.

        Sources then have no metadata about their storage either, because their kinds name it.
        """
        if self._floe.attributes.has_many_assets and unique_id not in self._floe.first:
            omitted = (*_OBJECTS, _STORAGE_KIND) if unique_id.startswith("source.") else _OBJECTS
            return {key: value for key, value in metadata.items() if key not in omitted}
        objects = (self._floe.project, self._floe.translator)
        return {**metadata, **dict(zip(_OBJECTS, objects, strict=True))}

    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: DagsterDbtProject | None
    ) -> dg.AssetCheckSpec | None:
        """Return the check spec of a dbt test with the contract's attributes. Its asset and name must not change."""
        return self._floe.check_spec(asset_spec, manifest, unique_id, project)

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """Return dagster-dbt's key with the configured prefix. A source with a declared key gets no prefix."""
        key = super().get_asset_key(dbt_resource_props)
        declares_key = _declares_key(dbt_resource_props)
        if not declares_key:
            key = dg.AssetKey([acceptable_key_part(part) for part in key.path])
        names_another = dbt_resource_props["resource_type"] == "source" and declares_key
        prefix = self._floe.product.config.key_prefix
        return key.with_prefix(prefix) if prefix and not names_another else key

    def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """Return the node's description without its SQL, or else the data contract's."""
        contract, kind = self._contract(dbt_resource_props), dbt_resource_props["resource_type"]
        # Large products have thousands of nodes, whose names would be repeated.
        named = "" if self._floe.attributes.has_many_assets else f"dbt {kind} {dbt_resource_props['name']}"
        declared = contract.table.description if contract else None
        return (dbt_resource_props.get("description") or declared or named).strip()

    def get_metadata(self, dbt_resource_props: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return dagster-dbt's metadata (table, columns, materialization), those of product and contract, and links.

        If the product has many assets, the metadata contains only columns of data contracts. Runs record all columns.
        """
        attributes = self._floe.attributes
        contract, output = self._contract(dbt_resource_props), self._output(dbt_resource_props)
        is_reduced = attributes.has_many_assets
        shown = {**dbt_resource_props, "columns": {}} if is_reduced else dbt_resource_props
        return {
            **super().get_metadata(shown),
            **attributes.metadata(attributes.names(dbt_resource_props)),
            **(contract_metadata(contract, dbt_resource_props.get("columns") or {}) if contract else {}),
            **(ingestion_metadata(output) if output else {}),
            **self._floe.links.metadata(dbt_resource_props, is_reduced=is_reduced),
            **_original_group(dbt_resource_props),
        }

    def get_tags(self, dbt_resource_props: Mapping[str, Any]) -> Mapping[str, str]:
        """Return the tags of dbt, the contracts and the product."""
        attributes = self._floe.attributes
        contract, output = self._contract(dbt_resource_props), self._output(dbt_resource_props)
        return {
            **super().get_tags(dbt_resource_props),
            **(contract_tags(contract) if contract else {}),
            **attributes.tags(attributes.names(dbt_resource_props)),
            **(ingestion_tags(output) if output else {}),
        }

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """Return the group that ``group_by`` selects; the product's name for a node without one."""
        product, group_by = self._floe.product.identifier, self._floe.product.config.group_by
        if group_by == "product":
            return product
        if group_by == "tier":
            attributes = self._floe.attributes
            return attributes.tier(attributes.names(dbt_resource_props)) or product
        if group_by == "folder":
            return _folder(dbt_resource_props) or product
        named = super().get_group_name(dbt_resource_props)
        return acceptable_group(str(named)) if named else product

    def get_automation_condition(self, dbt_resource_props: Mapping[str, Any]) -> dg.AutomationCondition[Any] | None:
        """Return dagster-dbt's condition (``meta``), else that of the first configured rule that selects the node."""
        named = super().get_automation_condition(dbt_resource_props)
        return named or self._floe.conditions.get(dbt_resource_props["unique_id"])

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> Sequence[str] | None:
        """Return dagster-dbt's owners (meta or dbt group) and the data contract's team, else the product's owner."""
        contract = self._contract(dbt_resource_props)
        declared = contract_owners(contract) if contract else []
        found = list(dict.fromkeys([*declared_owners(dbt_resource_props), *declared]))
        return found or self._floe.attributes.owners or None

    def get_code_version(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """Return the node's fingerprint from the trimmed manifest."""
        return dbt_resource_props.get(CODE_VERSION)

    def _contract(self, node: Mapping[str, Any]) -> TableContract | None:
        return self._floe.attributes.contracts.by_node.get(node["unique_id"])

    def _output(self, node: Mapping[str, Any]) -> IngestionOutputTable | None:
        return self._floe.attributes.ingestion.by_source.get(node["unique_id"])


def checked_translator(translator: object) -> None:
    """Check that a value is a translator.

    Raises:
        EntryPointError: It is not an instance of ``DagsterDbtTranslator``.
    """
    if translator is None or isinstance(translator, DagsterDbtTranslator):
        return
    if isinstance(translator, type) and issubclass(translator, DagsterDbtTranslator):
        given, fix = f"the class {translator.__name__}", f"Pass an instance, `translator={translator.__name__}()`."
    else:
        given, fix = f"of type {type(translator).__name__}", "Pass an instance of a subclass of FloeDbtTranslator."
    raise EntryPointError(f"translator is {given}, not an instance of DagsterDbtTranslator. {fix}")


def translator_of(product: TranslatedProduct, custom: DagsterDbtTranslator | None) -> FloeDbtTranslator:
    """Return a copy of ``custom`` for the nodes of ``product``; floe's own translator when it is None.

    A subclass of dagster-dbt's translator is combined with floe's, so that its ``super()`` also returns floe's values.
    """
    translator = copy.copy(custom) if custom is not None else FloeDbtTranslator()
    kind = type(translator)
    if kind is DagsterDbtTranslator:
        kind = FloeDbtTranslator
    elif not isinstance(translator, FloeDbtTranslator):
        kind = types.new_class(kind.__name__, (kind, FloeDbtTranslator))
    # Subclasses can be frozen dataclasses.
    object.__setattr__(translator, "__class__", kind)
    vars(translator).pop(CACHED_SPECS, None)
    vars(translator)["_floe_product"] = product
    return cast("FloeDbtTranslator", translator)


def _changed(
    spec: dg.AssetSpec,
    deps: Sequence[dg.AssetDep],
    kinds: AbstractSet[str],
    metadata: Mapping[str, Any],
    fresh: Mapping[str, Any],
) -> dg.AssetSpec:
    """Replace attributes of a spec. Dagster checks all others again only where the new ones can be invalid."""
    if len(kinds) > _MOST_KINDS:
        return spec.replace_attributes(deps=deps, kinds={*kinds}, metadata=metadata, **fresh)
    tags = {**spec.tags, **{f"{_KIND}{kind}": "" for kind in sorted(kinds)}}
    return spec._replace(deps=deps, tags=tags, metadata=metadata, **fresh)


def _is_other_source(unique_id: str, manifest: Mapping[str, Any]) -> bool:
    return unique_id.startswith("source.") and unique_id not in manifest["sources"]


def _original_group(node: Mapping[str, Any]) -> dict[str, str]:
    """Return metadata with the dbt group if the group in Dagster has another name."""
    group = (node.get("config") or {}).get("group")
    return {"floe/dbt_group": group} if isinstance(group, str) and acceptable_group(group) != group else {}


def _folder(node: Mapping[str, Any]) -> str | None:
    """Return the first folder below the model path as a group's name; None for a node directly below the path."""
    found = folders(node)
    return re.sub(r"\W", "_", found[0], flags=re.ASCII) if found else None


def folders(node: Mapping[str, Any]) -> Sequence[str]:
    """Return the folders of a node below the model path."""
    found: Sequence[str] = node["fqn"][1:-1]
    # The FQN can have a part between folder and name: the model of a version, the source, the file of a SQL snapshot.
    in_sql = node["resource_type"] == "snapshot" and node["original_file_path"].endswith(".sql")
    if node.get("version") is not None or node["resource_type"] == "source" or in_sql:
        return found[:-1]
    return found


def _declares_key(dbt_resource_props: Mapping[str, Any]) -> bool:
    """Whether a node declares its key in ``meta.dagster.asset_key``, as dagster-dbt reads it."""
    meta = dbt_resource_props.get("config", {}).get("meta") or dbt_resource_props.get("meta") or {}
    return bool(meta.get("dagster", {}).get("asset_key"))
