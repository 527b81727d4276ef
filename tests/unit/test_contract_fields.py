"""Effects of each field of the contract, as the page "From floe to Dagster" describes them; unused fields have none.

What has a test file of its own (quality checks, data contracts, ingestion, profiles, configuration) is tested there.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from floe_core.schemas.compiled_artifacts import EnforcementResultSummary, ResolvedGovernance
from floe_core.schemas.data_contract import DataContract

from conftest import REPOSITORY
from floe_orchestrator_dagster.code_location import build_definitions
from floe_orchestrator_dagster.product import load_product
from unit.samples import Json, contract, manifest, model, node, product, write_json, write_project

if TYPE_CHECKING:
    from pathlib import Path

_PAGE = (REPOSITORY / "docs" / "reference" / "from-floe-to-dagster.md").read_text(encoding="utf-8")


def _shown(**changes: Any) -> dict[str, Any]:  # noqa: ANN401  # parts of the contract, with different types
    """Read a product with these parts of the contract; return the code location's metadata."""
    definitions = build_definitions(product(model("orders"), **changes))
    return {name: value.value for name, value in definitions.metadata.items()}


def _described(definitions: dg.Definitions) -> Json:
    """Describe all of a product's definitions in Dagster."""
    graph = definitions.resolve_asset_graph()
    repository = definitions.get_repository_def()
    return {
        "assets": [(asset.key, asset.tags, asset.metadata, asset.owners, asset.kinds) for asset in graph.asset_nodes],
        "checks": sorted(graph.asset_check_keys),
        "jobs": [(job.name, job.tags, job.description) for job in repository.get_all_jobs()],
        "schedules": [schedule.name for schedule in repository.schedule_defs],
        "sensors": [sensor.name for sensor in repository.sensor_defs],
        "location": dict(definitions.metadata or {}),
    }


# --- metadata of the code location ----------------------------------------------------------------------------------

_GOVERNANCE: Json = {
    "pii_encryption": "required",
    "audit_logging": "enabled",
    "policy_enforcement_level": "strict",
    "data_retention_days": 365,
    "default_ttl_hours": 48,
    "snapshot_keep_last": 7,
    "stale_table_recovery_mode": "repair",
}
_ENFORCEMENT: Json = {
    "passed": False,
    "error_count": 1,
    "warning_count": 2,
    "policy_types_checked": ["naming"],
    "models_validated": 4,
    "enforcement_level": "warn",
    "rbac_principal": "kitchen",
    "secrets_scanned": 5,
}


def test_every_field_of_governance_is_shown() -> None:
    shown = _shown(governance=_GOVERNANCE)

    assert _GOVERNANCE.keys() == ResolvedGovernance.model_fields.keys()
    assert {name: shown[f"floe/governance/{name}"] for name in _GOVERNANCE} == _GOVERNANCE


def test_every_field_of_the_enforcement_is_shown() -> None:
    shown = _shown(enforcement_result=_ENFORCEMENT)

    assert _ENFORCEMENT.keys() == EnforcementResultSummary.model_fields.keys()
    assert {name: shown[f"floe/enforcement/{name}"] for name in _ENFORCEMENT} == _ENFORCEMENT


@pytest.mark.parametrize(
    ("section", "changes", "name", "value"),
    [
        ("metadata", {"product_version": "3.4.5"}, "floe/product_version", "3.4.5"),
        ("metadata", {"source_hash": "sha256:abc"}, "floe/source_hash", "sha256:abc"),
        ("metadata", {"floe_version": "9.9.9"}, "floe/floe_version", "9.9.9"),
        ("metadata", {"compiled_at": "2026-02-03T04:05:06Z"}, "floe/compiled_at", "2026-02-03T04:05:06+00:00"),
        ("identity", {"product_id": "x.y"}, "floe/product_id", "x.y"),
    ],
)
def test_identity_of_the_product_is_shown(section: str, changes: Json, name: str, value: str) -> None:
    assert _shown(**{section: {**contract()[section], **changes}})[name] == value


# --- data contracts -------------------------------------------------------------------------------------------------

_TERMS: Json = {
    "apiVersion": "v3.1.0",
    "kind": "DataContract",
    "id": "c-1",
    "name": "Orders",
    "version": "1.0.0",
    "status": "active",
    "tenant": "acme",
    "domain": "sales",
    "dataProduct": "orders",
    "description": {"purpose": "Revenue"},
    "servers": [{"server": "dwh", "type": "postgres", "host": "db", "port": 5432, "database": "d", "schema": "s"}],
    "support": [{"channel": "#orders", "url": "https://chat.example.com"}],
    "price": {"priceAmount": 1.0, "priceCurrency": "EUR", "priceUnit": "month"},
    "roles": [{"role": "reader", "access": "read"}],
    "authoritativeDefinitions": [{"url": "https://example.com", "type": "wiki"}],
    "customProperties": [{"property": "cost", "value": "low"}],
    "slaDefaultElement": "orders.day",
    "contractCreatedTs": "2026-01-01T00:00:00Z",
    "schema": [{"name": "orders"}],
}


def _terms_fields() -> set[str]:
    """Find the fields that the page shows as terms: those it names one by one."""
    row = next(
        line
        for line in _PAGE.splitlines()
        if "`floe/data_contract_terms`" in line and line.count("`data_contracts[].") > 1
    )
    return set(re.findall(r"`data_contracts\[\]\.(\w+)`", row)) | {"slaDefaultElement"}


def test_every_term_of_a_data_contract_is_shown_unchanged(tmp_path: Path) -> None:
    write_project(tmp_path)
    write_json(tmp_path / "target" / "manifest.json", manifest(node("orders")))
    path = write_json(tmp_path / "artifacts.json", contract(model("orders"), data_contracts=[_TERMS]))

    graph = build_definitions(load_product(path)).resolve_asset_graph()

    shown: Json = graph.get(dg.AssetKey("orders")).metadata["floe/data_contract_terms"].value
    declared = DataContract.model_validate(_TERMS).model_dump(mode="json", by_alias=True, exclude_none=True)
    fields = _terms_fields() & _TERMS.keys()
    assert _terms_fields() - fields == {"context"}
    assert {name: shown[name] for name in fields} == {name: declared[name] for name in fields}


# --- floe.yaml ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("described", "shown"),
    [({"description": "What the shop sells."}, "What the shop sells."), ({}, "Builds the data product shop-orders.")],
)
def test_description_of_floe_yaml_is_the_jobs(tmp_path: Path, described: Json, shown: str) -> None:
    spec = {
        "apiVersion": "floe.dev/v1",
        "kind": "FloeSpec",
        "metadata": {"name": "shop-orders", "version": "1.0.0", **described},
        "transforms": [{"name": "orders"}],
    }
    write_json(tmp_path / "floe.yaml", spec)
    path = write_json(tmp_path / "compiled_artifacts.json", contract(model("orders")))

    assert build_definitions(load_product(path)).resolve_job_def("shop_orders").description == shown


# --- not used -------------------------------------------------------------------------------------------------------

_ENDPOINT = {"type": "x", "version": "1.0.0", "config": {"a": 1}}
_REF = {"name": "company", "version": "1.0.0", "scope": "enterprise", "ref": "oci://registry/company:1.0.0"}
_IDENTITY = contract()["identity"]
_NOT_USED: dict[str, Json] = {
    "identity.namespace_registered": {"identity": {**_IDENTITY, "namespace_registered": True}},
    "identity.registration_timestamp": {
        "identity": {**_IDENTITY, "registration_timestamp": datetime(2026, 1, 1, tzinfo=timezone.utc).isoformat()}
    },
    "mode": {"mode": "mesh"},
    "inheritance_chain": {"inheritance_chain": [_REF]},
    **{
        f"plugins.{kind}": {"plugins": {**contract()["plugins"], kind: _ENDPOINT}}
        for kind in ("catalog", "storage", "ingestion", "semantic", "secrets", "identity")
    },
    "plugins.compute": {"plugins": {**contract()["plugins"], "compute": _ENDPOINT}},
}
_ROW = re.compile(r"^\| (?P<fields>`[^|]*`) \| .*not used", re.MULTILINE)


@pytest.mark.parametrize("field", _NOT_USED)
def test_field_that_is_not_used_changes_nothing(field: str) -> None:
    without = build_definitions(product(model("orders")))

    assert _described(build_definitions(product(model("orders"), **_NOT_USED[field]))) == _described(without)


def test_every_field_that_the_page_says_is_not_used_is_tested() -> None:
    rows = [found["fields"] for found in _ROW.finditer(_PAGE)]
    named = {field for row in rows for field in re.findall(r"`([\w.\[\]]+)`", row)}
    elsewhere = {"quality_config.quality_gates", "quality_config.provider", "quality_config.check_timeout_seconds"}

    assert {field for field in named if not field.startswith(("deployment", "observability"))} - elsewhere <= {
        *_NOT_USED,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"quality_gates": {"bronze": {"min_test_coverage": 90}}},
        {"provider": "great_expectations"},
        {"check_timeout_seconds": 17},
    ],
)
def test_quality_settings_of_floe_itself_do_not_change_the_checks(changes: Json) -> None:
    config = {"provider": "dbt_expectations"}

    def checks(quality: Json) -> list[dg.AssetCheckKey]:
        definitions = build_definitions(product(model("orders"), quality_config=quality))
        return sorted(definitions.resolve_asset_graph().asset_check_keys)

    assert checks({**config, **changes}) == checks(config)
