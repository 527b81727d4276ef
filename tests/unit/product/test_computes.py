"""dbt targets of computes: by name, by type, or built from the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from floe_core.schemas.compiled_artifacts import sanitize_plugin_config_for_artifact

from floe_orchestrator_dagster.config import read_config
from floe_orchestrator_dagster.errors import ProfileError
from floe_orchestrator_dagster.product.computes import compute_profiles
from floe_orchestrator_dagster.product.profiles import select_profile
from unit.samples import NAME, Json, model, project, validated

if TYPE_CHECKING:
    from pathlib import Path

    from floe_orchestrator_dagster.product.profiles import Profile

_DUCKDB: Json = {"type": "duckdb", "path": "shop.duckdb"}
_POSTGRES: Json = {"type": "postgres", "host": "db", "password": "{{ env_var('PG_PASSWORD') }}"}


def _profiles(
    tmp_path: Path, computes: Json | None = None, compute: str = "postgres", **outputs: Json
) -> dict[str, Profile]:
    profiles = {NAME: {"target": "dev", "outputs": {"dev": _DUCKDB, **outputs}}}
    artifacts = validated(model("stg_orders"), model("mart", compute=compute), dbt_profiles=profiles)
    directory = project(tmp_path)
    config = read_config({"computes": computes or {}}, "contract")
    return compute_profiles(artifacts, select_profile(artifacts, directory, "contract"), config, directory, "contract")


def test_default_compute_runs_on_the_selected_target(tmp_path: Path) -> None:
    found = _profiles(tmp_path, compute="duckdb")

    assert {compute: profile.target for compute, profile in found.items()} == {"duckdb": "dev"}


def test_output_of_the_computes_name_is_used(tmp_path: Path) -> None:
    found = _profiles(tmp_path, postgres=_POSTGRES, other=_POSTGRES)

    assert found["postgres"].target == "postgres"
    assert found["postgres"].adapter == "postgres"
    assert [variable.name for variable in found["postgres"].variables] == ["PG_PASSWORD"]
    assert found["duckdb"].variables == ()


def test_only_output_of_the_computes_type_is_used(tmp_path: Path) -> None:
    assert _profiles(tmp_path, warehouse=_POSTGRES)["postgres"].target == "warehouse"


def test_connection_in_the_configuration_is_a_dbt_output_without_a_compute_plugin(tmp_path: Path) -> None:
    found = _profiles(tmp_path, computes={"postgres": {"host": "db", "user": "floe"}})

    assert found["postgres"].target == "postgres"
    assert found["postgres"].outputs["postgres"] == {"type": "postgres", "host": "db", "user": "floe"}
    assert "postgres" not in found["duckdb"].outputs


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"password_env": "PG_PASSWORD"}, {"password": "{{ env_var('PG_PASSWORD') }}"}),
        ({"token_env": "TOKEN"}, {"token": "{{ env_var('TOKEN') }}"}),
        ({"client_secret_env": "_SECRET1"}, {"client_secret": "{{ env_var('_SECRET1') }}"}),
        (
            {"secrets": [{"type": "s3", "key_id": "k", "secret_env": "S3"}], "tls": {"private_key_env": "KEY"}},
            {
                "secrets": [{"type": "s3", "key_id": "k", "secret": "{{ env_var('S3') }}"}],
                "tls": {"private_key": "{{ env_var('KEY') }}"},
            },
        ),
        # Not keys that floe's compiler removes.
        ({"pass": "{{ env_var('PG') }}", "search_env": "dev"}, {"pass": "{{ env_var('PG') }}", "search_env": "dev"}),
    ],
)
def test_variables_with_secrets_are_named_by_keys_that_floes_compiler_keeps(
    tmp_path: Path, written: Json, expected: Json
) -> None:
    compiled = sanitize_plugin_config_for_artifact(written)

    found = _profiles(tmp_path, computes={"postgres": {"host": "db", **compiled}})

    assert found["postgres"].outputs["postgres"] == {"type": "postgres", "host": "db", **expected}


@pytest.mark.parametrize(
    "key",
    [
        *(
            "access_key",
            "api_key",
            "apiToken",
            "bearer_token",
            "client_secret",
            "client_token",
            "password",
            "private_key",
        ),
        *("refresh_token", "secret", "secret_access_key", "secretKey", "token"),
        *("access_token", "credential", "credentials", "key", "pass", "passphrase", "private_key_passphrase", "user"),
    ],
)
def test_keys_that_name_variables_are_those_that_floes_compiler_removes(tmp_path: Path, key: str) -> None:
    is_removed = key not in sanitize_plugin_config_for_artifact({key: "x"})

    found = _profiles(tmp_path, computes={"postgres": {"host": "db", f"{key}_env": "VARIABLE"}})

    expected = {key: "{{ env_var('VARIABLE') }}"} if is_removed else {f"{key}_env": "VARIABLE"}
    assert found["postgres"].outputs["postgres"] == {"type": "postgres", "host": "db", **expected}


def test_variables_with_secrets_are_required_by_the_profile(tmp_path: Path) -> None:
    found = _profiles(tmp_path, computes={"postgres": {"password_env": "PG_PASSWORD"}})

    assert [variable.name for variable in found["postgres"].variables] == ["PG_PASSWORD"]


@pytest.mark.parametrize("value", ["hunter2 or so", "{{ env_var('PG_PASSWORD') }}", "", 7, None])
def test_a_secret_in_place_of_a_variable_is_refused_without_the_value(tmp_path: Path, value: object) -> None:
    with pytest.raises(ProfileError) as raised:
        _profiles(tmp_path, computes={"postgres": {"secrets": [{"password_env": value}]}})

    assert str(raised.value) == (
        "contract: 1 problem\n"
        "  plugins.orchestrator.config.computes.postgres.secrets[0].password_env: must be the name of an "
        "environment variable\n"
        "    fix: Write the name of the environment variable that has the secret, like `WAREHOUSE_PASSWORD`."
    )


def test_a_compute_may_have_any_name_when_its_connection_says_its_type(tmp_path: Path) -> None:
    found = _profiles(tmp_path, compute="warehouse", computes={"warehouse": _POSTGRES})

    assert found["warehouse"].adapter == "postgres"


def test_floes_compute_plugin_writes_the_output(tmp_path: Path) -> None:
    profiles = {NAME: {"target": "dev", "outputs": {"dev": {"type": "sqlite"}}}}
    artifacts = validated(
        model("stg_orders", compute="sqlite"),
        model("mart", compute="duckdb"),
        dbt_profiles=profiles,
        transforms={
            "models": [model("stg_orders", compute="sqlite"), model("mart")],
            "default_compute": "sqlite",
        },
    )
    directory = project(tmp_path)
    config = read_config({"computes": {"duckdb": {"path": "data/marts.duckdb", "threads": 8}}}, "contract")

    found = compute_profiles(artifacts, select_profile(artifacts, directory, "c"), config, directory, "c")

    output = found["duckdb"].outputs["duckdb"]
    assert {key: output[key] for key in ("type", "path", "threads")} == {
        "type": "duckdb",
        "path": str(tmp_path / "data" / "marts.duckdb"),
        "threads": 8,
    }


def test_connection_that_the_compute_plugin_refuses_is_reported_without_the_value(tmp_path: Path) -> None:
    profiles = {NAME: {"target": "dev", "outputs": {"dev": {"type": "sqlite"}}}}
    artifacts = validated(transforms={"models": [model("mart")], "default_compute": "sqlite"}, dbt_profiles=profiles)
    directory = project(tmp_path)
    config = read_config({"computes": {"duckdb": {"threads": "hunter2"}}}, "contract")

    with pytest.raises(ProfileError) as raised:
        compute_profiles(artifacts, select_profile(artifacts, directory, "c"), config, directory, "c")

    assert str(raised.value).startswith(
        "c: 1 problem\n  plugins.orchestrator.config.computes.duckdb: the compute plugin 'duckdb' refuses it: threads: "
    )
    assert "hunter2" not in str(raised.value)


def test_compute_without_an_output_is_refused_with_all_its_models(tmp_path: Path) -> None:
    with pytest.raises(ProfileError) as raised:
        _profiles(tmp_path, compute="spark")

    assert str(raised.value) == (
        "contract: 1 problem\n"
        "  transforms.models[1].compute: 'mart' needs compute 'spark', for which profile "
        "'shop_orders' has no output\n"
        "    fix: Set plugins.orchestrator.config.computes.spark in manifest.yaml to its connection, or remove "
        "`compute:` from the transform in floe.yaml, and compile again. Outputs: 'dev' (duckdb)."
    )


def test_several_outputs_of_the_computes_type_are_ambiguous(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"Outputs: 'dev' \(duckdb\), 'east' \(postgres\), 'west' \(postgres\)"):
        _profiles(tmp_path, east=_POSTGRES, west=_POSTGRES)
