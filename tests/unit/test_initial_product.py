"""``floe-dagster init`` refuses what cannot become a product, with the fix, and then writes no file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from command import invoke
from files import write_files
from floe_orchestrator_dagster.initial_product import suggested_name
from floe_orchestrator_dagster.product.compute_settings import compute_settings
from floe_orchestrator_dagster.product.own_profile import OwnOutput

if TYPE_CHECKING:
    from pathlib import Path

_PROJECT = "name: my_shop\nprofile: shop\n"
_PROFILES = "shop: {target: dev, outputs: {dev: {type: duckdb, path: shop.duckdb}}}\n"


class _Typed(io.StringIO):
    """Standard input on a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the profiles of this machine's user out."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DBT_PROFILES_DIR", raising=False)


def _project(directory: Path, **files: str) -> Path:
    written = {name.replace("__", "."): content for name, content in files.items()}
    return write_files(directory, {"dbt_project.yml": _PROJECT, "models/orders.sql": "select 1 as id", **written})


def _files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def _refused(directory: Path, *arguments: str, **environment: str) -> str:
    """Run the command, which must fail and write nothing; returns its message, without the directory."""
    before = _files(directory)
    answer = invoke("init", directory, "--yes", *arguments, screen=None, **environment)
    assert (answer.exit_code, answer.stdout, _files(directory)) == (1, "", before)
    return answer.stderr.replace(str(directory), "DIR")


def test_directory_without_a_dbt_project_is_refused(tmp_path: Path) -> None:
    assert _refused(tmp_path) == (
        "error: DIR: 1 problem\n  has no dbt_project.yml\n    fix: Pass the directory of a dbt "
        "project. `floe-dagster demo DIRECTORY` writes a project.\n"
    )


def test_project_without_a_profile_is_refused(tmp_path: Path) -> None:
    _project(tmp_path, dbt_project__yml="name: my_shop\n")

    said = _refused(tmp_path)

    assert "DIR/dbt_project.yml: 1 problem\n  profile: is missing\n" in said
    assert "pass `--compute duckdb`" in said


def test_missing_profiles_file_is_refused_with_the_places_that_were_searched(tmp_path: Path) -> None:
    assert "DIR: 1 problem\n  no profiles.yml in DIR and DIR/home/.dbt\n" in _refused(_project(tmp_path))


@pytest.mark.parametrize("place", ["variable", "option", "home"])
def test_profiles_file_is_found_where_dbt_finds_it(tmp_path: Path, place: str) -> None:
    _project(tmp_path)
    directory = tmp_path / "home" / ".dbt" if place == "home" else tmp_path / "profiles"
    write_files(directory, {"profiles.yml": "other: {}\n"})
    arguments = ["--profiles-dir", str(directory)] if place == "option" else []
    environment = {"DBT_PROFILES_DIR": str(directory)} if place == "variable" else {}

    said = _refused(tmp_path, *arguments, **environment)

    assert "profiles.yml: 1 problem\n  has no profile 'shop', which dbt_project.yml names (profiles: 'other')\n" in said


def test_similar_profile_is_suggested(tmp_path: Path) -> None:
    _project(tmp_path, profiles__yml="shops: {outputs: {dev: {type: duckdb}}}\nconfig: {}\n")

    assert "fix: Did you mean 'shops'? Add the profile, or set `profile:` in dbt_project.yml." in _refused(tmp_path)


@pytest.mark.parametrize(
    ("profiles", "said"),
    [
        ("[shop]\n", "is not a YAML mapping"),
        ("shop: {target: dev}\n", "shop.outputs: has no output"),
        ("shop: {target: prod, outputs: {dev: {type: duckdb}}}\n", "shop: has no output 'prod' (outputs: 'dev')"),
        ("shop: {outputs: {dev: {type: duckdb}}}\n", "shop: has no output 'default' (outputs: 'dev')"),
        ("shop: {target: dev, outputs: {dev: {path: a.duckdb}}}\n", "shop.outputs.dev.type: is missing"),
        (
            "shop: {target: \"{{ env_var('SHOP_TARGET') }}\", outputs: {dev: {type: duckdb}}}\n",
            "shop.target: reads a variable that is not set",
        ),
    ],
)
def test_profile_that_dbt_could_not_use_is_refused(tmp_path: Path, profiles: str, said: str) -> None:
    assert f"DIR/profiles.yml: 1 problem\n  {said}\n" in _refused(_project(tmp_path, profiles__yml=profiles))


def test_adapter_without_a_compute_plugin_is_refused(tmp_path: Path) -> None:
    _project(tmp_path, profiles__yml=_PROFILES.replace("duckdb, path: shop.duckdb", "postgres, password: hunter2x"))

    said = _refused(tmp_path)

    assert "DIR/profiles.yml: shop.outputs.dev.type: 1 problem\n  floe has no compute plugin for 'postgres'" in said
    assert "(installed: duckdb)" in said
    assert "hunter2x" not in said


def test_unknown_compute_is_refused(tmp_path: Path) -> None:
    assert "--compute: 1 problem\n  floe has no compute plugin for 'duckdbb'" in _refused(
        _project(tmp_path), "--compute", "duckdbb"
    )


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        ((), "Install floe's plugin for it: pip install floe-compute-duckdb."),
        (("--compute", "trino"), "on a DuckDB file with `--compute duckdb` (pip install floe-compute-duckdb), and add"),
    ],
)
def test_environment_without_compute_plugins_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], fix: str
) -> None:
    monkeypatch.setattr("floe_orchestrator_dagster.product.compute_settings.entry_points", lambda **_: ())

    said = _refused(_project(tmp_path, profiles__yml=_PROFILES), *arguments)

    assert "(installed: none)" in said
    assert fix in said


@pytest.mark.parametrize(
    "output",
    [
        "path: 'md:shop?motherduck_token=hunter2xyz'",
        "path: a.duckdb, attach: [{path: 'postgres://user:hunter2xyz@host/db'}]",
        "path: a.duckdb, settings: {s3_secret_access_key: hunter2xyz}",
        """path: a.duckdb, settings: {s3_secret_access_key: "{{ env_var('KEY', 'hunter2xyz') }}"}""",
        """path: a.duckdb, settings: {s3_secret_access_key: "hunter2xyz{{ env_var('KEY') }}"}""",
        """path: "md:shop?motherduck_token={{ env_var('KEY', 'hunter2xyz') }}\"""",
    ],
)
def test_credential_of_the_profile_is_not_copied(tmp_path: Path, output: str) -> None:
    _project(tmp_path, profiles__yml=f"shop: {{target: dev, outputs: {{dev: {{type: duckdb, {output}}}}}}}\n")

    said = _refused(tmp_path)

    assert "shop.outputs.dev: contains a credential, which is not copied to manifest.yaml" in said
    assert "hunter2xyz" not in said


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("my_shop", "my-shop"), ("Shop", "shop"), ("1shop", "product-1shop"), ("é", "product"), ("a" * 64, "a" * 63)],
)
def test_name_that_floe_refuses_is_refused_with_one_that_it_accepts(tmp_path: Path, name: str, suggestion: str) -> None:
    said = _refused(_project(tmp_path), "--name", name)

    assert f"error: --name: 1 problem\n  {name!r} is not a name of a product" in said
    assert said.endswith(f"such as `--name {suggestion}`.\n")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("jaffle_shop", "jaffle-shop"),
        ("Acme__DWH", "acme-dwh"),
        ("_x_", "x"),
        ("9lives", "product-9lives"),
        ("é", "product"),
    ],
)
def test_name_is_derived_from_the_dbt_project(tmp_path: Path, written: str, name: str) -> None:
    assert suggested_name(_project(tmp_path, dbt_project__yml=f"name: {written}\n")) == name


def test_existing_floe_yaml_is_not_overwritten(tmp_path: Path) -> None:
    _project(tmp_path, floe__yaml="mine\n", profiles__yml=_PROFILES)

    said = _refused(tmp_path)

    assert "DIR/floe.yaml: 1 problem\n  exists and is not overwritten\n" in said
    assert "`floe platform compile --spec floe.yaml --manifest manifest.yaml --output compiled_artifacts.json`" in said
    assert (tmp_path / "floe.yaml").read_text(encoding="utf-8") == "mine\n"


def test_user_who_declines_keeps_floe_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _project(tmp_path, floe__yaml="mine\n", profiles__yml=_PROFILES)
    monkeypatch.setattr("sys.stdin", _Typed("n\n"))

    answer = invoke("init", tmp_path)

    assert f"{tmp_path / 'floe.yaml'} exists. Overwrite it, and manifest.yaml? [y/N]: " in answer.stdout
    assert answer.exit_code == 1
    assert (tmp_path / "floe.yaml").read_text(encoding="utf-8") == "mine\n"
    assert not (tmp_path / "manifest.yaml").exists()


def test_answered_name_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _project(tmp_path, profiles__yml=_PROFILES)
    monkeypatch.setattr("sys.stdin", _Typed("Shop 1\n\n"))

    answer = invoke("init", tmp_path)

    assert "Name of the product [my-shop]: Schedule (cron" in answer.stdout
    assert "'Shop 1' is not a name of a product" in answer.stderr


def test_variable_that_names_another_project_is_refused(tmp_path: Path) -> None:
    other = _project(tmp_path / "other")
    mine = _project(tmp_path / "mine", profiles__yml=_PROFILES)

    assert "FLOE_DBT_PROJECT_DIR: 1 problem\n  is set to another dbt project than DIR" in _refused(
        mine, FLOE_DBT_PROJECT_DIR=str(other)
    )


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [("--schedule", "0 25 * * *", "cannot fire"), ("--timezone", "Europe/Nowhere", "is not an IANA timezone")],
)
def test_wrong_schedule_is_refused_before_a_file_is_written(tmp_path: Path, option: str, value: str, said: str) -> None:
    _project(tmp_path, profiles__yml=_PROFILES)

    assert said in _refused(tmp_path, option, value)


def test_option_that_an_existing_manifest_makes_useless_is_refused(tmp_path: Path) -> None:
    _project(tmp_path, profiles__yml=_PROFILES, manifest__yaml="{}")

    said = _refused(tmp_path, "--key-prefix", "sales", "--target", "prod")

    assert "DIR/manifest.yaml: 1 problem\n  exists and is used as it is, so --key-prefix, --target would" in said


def test_manifest_that_floe_refuses_is_reported_with_its_fields(tmp_path: Path) -> None:
    _project(tmp_path, manifest__yaml="apiVersion: floe.dev/v1\nkind: Manifest\nplugins: {}\n")

    said = _refused(tmp_path)

    assert "DIR/manifest.yaml: 1 problem\n  metadata: Field required\n" in said


@pytest.mark.parametrize(
    ("path", "is_noted"),
    [
        ("/no/such/machine/shop.duckdb", True),
        ("/tmp/shop.duckdb", False),  # noqa: S108  # the directory exists everywhere
        ("data/shop.duckdb", False),  # dbt's runs create it
        ("{{ env_var('SHOP_DIR') }}/shop.duckdb", False),
    ],
)
def test_database_in_a_directory_of_another_machine_is_noted(tmp_path: Path, path: str, *, is_noted: bool) -> None:
    output = OwnOutput(tmp_path / "profiles.yml", "shop.outputs.dev", {"type": "duckdb", "path": path})

    config, notes = compute_settings(output)

    assert config["path"] == path
    note = (
        f"This machine has no directory for the profile's {path}. For a new DuckDB file in warehouse/, run the command "
        "again with `--overwrite --compute duckdb`."
    )
    assert notes == ([note] if is_noted else [])
