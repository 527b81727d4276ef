"""Files with which dbt-core 1.12 gives a project variables: `.env` for environment variables, `vars.yml` for dbt's."""

from __future__ import annotations

import logging
from importlib.metadata import version
from typing import TYPE_CHECKING

import duckdb
import pytest
from packaging.version import Version

from files import write_files
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.product import load_product, manifest_kept_fresh, manifest_rebuilt
from integration.failing_shop import built
from unit.samples import contract, model, profiles, write_json

if TYPE_CHECKING:
    from pathlib import Path

    import dagster as dg

pytestmark = pytest.mark.skipif(
    Version(version("dbt-core")) < Version("1.12"), reason="dbt-core reads .env and vars.yml since 1.12"
)

SECRET = "correct-horse-battery"  # noqa: S105  # nobody's
FILES = {
    "dbt_project.yml": '{name: shop, profile: shop_orders, version: "1.0"}',
    "vars.yml": "vars: {colour: red}",
    ".env": f"SHOP_SCHEMA=staging\nSHOP_PASSWORD={SECRET}\nSHOP_RATE=5\n",
    "models/rates.sql": """
        {{ log('the password is ' ~ env_var('SHOP_PASSWORD'), info=true) }}
        select {{ env_var('SHOP_RATE') }} as rate, '{{ var('colour') }}' as colour
        """,
}


@pytest.fixture
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a product whose profile and models read variables of its files."""
    monkeypatch.chdir(tmp_path)  # where no .env is
    project = write_files(tmp_path / "shop", FILES)
    output = profiles(schema="{{ env_var('SHOP_SCHEMA') }}")
    output["shop-orders"]["outputs"]["prod"] = {"type": "postgres", "password": "{{ env_var('SHOP_PASSWORD') }}"}
    config = {"executor": "in_process"}
    return write_json(project / "compiled_artifacts.json", contract(model("rates"), config=config, dbt_profiles=output))


def test_a_run_has_the_variables_of_the_projects_files(
    artifacts: Path,
    instance: dg.DagsterInstance,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with caplog.at_level(logging.WARNING):
        product = load_product(artifacts, manifest_source=manifest_rebuilt)
        result = definitions_from_file(artifacts).resolve_job_def("shop_orders").execute_in_process(instance=instance)

    assert not [record.message for record in caplog.records if "SHOP_" in record.message]
    assert product.dbt is not None
    assert product.dbt.manifest.content["nodes"]["model.shop.rates"]["schema"] == "staging"
    assert built(result)["rates"]["dagster/table_name"] == "shop.staging.rates"
    printed = "".join(capfd.readouterr())
    assert "the password is *****" in printed
    assert SECRET not in printed
    with duckdb.connect(str(artifacts.with_name("shop.duckdb"))) as connection:
        assert connection.execute("select rate, colour from staging.rates").fetchall() == [(5, "red")]


def test_dagster_dev_parses_again_after_changes_of_these_files(artifacts: Path) -> None:
    def schema() -> tuple[str, int]:
        product = load_product(artifacts, manifest_source=manifest_kept_fresh)
        assert product.dbt is not None
        node = product.dbt.manifest.content["nodes"]["model.shop.rates"]
        return node["schema"], product.dbt.manifest.path.stat().st_mtime_ns

    first, again = schema(), schema()
    artifacts.with_name(".env").write_text(FILES[".env"].replace("staging", "other"), encoding="utf-8")
    after_env = schema()
    artifacts.with_name("vars.yml").write_text("vars: {colour: blue}", encoding="utf-8")
    after_vars = schema()

    assert first == again
    assert (first[0], after_env[0]) == ("staging", "other")
    assert after_vars[1] > after_env[1] > first[1]
