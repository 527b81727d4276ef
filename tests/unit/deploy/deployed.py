"""Products to deploy, made from a contract of this folder's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.deploy.products import DeployedProduct, read_products
from floe_orchestrator_dagster.deploy.settings import DeploySettings, PostgresAddress
from unit.samples import Json, contract, model, write_json

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = "registry.example.com/data/shops:1.4.0"
POSTGRES = PostgresAddress("postgres.data.svc")
_DUCKDB = {"type": "duckdb", "path": "shop.duckdb"}
_PROFILES = {"shop": {"target": "dev", "outputs": dict.fromkeys(("dev", "staging", "production"), _DUCKDB)}}
SNOWFLAKE: Json = {
    "shop": {
        "target": "production",
        "outputs": {
            "production": {"type": "snowflake", "account": "a", "password": "{{ env_var('SNOWFLAKE_PASSWORD') }}"}
        },
    }
}


def artifacts(directory: Path, name: str = "shop-orders", config: Json | None = None, **changes: Any) -> Path:  # noqa: ANN401
    """Write the artifacts of a product with two models; returns their path."""
    content = contract(model("a"), model("b", "a"), name=name, config=config, **{"dbt_profiles": _PROFILES, **changes})
    return write_json(directory / name / "compiled_artifacts.json", content)


def products(directory: Path, count: int = 1, config: Json | None = None, **changes: Any) -> list[DeployedProduct]:  # noqa: ANN401
    """Make products ``shop-0``, ``shop-1``, … of one image."""
    return read_products([artifacts(directory, f"shop-{row}", config, **changes) for row in range(count)], [IMAGE])


def production(deployed: list[DeployedProduct], **settings: Any) -> DeploySettings:  # noqa: ANN401
    """Make the settings of a deployment to production."""
    return DeploySettings(deployed, is_production=True, environment="production", postgres=POSTGRES, **settings)
