"""Translator of one product's dbt nodes: specs of floe's or a user's translator, with distinct keys and valid edges."""

from __future__ import annotations

from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.assets.attributes import AssetAttributes, AssetLinks
from floe_orchestrator_dagster.assets.check_specs import plain_check_spec, test_description
from floe_orchestrator_dagster.assets.partitions import with_partition_mappings, with_partitions
from floe_orchestrator_dagster.assets.quality import declared_check_spec, product_key, product_quality
from floe_orchestrator_dagster.assets.sources import SourceKeys, asset_sources, source_keys
from floe_orchestrator_dagster.assets.stage_manifest import UNIT_TEST_PREFIX
from floe_orchestrator_dagster.assets.translator import FloeDbtTranslator, TranslatedProduct, translator_of
from floe_orchestrator_dagster.errors import EntryPointError
from floe_orchestrator_dagster.product.quality import is_error
from floe_orchestrator_dagster.product.tags import PRODUCT_TAG, tag_value
from floe_orchestrator_dagster.upstream.dagster_dbt_names import (
    DAGSTER_DBT_MANIFEST_METADATA_KEY,
    DAGSTER_DBT_TRANSLATOR_METADATA_KEY,
    DAGSTER_DBT_UNIQUE_ID_METADATA_KEY,
    DagsterDbtTranslator,
    DagsterDbtTranslatorSettings,
    DbtManifestWrapper,
    with_functions,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from dagster_dbt import DbtProject as DagsterDbtProject

    from floe_orchestrator_dagster.assets.stages import DbtTest
    from floe_orchestrator_dagster.product import Product
    from floe_orchestrator_dagster.product.quality import QualityMatches

    Conditions = Mapping[str, dg.AutomationCondition[Any]]
    Windows = Mapping[str, dg.PartitionsDefinition[str]]


class ProductTranslator(DagsterDbtTranslator):
    """Translator of a whole product. Keys are those of dagster-dbt, so that a migration renames no asset."""

    def __init__(
        self,
        product: Product,
        custom: DagsterDbtTranslator | None = None,
        tests: Mapping[str, DbtTest] = MappingProxyType({}),
        conditions: Conditions = MappingProxyType({}),
        first: Collection[str] = (),
    ) -> None:
        """Create the translator of a product's nodes.

        Args:
            product: The product.
            custom: A user's translator; None for floe's own.
            tests: The dbt tests with checks, by unique id.
            conditions: The configured automation conditions, by unique id.
            first: Unique ids of the first node of each definition.
        """
        may_share = product.config.dbt.enable_duplicate_source_asset_keys
        super().__init__(
            DagsterDbtTranslatorSettings(
                enable_source_tests_as_checks=True, enable_duplicate_source_asset_keys=may_share
            )
        )
        self.product = product
        self._custom = custom
        self._attributes = AssetAttributes(product)
        self._tests = tests
        self._windows: Windows = {}
        self._partitions: Mapping[dg.AssetKey, dg.PartitionsDefinition[str]] = {}
        self._specs: dict[str, dg.AssetSpec] = {}
        translated = TranslatedProduct(
            product=product,
            attributes=self._attributes,
            links=AssetLinks(product),
            manifest=self._manifest,
            project=self._wrapped_project,
            settings=self.settings,
            conditions=conditions,
            first=frozenset(first),
            translator=self,
            check_spec=self._check_spec,
        )
        self._translator = translator_of(translated, custom)

    def placed(
        self,
        tests: Mapping[str, DbtTest],
        conditions: Conditions,
        first: Collection[str],
        partitions: Windows,
        windows: Windows,
    ) -> ProductTranslator:
        """Return a translator for the nodes and tests of stages.

        Args:
            tests: As in the constructor.
            conditions: As in the constructor.
            first: As in the constructor.
            partitions: Partitions of models, seeds and snapshots, by unique id.
            windows: Partitions of the tests with a result for each partition, by unique id.
        """
        translator = ProductTranslator(self.product, self._custom, tests, conditions, first)
        translator._windows = windows
        translator.asset_sources, translator.sources = self.asset_sources, self.sources
        translator._partitions = {self.key_of[unique_id]: definition for unique_id, definition in partitions.items()}
        return translator

    @cached_property
    def quality(self) -> QualityMatches:
        """The declared quality checks, matched with dbt tests."""
        return product_quality(self.product)

    @cached_property
    def key_of(self) -> Mapping[str, dg.AssetKey]:
        """Asset key of every model, seed, snapshot and source that is an asset, by unique id."""
        return self.sources.key_of

    @cached_property
    def product_key(self) -> dg.AssetKey:
        """Asset key of the product itself."""
        return product_key(self.product, frozenset(self.key_of.values()))

    @cached_property
    def asset_sources(self) -> Mapping[str, Mapping[str, Any]]:
        """The sources that are assets, by unique id."""
        return asset_sources(self.product, self._attributes)

    @cached_property
    def sources(self) -> SourceKeys:
        """Keys of the sources that are assets, after the resolution of collisions."""
        if self.product.dbt is None:
            return SourceKeys({}, {}, {}, frozenset(), ())
        config = self.product.config
        may_share = config.dbt.enable_duplicate_source_asset_keys
        return source_keys(
            self.product.dbt.manifest, self.asset_sources, self._key, config.key_prefix, may_share=may_share
        )

    def _key(self, node: Mapping[str, Any]) -> dg.AssetKey:
        """Return the translator's key of a node, before the resolution of collisions."""
        translator = self._translator
        if type(translator).get_asset_spec is FloeDbtTranslator.get_asset_spec:
            return translator.get_asset_key(node)
        unique_id = node["unique_id"]
        return translator.get_asset_spec(self._manifest_with(unique_id) or {}, unique_id, None).key

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """Return the asset key of a node; for a source that is not an asset, the key that it would have."""
        return self.key_of.get(dbt_resource_props["unique_id"]) or self._key(dbt_resource_props)

    def get_asset_spec(
        self, manifest: Mapping[str, Any], unique_id: str, project: DagsterDbtProject | None
    ) -> dg.AssetSpec:
        """Return the translator's spec with the final key, edges, and the unique id that this package requires."""
        spec = self._specs.get(unique_id)
        if spec is None:
            spec = self._translator.get_asset_spec(self._manifest_with(unique_id) or manifest, unique_id, project)
            changes = {**self._own_key(unique_id), **self._deps(spec, unique_id), **self._found_by(spec, unique_id)}
            spec = spec.replace_attributes(**changes) if changes else spec
            spec = self._specs[unique_id] = with_partition_mappings(spec, self._partitions)
        return spec

    def _own_key(self, unique_id: str) -> dict[str, Any]:
        own = self.sources.own.get(unique_id)
        return {"key": own} if own else {}

    def _deps(self, spec: dg.AssetSpec, unique_id: str) -> dict[str, Any]:
        """Replace dependencies on sources with the models that build the sources' tables."""
        if self.product.dbt is None or not self.sources.tables:
            return {}
        manifest, tables = self.product.dbt.manifest, self.sources.tables
        read = manifest.relations_read_by(unique_id) & tables.keys()
        moved = {self.key_of[source]: self.key_of[tables[source]] for source in read}
        return {"deps": _with_keys(spec.deps, moved)} if moved else {}

    def _found_by(self, spec: dg.AssetSpec, unique_id: str) -> dict[str, Any]:
        """Add the product's tag and dbt's unique id, which a custom translator can omit."""
        product = tag_value(self.product.name)
        tags = {} if spec.tags.get(PRODUCT_TAG) == product else {"tags": {**spec.tags, PRODUCT_TAG: product}}
        if spec.metadata.get(DAGSTER_DBT_UNIQUE_ID_METADATA_KEY) == unique_id:
            return tags
        return {**tags, "metadata": {**spec.metadata, DAGSTER_DBT_UNIQUE_ID_METADATA_KEY: unique_id}}

    def group_of(self, node: Mapping[str, Any]) -> str | None:
        """Return the configured group of an exposure or another node that dbt does not build."""
        return FloeDbtTranslator.get_group_name(self._translator, node)

    def with_objects(self, spec: dg.AssetSpec) -> dg.AssetSpec:
        """Add dagster-dbt's internal objects (manifest, translator), which specs of many assets omit."""
        objects = (self._wrapped_project, self)
        keys = (DAGSTER_DBT_MANIFEST_METADATA_KEY, DAGSTER_DBT_TRANSLATOR_METADATA_KEY)
        return spec.merge_attributes(metadata=dict(zip(keys, objects, strict=True)))

    @cached_property
    def _project(self) -> Mapping[str, Any] | None:
        """The manifest for dagster-dbt, without the project's id when the product has many assets; None without dbt."""
        if self.product.dbt is None:
            return None
        content = with_functions(self.product.dbt.manifest.content)
        if not self._attributes.has_many_assets:
            return content
        metadata = {key: value for key, value in content["metadata"].items() if key != "project_id"}
        return {**content, "metadata": metadata}

    @cached_property
    def _wrapped_project(self) -> DbtManifestWrapper:
        return DbtManifestWrapper(self._project or {})

    @cached_property
    def _manifest(self) -> Mapping[str, Any] | None:
        """The project without sources that are not assets: dagster-dbt translates all sources to compare their keys."""
        return None if self._project is None else {**self._project, "sources": self.asset_sources}

    def _manifest_with(self, unique_id: str) -> Mapping[str, Any] | None:
        """Return the manifest for the translation of a node, which can be a source that is not an asset."""
        if self._project is None or unique_id in self.asset_sources or unique_id not in self._project["sources"]:
            return self._manifest
        return {**self._project, "sources": {unique_id: self._project["sources"][unique_id]}}

    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: DagsterDbtProject | None
    ) -> dg.AssetCheckSpec | None:
        """Return the check spec of a dbt test, on the asset that shows the test.

        The spec is dagster-dbt's with the contract's attributes and the test's description; dagster-dbt reads only a
        description in ``meta``. Unlike in dagster-dbt, unit tests and tests of several models are checks, too.

        Raises:
            EntryPointError: A custom translator returns no spec for the test, or one with another asset or name.
        """
        test = unique_id.removeprefix(UNIT_TEST_PREFIX)
        placed = self._tests.get(test)
        if placed is None:
            return None
        partitions = self._windows.get(test)
        if type(self._translator).get_asset_check_spec is FloeDbtTranslator.get_asset_check_spec:
            own = self._check_spec(asset_spec, manifest, unique_id, project)
            return with_partitions(own, partitions)
        key = self.key_of[placed.checks] if placed.checks else self.product_key
        owner = self.get_asset_spec(manifest, placed.checks, project) if placed.checks else dg.AssetSpec(key)
        spec = self._translator.get_asset_check_spec(owner, manifest, unique_id, project)
        if spec is None or spec.key != dg.AssetCheckKey(key, placed.name):
            given = f"the check {spec.key.to_user_string()}" if spec else "None"
            raise EntryPointError(
                f"{type(self._translator).__name__}.get_asset_check_spec returns {given} for {test}. Return a check "
                f"named {placed.name!r} of the asset {key.to_user_string()!r}, as super() does. To omit a test, "
                "disable it in dbt."
            )
        spec = spec._replace(metadata={**(spec.metadata or {}), DAGSTER_DBT_UNIQUE_ID_METADATA_KEY: test})
        return with_partitions(spec, partitions)

    def _check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: DagsterDbtProject | None
    ) -> dg.AssetCheckSpec:
        test = unique_id.removeprefix(UNIT_TEST_PREFIX)
        placed = self._tests[test]
        node = manifest["nodes"][unique_id]
        if placed.checks is None:
            return self._product_check_spec(node, placed, test)
        asset_spec, description = self.get_asset_spec(manifest, placed.checks, project), self._description(node)
        if manifest["parent_map"].get(test) == [placed.checks] and test not in self.quality.by_test:
            return plain_check_spec(asset_spec.key, node, placed, description)
        stock = super().get_asset_check_spec(asset_spec, manifest, unique_id, project) if test == unique_id else None
        if stock is None:
            read = {self.get_asset_spec(manifest, parent, None).key for parent in placed.reads}
            stock = plain_check_spec(asset_spec.key, node, placed, description, read - {asset_spec.key})
        # The same as in dagster-dbt, except for its oldest versions, where no check blocks.
        blocking = is_error(node) and not placed.is_later
        spec = stock._replace(name=placed.name, description=stock.description or description or None, blocking=blocking)
        declared = self.quality.by_test.get(test)
        if declared is None:
            return spec
        spec = declared_check_spec(spec, declared.check, self.product)
        return spec._replace(blocking=False) if placed.is_later else spec

    def _product_check_spec(self, node: Mapping[str, Any], placed: DbtTest, test: str) -> dg.AssetCheckSpec:
        """Return the spec of a test that reads no asset: a check of the product, which blocks no asset."""
        spec = plain_check_spec(self.product_key, node, placed, self._description(node))
        declared = self.quality.by_test.get(test)
        spec = declared_check_spec(spec, declared.check, self.product) if declared else spec
        return spec._replace(blocking=False)

    def _description(self, node: Mapping[str, Any]) -> str:
        """Return the description of a test.

        The contract describes the checks that it declares. Checks of a product with many assets do not say what they
        test: their names and failures do.
        """
        is_described = self._attributes.has_many_assets or node["unique_id"] in self.quality.by_test
        return test_description(node, names_only=is_described)


def _with_keys(deps: Iterable[dg.AssetDep], keys: Mapping[dg.AssetKey, dg.AssetKey]) -> list[dg.AssetDep]:
    """Replace the keys of dependencies. Of several with the same key, one with a partition mapping is kept."""
    found: dict[dg.AssetKey, dg.AssetDep] = {}
    for dep in deps:
        key = keys.get(dep.asset_key, dep.asset_key)
        if key not in found or dep.partition_mapping is not None:
            found[key] = dg.AssetDep(key, partition_mapping=dep.partition_mapping)
    return list(found.values())
