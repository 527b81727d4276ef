"""dbt nodes → asset and check specs of one product: a translator's specs, with keys and edges that fit together."""

from __future__ import annotations

from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.assets.attributes import AssetAttributes
from floe_orchestrator_dagster.assets.links import AssetLinks
from floe_orchestrator_dagster.assets.names import acceptable_name
from floe_orchestrator_dagster.assets.product_asset import product_key
from floe_orchestrator_dagster.assets.quality import declared_check_spec, product_quality
from floe_orchestrator_dagster.assets.source_keys import SourceKeys, source_keys
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
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from dagster_dbt import DbtProject as DagsterDbtProject

    from floe_orchestrator_dagster.assets.stages import DbtTest
    from floe_orchestrator_dagster.product import Product
    from floe_orchestrator_dagster.product.quality import QualityMatches

    Conditions = Mapping[str, dg.AutomationCondition[Any]]

# dagster-dbt takes for a check what is called a test: unit tests are shown to it under this prefix.
UNIT_TEST_PREFIX = "test:"


class ProductTranslator(DagsterDbtTranslator):
    """Keys as dagster-dbt's, so that a project can move here without renaming an asset."""

    def __init__(
        self,
        product: Product,
        custom: DagsterDbtTranslator | None = None,
        tests: Mapping[str, DbtTest] = MappingProxyType({}),
        conditions: Conditions = MappingProxyType({}),
        first: Collection[str] = (),
    ) -> None:
        """Translate the nodes of one product.

        Args:
            product: The product.
            custom: A user's translator; floe's own when None.
            tests: The dbt tests that are checks, by unique id.
            conditions: The configured automation conditions, by unique id.
            first: The first node of each definition, by unique id.
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
        self._specs: dict[str, dg.AssetSpec] = {}
        translated = TranslatedProduct(
            product=product,
            attributes=self._attributes,
            links=AssetLinks(product),
            manifest=self._manifest,
            settings=self.settings,
            conditions=conditions,
            first=frozenset(first),
            translator=self,
            check_spec=self._check_spec,
        )
        self._translator = translator_of(translated, custom)

    def placed(self, tests: Mapping[str, DbtTest], conditions: Conditions, first: Collection[str]) -> ProductTranslator:
        """Return the translator of a product whose tests have their place; arguments as of the constructor."""
        translator = ProductTranslator(self.product, self._custom, tests, conditions, first)
        translator.sources = self.sources
        return translator

    @cached_property
    def quality(self) -> QualityMatches:
        """The declared quality checks and the dbt tests that implement them."""
        return product_quality(self.product)

    @cached_property
    def key_of(self) -> Mapping[str, dg.AssetKey]:
        """Key of every model, seed, snapshot and source, by unique id."""
        return self.sources.key_of

    @cached_property
    def product_key(self) -> dg.AssetKey:
        """Key of the product itself."""
        return product_key(self.product, frozenset(self.key_of.values()))

    @cached_property
    def sources(self) -> SourceKeys:
        """Keys of sources that collide with others, and sources that are tables of models."""
        if self.product.dbt is None:
            return SourceKeys({}, {}, {}, ())
        config = self.product.config
        may_share = config.dbt.enable_duplicate_source_asset_keys
        return source_keys(self.product.dbt.manifest, self._key, config.key_prefix, may_share=may_share)

    def _key(self, node: Mapping[str, Any]) -> dg.AssetKey:
        """Return the key that the translator gives a node, whatever other nodes have."""
        translator = self._translator
        if type(translator).get_asset_spec is FloeDbtTranslator.get_asset_spec:
            return translator.get_asset_key(node)
        return translator.get_asset_spec(self._manifest or {}, node["unique_id"], None).key

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """Return the key of a node in Dagster."""
        return self.key_of.get(dbt_resource_props["unique_id"]) or self._key(dbt_resource_props)

    def get_asset_spec(
        self, manifest: Mapping[str, Any], unique_id: str, project: DagsterDbtProject | None
    ) -> dg.AssetSpec:
        """Return the translator's spec, with what this package finds a node's asset by."""
        spec = self._specs.get(unique_id)
        if spec is None:
            spec = self._translator.get_asset_spec(self._manifest or manifest, unique_id, project)
            changes = {**self._own_key(unique_id), **self._deps(spec, unique_id), **self._found_by(spec, unique_id)}
            spec = self._specs[unique_id] = spec.replace_attributes(**changes) if changes else spec
        return spec

    def _own_key(self, unique_id: str) -> dict[str, Any]:
        own = self.sources.own.get(unique_id)
        return {"key": own} if own else {}

    def _deps(self, spec: dg.AssetSpec, unique_id: str) -> dict[str, Any]:
        """Let what reads a source depend on the model that builds the source's table."""
        if self.product.dbt is None or not self.sources.tables:
            return {}
        manifest, tables = self.product.dbt.manifest, self.sources.tables
        read = manifest.relations_read_by(unique_id) & tables.keys()
        moved = {self.key_of[source]: self.key_of[tables[source]] for source in read}
        return {"deps": _with_keys(spec.deps, moved)} if moved else {}

    def _found_by(self, spec: dg.AssetSpec, unique_id: str) -> dict[str, Any]:
        """Put back what a custom translator left out: the product's tag, and dbt's unique id."""
        product = tag_value(self.product.name)
        tags = {} if spec.tags.get(PRODUCT_TAG) == product else {"tags": {**spec.tags, PRODUCT_TAG: product}}
        if spec.metadata.get(DAGSTER_DBT_UNIQUE_ID_METADATA_KEY) == unique_id:
            return tags
        return {**tags, "metadata": {**spec.metadata, DAGSTER_DBT_UNIQUE_ID_METADATA_KEY: unique_id}}

    def with_objects(self, spec: dg.AssetSpec) -> dg.AssetSpec:
        """Attach the objects that dagster-dbt attaches for itself, where they were left out."""
        objects = (DbtManifestWrapper(self._manifest or {}), self)
        keys = (DAGSTER_DBT_MANIFEST_METADATA_KEY, DAGSTER_DBT_TRANSLATOR_METADATA_KEY)
        return spec.merge_attributes(metadata=dict(zip(keys, objects, strict=True)))

    @cached_property
    def _manifest(self) -> Mapping[str, Any] | None:
        """The manifest that dagster-dbt translates from; of many assets none says which project it is of."""
        if self.product.dbt is None or not self._attributes.has_many_assets:
            return self.product.dbt.manifest.content if self.product.dbt else None
        content = self.product.dbt.manifest.content
        metadata = {key: value for key, value in content["metadata"].items() if key != "project_id"}
        return {**content, "metadata": metadata}

    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: DagsterDbtProject | None
    ) -> dg.AssetCheckSpec | None:
        """Describe the check that a dbt test is, on the node that it was found to check.

        As dagster-dbt's, with what the contract declares, and described as the dbt test is, where dagster-dbt looks
        into the test's meta only. dagster-dbt has no check for unit tests and for tests over several models; they are
        checks here.

        Raises:
            EntryPointError: A custom translator has no check for the test, or one of another asset or name.
        """
        test = unique_id.removeprefix(UNIT_TEST_PREFIX)
        placed = self._tests.get(test)
        if placed is None:
            return None
        if type(self._translator).get_asset_check_spec is FloeDbtTranslator.get_asset_check_spec:
            return self._check_spec(asset_spec, manifest, unique_id, project)
        key = self.key_of[placed.checks] if placed.checks else self.product_key
        owner = self.get_asset_spec(manifest, placed.checks, project) if placed.checks else dg.AssetSpec(key)
        spec = self._translator.get_asset_check_spec(owner, manifest, unique_id, project)
        if spec is None or spec.key != dg.AssetCheckKey(key, placed.name):
            given = f"the check {spec.key.to_user_string()}" if spec else "no check"
            raise EntryPointError(
                f"{type(self._translator).__name__}.get_asset_check_spec returns {given} for {test}. Return a check "
                f"named {placed.name!r} of the asset {key.to_user_string()!r}, as super() does; to leave a test out, "
                "disable it in dbt."
            )
        return spec._replace(metadata={**(spec.metadata or {}), DAGSTER_DBT_UNIQUE_ID_METADATA_KEY: test})

    def _check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: DagsterDbtProject | None
    ) -> dg.AssetCheckSpec | None:
        test = unique_id.removeprefix(UNIT_TEST_PREFIX)
        placed = self._tests[test]
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
        spec = declared_check_spec(spec, declared.check, self.product)
        return spec._replace(blocking=False) if placed.is_later else spec

    def _product_check_spec(self, node: Mapping[str, Any], placed: DbtTest, test: str) -> dg.AssetCheckSpec:
        """Describe a test that reads no asset: a check of the product, which nothing waits for."""
        spec = _plain_check_spec(self.product_key, node, placed)
        declared = self.quality.by_test.get(test)
        spec = declared_check_spec(spec, declared.check, self.product) if declared else spec
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


def _with_keys(deps: Iterable[dg.AssetDep], keys: Mapping[dg.AssetKey, dg.AssetKey]) -> list[dg.AssetDep]:
    """Depend on other assets in the place of some; on each once."""
    return list({key: _dep(dep, key) for dep in deps for key in (keys.get(dep.asset_key, dep.asset_key),)}.values())


def _dep(dep: dg.AssetDep, key: dg.AssetKey) -> dg.AssetDep:
    return dg.AssetDep(key, partition_mapping=dep.partition_mapping)


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
