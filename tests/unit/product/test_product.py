"""Loading of a product from its file or its JSON object, with the dbt project that belongs to it."""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.errors import (
    ArtifactsError,
    ConfigError,
    ManifestError,
    ProfileError,
    ProjectError,
    SpecError,
)
from floe_orchestrator_dagster.product import (
    artifacts_path_from_environment,
    connection_for_model,
    load_product,
    product_from_artifacts,
)
from unit.samples import RECOMPILE, Json, contract, manifest, model, node, profiles, source, write_json, write_project

if TYPE_CHECKING:
    from pathlib import Path


def _compiled(directory: Path, *models: Json, config: Json | None = None, **changes: object) -> Path:
    content = {**contract(*models, config=config), **changes}
    return write_json(directory / "compiled_artifacts.json", content)


def _built(directory: Path, *nodes: Json, sources: tuple[Json, ...] = ()) -> Path:
    """Make a dbt project with its manifest."""
    write_json(directory / "target" / "manifest.json", manifest(*nodes, sources=sources))
    return write_project(directory)


# --- the path -------------------------------------------------------------------------------------------------------


def test_path_is_taken_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/people/shop")
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", "compiled.json")
    relative = artifacts_path_from_environment()
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", "~/compiled.json")
    home = artifacts_path_from_environment()

    assert relative == tmp_path / "compiled.json"
    assert str(home) == "/people/shop/compiled.json"


@pytest.mark.parametrize("value", [None, ""])
def test_path_that_is_not_set_shows_the_commands_that_help(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is not None:
        monkeypatch.setenv("FLOE_ARTIFACTS_PATH", value)

    with pytest.raises(ArtifactsError) as raised:
        artifacts_path_from_environment()

    assert str(raised.value) == (
        "FLOE_ARTIFACTS_PATH: 1 problem\n"
        "  the environment variable is not set\n"
        "    fix: Set it to the file that `floe platform compile` writes, and start again:\n"
        "        export FLOE_ARTIFACTS_PATH=path/to/compiled_artifacts.json\n"
        "        dagster dev -m floe_orchestrator_dagster.definitions\n"
        "    No product yet? `floe-dagster demo retail-orders` writes one and shows how to run it."
    )


# --- from a file ----------------------------------------------------------------------------------------------------


def test_product_with_a_dbt_project_beside_it(tmp_path: Path) -> None:
    _built(tmp_path, node("stg_orders"))
    path = _compiled(tmp_path, model("stg_orders"), config={"key_prefix": ["shop"]})

    product = load_product(path, expected_name="shop-orders")

    assert product.origin == str(path)
    assert (product.name, product.identifier) == ("shop-orders", "shop_orders")
    assert [entry.name for entry in product.models] == ["stg_orders"]
    assert product.config.key_prefix == ["shop"]
    assert product.dbt is not None
    assert product.dbt.directory.path == tmp_path
    assert product.dbt.profile.name == "shop_orders"
    assert product.dbt.manifest.names == {"stg_orders"}


def test_product_without_transforms_needs_no_manifest(tmp_path: Path) -> None:
    write_project(tmp_path)

    product = load_product(_compiled(tmp_path))

    assert product.models == []
    assert product.dbt is None


def test_product_without_a_dbt_project_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    path = _compiled(tmp_path, model("stg_orders"))

    assert load_product(path).dbt is None
    assert f"{path}: no dbt project; set FLOE_DBT_PROJECT_DIR to run its models" in caplog.messages


def test_other_product_than_expected_is_refused(tmp_path: Path) -> None:
    path = _compiled(tmp_path, model("stg_orders"))

    with pytest.raises(ArtifactsError, match="is 'shop-orders', expected 'shop-returns'"):
        load_product(path, expected_name="shop-returns")


def test_unset_variable_of_the_profile_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _built(tmp_path, node("stg_orders"))
    path = _compiled(tmp_path, model("stg_orders"), dbt_profiles=profiles(schema="{{ env_var('SHOP_SCHEMA') }}"))

    load_product(path)

    assert caplog.messages == [f"{path}: the dbt profile reads SHOP_SCHEMA, which is not set; runs will fail"]


def test_dangling_dependency_without_a_dbt_project_is_refused(tmp_path: Path) -> None:
    path = _compiled(tmp_path, model("stg_orders"), model("fct_orders", "stg_order"))

    with pytest.raises(ArtifactsError) as raised:
        load_product(path)

    assert str(raised.value) == (
        f"{path}: 1 problem\n"
        "  transforms.models[1].depends_on[0]: 'fct_orders' depends on 'stg_order', which does not exist\n"
        f"    fix: Did you mean 'stg_orders'? {RECOMPILE}"
    )


def test_dependency_on_a_seed_or_source_of_dbt_is_accepted(tmp_path: Path) -> None:
    write_project(tmp_path)
    dbt = manifest(node("stg_orders"), node("stores", "seed"), sources=(source("erp", "raw_orders"),))
    write_json(tmp_path / "target" / "manifest.json", dbt)

    product = load_product(_compiled(tmp_path, model("stg_orders", "stores", "raw_orders")))

    assert product.dbt is not None


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"dbt_profiles": None}, ProfileError, "the artifacts have no dbt profile"),
        ({"transforms": {"models": [model("x")], "default_compute": "duckdb"}}, ManifestError, "'x' is not in the dbt"),
        (
            {"transforms": {"models": [model("stg_orders", compute="spark")], "default_compute": "duckdb"}},
            ProfileError,
            "'stg_orders' needs compute 'spark', for which profile 'shop_orders' has no output",
        ),
    ],
    ids=["no-profile", "no-model", "other-compute"],
)
def test_contract_that_does_not_match_the_dbt_project_is_refused(
    tmp_path: Path, changes: Json, error: type[Exception], message: str
) -> None:
    _built(tmp_path, node("stg_orders"))
    path = _compiled(tmp_path, model("stg_orders"), **changes)

    with pytest.raises(error, match=message) as raised:
        load_product(path)

    assert str(raised.value).startswith(f"{path}: 1 problem\n")


def test_bad_configuration_is_refused_with_the_file(tmp_path: Path) -> None:
    path = _compiled(tmp_path, model("stg_orders"), config={"colour": "red"})

    with pytest.raises(ConfigError) as raised:
        load_product(path)

    assert str(raised.value).startswith(f"{path}: 1 problem\n  plugins.orchestrator.config.colour: unknown key\n")


def test_bad_floe_yaml_is_refused_with_its_own_path(tmp_path: Path) -> None:
    path = _compiled(tmp_path, model("stg_orders"))
    (tmp_path / "floe.yaml").write_text("[]", encoding="utf-8")

    with pytest.raises(SpecError) as raised:
        load_product(path)

    assert str(raised.value).startswith(f"{tmp_path}/floe.yaml: 1 problem\n")


# --- from an object -------------------------------------------------------------------------------------------------


def test_object_alone_has_no_dbt_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(_built(tmp_path, node("stg_orders")))

    product = product_from_artifacts(contract(model("stg_orders")))

    assert product.origin == "CompiledArtifacts"
    assert product.dbt is None


def test_object_may_be_any_mapping() -> None:
    assert product_from_artifacts(MappingProxyType(contract(model("stg_orders")))).name == "shop-orders"


def test_object_uses_the_dbt_project_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOE_DBT_PROJECT_DIR", str(_built(tmp_path, node("stg_orders"))))

    product = product_from_artifacts(contract(model("stg_orders")))

    assert product.dbt is not None
    assert product.dbt.directory.path == tmp_path


def test_object_uses_the_dbt_project_of_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _built(tmp_path, node("stg_orders"))
    path = _compiled(tmp_path, model("stg_orders"))
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(path))

    product = product_from_artifacts(contract(model("stg_orders")))

    assert product.dbt is not None
    assert (product.path, product.origin) == (path, "CompiledArtifacts")


def test_object_ignores_the_file_of_another_product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _built(tmp_path, node("stg_orders"))
    path = write_json(tmp_path / "compiled_artifacts.json", contract(model("stg_orders"), name="shop-returns"))
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(path))

    product = product_from_artifacts(contract(model("stg_orders")))

    assert product.dbt is None
    assert product.origin == "CompiledArtifacts"


# --- for one model --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["compiled_artifacts.json", "target/compiled_artifacts.json"])
def test_project_and_artifacts_are_found_from_the_models_file(tmp_path: Path, place: str) -> None:
    directory = write_project(tmp_path / "shop")
    write_json(directory / place, contract(model("stg_orders")))
    file = directory / "models" / "staging" / "stg_orders.sql"
    file.parent.mkdir(parents=True)
    file.touch()

    connection = connection_for_model(str(file))

    assert connection.directory.path == directory
    assert connection.profile.name == "shop_orders"


def test_model_without_a_path_uses_the_environments_artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = write_project(tmp_path / "shop")
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(_compiled(directory, model("stg_orders"))))

    connection = connection_for_model("")

    assert connection.directory.path == directory


def test_model_without_a_known_project_says_what_to_set() -> None:
    with pytest.raises(ArtifactsError, match="FLOE_ARTIFACTS_PATH: 1 problem"):
        connection_for_model("")


def test_model_of_artifacts_without_a_dbt_project_says_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _compiled(tmp_path, model("stg_orders"))
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(path))

    with pytest.raises(ProjectError) as raised:
        connection_for_model("models/stg_orders.sql")

    assert str(raised.value) == (
        f"{path}: 1 problem\n"
        "  this product has no dbt project, so there is nothing to run\n"
        "    fix: Set FLOE_DBT_PROJECT_DIR to the directory with dbt_project.yml."
    )


def test_project_without_artifacts_names_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOE_DBT_PROJECT_DIR", str(write_project(tmp_path)))

    with pytest.raises(ArtifactsError) as raised:
        connection_for_model("")

    assert str(raised.value) == (
        f"{tmp_path}: 1 problem\n"
        "  no compiled_artifacts.json in it or its target\n"
        "    fix: Compile the product there, or set FLOE_ARTIFACTS_PATH to its compiled_artifacts.json."
    )


def test_model_of_an_unknown_compute_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = write_project(tmp_path / "shop")
    path = _compiled(directory, model("stg_orders"))
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(path))

    with pytest.raises(ProfileError) as raised:
        connection_for_model("", "spark")

    assert str(raised.value) == (
        f"{path}: 1 problem\n"
        "  compute: the model needs compute 'spark', but the profile has 'duckdb'\n"
        "    fix: Correct `compute:` of the transform in floe.yaml."
    )


def test_unreadable_file_in_the_environment_leaves_an_object_without_dbt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(tmp_path / "gone.json"))

    assert product_from_artifacts(contract(model("stg_orders"))).dbt is None
    assert "FLOE_ARTIFACTS_PATH cannot be read, so the dbt project is not found through it" in caplog.text


def test_source_table_is_not_a_declared_model(tmp_path: Path) -> None:
    _built(tmp_path, node("stg_orders"), sources=(node("orders", "source", source_name="shop"),))
    path = _compiled(tmp_path, model("stg_orders", "orders"), model("orders"))

    with pytest.raises(ManifestError, match=r"models\[1\]\.name: 'orders' is not in the dbt manifest"):
        load_product(path)
