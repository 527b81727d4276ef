"""Check specs of dbt tests, with their descriptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.assets.names import acceptable_name
from floe_orchestrator_dagster.assets.stage_manifest import UNIT_TEST_PREFIX
from floe_orchestrator_dagster.execution.record.materializations import SHOWN_ELSEWHERE
from floe_orchestrator_dagster.product.quality import is_error
from floe_orchestrator_dagster.upstream.dagster_dbt_names import DAGSTER_DBT_UNIQUE_ID_METADATA_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from floe_orchestrator_dagster.assets.stages import DbtTest

_LONGEST_DESCRIPTION = 300


def plain_check_spec(
    key: dg.AssetKey, node: Mapping[str, Any], placed: DbtTest, description: str, also_reads: Iterable[dg.AssetKey] = ()
) -> dg.AssetCheckSpec:
    """Return the spec of a test, without calling dagster-dbt.

    Args:
        key: The asset.
        node: The test.
        placed: The test's place.
        description: The description of a test without one in ``meta``.
        also_reads: Other assets that the test reads.
    """
    in_meta = (node.get("meta") or {}).get("description")
    return dg.AssetCheckSpec(
        name=placed.name,
        asset=key,
        description=in_meta or description or None,
        additional_deps=sorted(also_reads),
        metadata={DAGSTER_DBT_UNIQUE_ID_METADATA_KEY: node["unique_id"].removeprefix(UNIT_TEST_PREFIX)},
        blocking=is_error(node) and not placed.is_later,
    )


def test_description(node: Mapping[str, Any], *, names_only: bool) -> str:
    """Return dbt's description of a test; else its name if the check has another one, else what it tests.

    Args:
        node: The test.
        names_only: Whether to leave out what it tests.
    """
    described: str = (node.get("description") or "").strip()
    if described:
        return described
    if acceptable_name(node["name"]) != node["name"]:
        return f"dbt test {node['name']}"
    return "" if names_only else _arguments(node)


def _arguments(node: Mapping[str, Any]) -> str:
    """Describe what a generic test tests: its name, its column and its other arguments; empty for other tests."""
    generic = node.get("test_metadata")
    if not generic:
        return ""
    column = node.get("column_name")
    others = {name: value for name, value in (generic.get("kwargs") or {}).items() if name not in SHOWN_ELSEWHERE}
    given = [
        f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}" for name, value in others.items()
    ]
    tested = f"{generic['name']} of {column}" if column else str(generic["name"])
    text = f"{tested} ({'; '.join(given)})" if given else tested
    return text if len(text) <= _LONGEST_DESCRIPTION else f"{text[:_LONGEST_DESCRIPTION]}…"
