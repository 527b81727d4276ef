"""Names of dagster-dbt that are not public, imported without dbt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.upstream.dagster_dbt_import import import_dagster_dbt

import_dagster_dbt()

from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, asset_utils, dbt_assets  # noqa: E402
from dagster_dbt.asset_utils import (  # noqa: E402
    DAGSTER_DBT_MANIFEST_METADATA_KEY,
    DAGSTER_DBT_TRANSLATOR_METADATA_KEY,
    DAGSTER_DBT_UNIQUE_ID_METADATA_KEY,
)
from dagster_dbt.dagster_dbt_translator import DbtManifestWrapper  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CACHED_SPECS",
    "DAGSTER_DBT_MANIFEST_METADATA_KEY",
    "DAGSTER_DBT_TRANSLATOR_METADATA_KEY",
    "DAGSTER_DBT_UNIQUE_ID_METADATA_KEY",
    "DagsterDbtTranslator",
    "DagsterDbtTranslatorSettings",
    "DbtManifestWrapper",
    "asset_utils",
    "dbt_assets",
    "with_functions",
]

# Attribute with a translator's cached specs. Without it dagster-dbt creates them again.
CACHED_SPECS = "_resolved_specs"


def with_functions(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a manifest with dbt's functions listed as saved queries, which dagster-dbt supports.

    Before version 0.29, dagster-dbt fails for a node that calls a function. It creates no assets for saved queries, and
    the tables that they read become upstream assets.
    """
    functions = manifest.get("functions")
    if not functions:
        return manifest
    found = {unique_id: {**node, "resource_type": "saved_query"} for unique_id, node in functions.items()}
    return {**manifest, "saved_queries": {**(manifest.get("saved_queries") or {}), **found}}
