"""The compiled dbt profile: selection, output, variables and the file on disk."""

from __future__ import annotations

import gc
import logging
import os
import stat
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from packaging.version import Version

from floe_orchestrator_dagster.errors import ProfileError, ProjectError
from floe_orchestrator_dagster.product.profile_file import written_profile
from floe_orchestrator_dagster.product.profiles import (
    Profile,
    create_database_directory,
    require_variables,
    select_profile,
)
from floe_orchestrator_dagster.product.templates import Variable
from unit.samples import Json, model, profiles, project, validated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from floe_orchestrator_dagster.product.project import ProjectDirectory

_RECOMPILE = "Compile the product again with a compute plugin in manifest.yaml (floe platform compile)."


def _select(directory: ProjectDirectory, dbt_profiles: Json | None) -> Profile:
    return select_profile(validated(model("stg_orders"), dbt_profiles=dbt_profiles), directory, "contract")


def _with_path(tmp_path: Path, path: str) -> Profile:
    return _select(project(tmp_path), profiles(path=path))


def _required(tmp_path: Path, **output: object) -> tuple[Variable, ...]:
    return _select(project(tmp_path), profiles("shop", **output)).variables


# --- which profile --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["shop_orders", "shop-orders", "Shop_Orders", "anything_else"])
def test_single_profile_is_used_under_the_projects_profile_name(tmp_path: Path, asked: str) -> None:
    profile = _select(project(tmp_path, profile=asked), profiles("shop-orders"))

    assert profile.name == asked
    assert profile.target == "dev"
    assert profile.adapter == "duckdb"


def test_project_without_a_profile_gets_one_named_after_the_product(tmp_path: Path) -> None:
    assert _select(project(tmp_path, profile=None), profiles("default")).name == "shop-orders"


@pytest.mark.parametrize("asked", ["shop_orders", "shop-orders", "SHOP-ORDERS"])
def test_of_several_profiles_the_one_of_the_same_name_is_used(tmp_path: Path, asked: str) -> None:
    several = {**profiles("shop-returns", path="returns.duckdb"), **profiles("shop-orders", path="orders.duckdb")}

    profile = _select(project(tmp_path, profile=asked), several)

    assert profile.name == asked
    assert profile.outputs["dev"]["path"] == str(tmp_path / "orders.duckdb")


def test_several_foreign_profiles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProfileError) as raised:
        _select(project(tmp_path), {**profiles("shop-returns"), **profiles("default")})

    assert str(raised.value) == (
        "contract: 1 problem\n"
        "  dbt_profiles: none of 'shop-returns', 'default' is the profile 'shop_orders' of dbt_project.yml\n"
        "    fix: Set `profile:` in dbt_project.yml to one of them."
    )


def test_profiles_that_differ_in_dashes_only_are_ambiguous(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"Set `profile:` in dbt_project\.yml to one of them"):
        _select(project(tmp_path), {**profiles("shop-orders"), **profiles("Shop_Orders")})


@pytest.mark.parametrize("dbt_profiles", [None, {}])
def test_contract_without_a_profile_is_refused(tmp_path: Path, dbt_profiles: Json | None) -> None:
    with pytest.raises(ProfileError) as raised:
        _select(project(tmp_path), dbt_profiles)

    assert str(raised.value) == (
        f"contract: 1 problem\n  dbt_profiles: the artifacts have no dbt profile\n    fix: {_RECOMPILE}"
    )


@pytest.mark.parametrize(
    "content", [None, "dev", [], {}, {"target": "dev"}, {"outputs": None}, {"outputs": {}}, {"outputs": ["dev"]}]
)
def test_profile_without_outputs_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(ProfileError) as raised:
        _select(project(tmp_path), {"shop": content})

    assert str(raised.value) == (
        f"contract: 1 problem\n  dbt_profiles.shop.outputs: has no output\n    fix: {_RECOMPILE}"
    )


def test_every_output_without_a_type_is_reported(tmp_path: Path) -> None:
    outputs = {"dev": {"path": "a.duckdb"}, "staging": {"type": "duckdb"}, "production": "duckdb", "test": {"type": ""}}

    with pytest.raises(ProfileError) as raised:
        _select(project(tmp_path), {"shop": {"target": "dev", "outputs": outputs}})

    assert str(raised.value) == "\n".join(
        [
            "contract: 3 problems",
            *(f"  dbt_profiles.shop.outputs.{name}.type: is missing" for name in ("dev", "production", "test")),
            f"    fix: {_RECOMPILE}",
        ]
    )


# --- which output ---------------------------------------------------------------------------------------------------


def _two_outputs(target: object = "dev") -> Json:
    outputs = {
        "dev": {"type": "duckdb", "path": "dev.duckdb"},
        "production": {"type": "postgres", "host": "{{ env_var('PG_HOST') }}", "user": "{{ env_var('PG_USER') }}"},
    }
    return {"shop": {"outputs": outputs, **({"target": target} if target else {})}}


def test_floe_env_selects_the_output_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOE_ENV", "production")

    profile = _select(project(tmp_path), _two_outputs())

    assert (profile.target, profile.default_target, profile.adapter) == ("production", "dev", "postgres")


def test_floe_env_without_an_output_keeps_the_profiles_target_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("FLOE_ENV", "staging")

    profile = _select(project(tmp_path), _two_outputs())

    assert profile.target == "dev"
    assert caplog.record_tuples == [
        (
            "floe_orchestrator_dagster.product.profiles",
            logging.WARNING,
            "FLOE_ENV=staging has no output in the dbt profile: target dev is used",
        )
    ]


@pytest.mark.parametrize("environment", [None, ""])
def test_without_floe_env_the_profiles_target_is_used_silently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, environment: str | None
) -> None:
    caplog.set_level(logging.INFO)
    if environment is not None:
        monkeypatch.setenv("FLOE_ENV", environment)

    assert _select(project(tmp_path), _two_outputs("production")).target == "production"
    assert caplog.records == []


def test_profile_without_a_target_uses_its_first_output(tmp_path: Path) -> None:
    profile = _select(project(tmp_path), _two_outputs(target=None))

    assert (profile.target, profile.default_target) == ("dev", "dev")


def test_target_without_an_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProfileError) as raised:
        _select(project(tmp_path), _two_outputs("prod"))

    assert str(raised.value) == (
        "contract: 1 problem\n"
        "  dbt_profiles.shop.target: 'prod' names no output (outputs: 'dev', 'production')\n"
        f"    fix: {_RECOMPILE}"
    )


def test_templated_target_is_left_to_dbt(tmp_path: Path) -> None:
    profile = _select(project(tmp_path), _two_outputs("{{ env_var('TARGET') }}"))

    assert (profile.target, profile.adapter) == (None, None)
    assert [variable.name for variable in profile.variables] == ["TARGET"]


def test_floe_env_takes_precedence_over_a_templated_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOE_ENV", "dev")

    profile = _select(project(tmp_path), _two_outputs("{{ env_var('TARGET') }}"))

    assert profile.target == "dev"
    assert profile.variables == ()


# --- where DuckDB's file lies ---------------------------------------------------------------------------------------


def test_relative_duckdb_path_is_in_the_project(tmp_path: Path) -> None:
    assert _with_path(tmp_path, "warehouse/shop.duckdb").outputs["dev"]["path"] == str(
        tmp_path / "warehouse/shop.duckdb"
    )


def test_relative_duckdb_path_is_in_the_state_directory_if_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOE_STATE_DIR", str(tmp_path / "state"))
    directory = project(tmp_path / "shop")

    profile = _select(directory, profiles(path="shop.duckdb"))

    assert profile.outputs["dev"]["path"] == str(directory.state_path / "shop.duckdb")


def test_every_output_gets_an_absolute_path(tmp_path: Path) -> None:
    outputs = {"dev": {"type": "duckdb", "path": "dev.duckdb"}, "ci": {"type": "duckdb", "path": "ci.duckdb"}}

    profile = _select(project(tmp_path), {"shop": {"target": "dev", "outputs": outputs}})

    assert [output["path"] for output in profile.outputs.values()] == [
        str(tmp_path / "dev.duckdb"),
        str(tmp_path / "ci.duckdb"),
    ]


@pytest.mark.parametrize(
    "path",
    [
        "/srv/warehouse/shop.duckdb",
        ":memory:",
        ":memory:shop",
        "md:shop",
        "md:",
        "motherduck:shop",
        "s3://lake/shop.duckdb",
        "https://example.com/shop.duckdb",
        "ducklake:postgres://db",
        "ducklake:metadata.ducklake",
        "{{ env_var('WAREHOUSE') }}/shop.duckdb",
    ],
)
def test_duckdb_path_that_is_not_a_relative_file_is_kept(tmp_path: Path, path: str) -> None:
    assert _with_path(tmp_path, path).outputs["dev"]["path"] == path


def test_path_of_another_adapter_is_kept(tmp_path: Path) -> None:
    profile = _select(project(tmp_path), profiles(type="sqlite", path="shop.db"))

    assert profile.outputs["dev"] == {"type": "sqlite", "path": "shop.db"}


def test_other_settings_of_an_output_are_kept(tmp_path: Path) -> None:
    extra: Json = {"threads": 4, "extensions": ["httpfs"], "settings": {"memory_limit": "1GB"}, "schema": None}

    output = _select(project(tmp_path), profiles(**extra)).outputs["dev"]

    assert output == {"type": "duckdb", "path": str(tmp_path / "shop.duckdb"), **extra}


def test_directory_of_the_duckdb_file_is_created(tmp_path: Path) -> None:
    profile = _with_path(tmp_path, "warehouse/eu/shop.duckdb")

    create_database_directory(profile)
    create_database_directory(profile)

    assert list((tmp_path / "warehouse" / "eu").iterdir()) == []


@pytest.mark.parametrize(
    "path",
    [
        ":memory:",
        "md:a/b",
        "ducklake:a/b.ducklake",
        "s3://lake/shop.duckdb",
        "{{ env_var('WAREHOUSE') }}/shop.duckdb",
        "a/{{ x }}/b",
    ],
)
def test_no_directory_is_created_for_a_path_that_is_not_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    working = tmp_path / "working"
    working.mkdir()
    monkeypatch.chdir(working)
    profile = _with_path(tmp_path / "shop", path)

    create_database_directory(profile)

    assert list(working.iterdir()) == []
    assert [entry.name for entry in (tmp_path / "shop").iterdir()] == ["dbt_project.yml"]


@pytest.mark.parametrize("output", [{"type": "postgres", "path": "x/y"}, {"path": None}], ids=["postgres", "no-path"])
def test_no_directory_is_created_without_a_duckdb_path(tmp_path: Path, output: Json) -> None:
    create_database_directory(_select(project(tmp_path), profiles(**output)))

    assert [entry.name for entry in tmp_path.iterdir()] == ["dbt_project.yml"]


def test_no_directory_is_created_while_the_target_is_unknown(tmp_path: Path) -> None:
    create_database_directory(_select(project(tmp_path), _two_outputs("{{ env_var('TARGET') }}")))

    assert [entry.name for entry in tmp_path.iterdir()] == ["dbt_project.yml"]


def test_home_directory_in_a_duckdb_path_is_expanded(tmp_path: Path) -> None:
    path = _with_path(tmp_path / "shop", "~/shop.duckdb").outputs["dev"]["path"]

    assert path == str(Path("~/shop.duckdb").expanduser())


def test_empty_duckdb_path_is_left_to_dbt(tmp_path: Path) -> None:
    assert _with_path(tmp_path / "shop", "").outputs["dev"]["path"] == ""


@pytest.mark.parametrize("template", ["{{ env_var('WHERE') }}", "{{ env_var('WHERE', 'dev') }}"])
def test_templated_target_is_resolved_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    monkeypatch.setenv("WHERE", "production")

    assert _select(project(tmp_path), _two_outputs(template)).target == "production"


def test_templated_target_has_its_default(tmp_path: Path) -> None:
    assert _select(project(tmp_path), _two_outputs("{{ env_var('WHERE', 'dev') }}")).target == "dev"


def test_templated_target_without_an_output_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", "moon")

    with pytest.raises(ProfileError, match="'moon' names no output"):
        _select(project(tmp_path), _two_outputs("{{ env_var('WHERE') }}"))


def test_unset_target_is_parsed_with_the_first_output(tmp_path: Path) -> None:
    content = _two_outputs("{{ env_var('WHERE') }}")
    content[next(iter(content))]["outputs"]["dev"]["schema"] = "{{ env_var('SCHEMA') }}"

    profile = _select(project(tmp_path), content)

    assert profile.target is None
    assert profile.variables == (Variable("WHERE", "dev"), Variable("SCHEMA", "1"))


# --- which variables ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ env_var('PG_HOST') }}", [Variable("PG_HOST", "1")]),
        ('{{env_var("PG_HOST")}}', [Variable("PG_HOST", "1")]),
        ("{{ env_var('PG_PORT') | as_number }}", [Variable("PG_PORT", "1")]),
        ("{{ env_var('PG_PORT') | int }}", [Variable("PG_PORT", "1")]),
        ("{{ env_var('PG_SSL') | as_bool }}", [Variable("PG_SSL", "true")]),
        ("{{ (env_var('PG_SSL')) | trim | as_bool }}", [Variable("PG_SSL", "true")]),
        ("{{ env_var('PG_HOST', 'localhost') }}", []),
        ("{{ env_var('PG_HOST', default='localhost') }}", []),
        ("{{ env_var('PG_HOST', '') }}", []),
        ("a-{{ env_var('A') }}-{{ env_var('B') }}", [Variable("A", "1"), Variable("B", "1")]),
        ("{{ env_var('A') ~ env_var('A') }}", [Variable("A", "1")]),
        ("{{ env_var('A', env_var('B')) }}", [Variable("B", "1")]),
        ("{{ env_var(name) }}", []),
        ("{{ target.name }}", []),
        ("env_var('PLAIN_TEXT')", []),
        ("{{ env_var('BROKEN' }}", []),
        ("{# {{ env_var('COMMENT') }} #}", []),
    ],
)
def test_variables_without_a_default_are_required(tmp_path: Path, template: str, expected: list[Variable]) -> None:
    assert list(_required(tmp_path, host=template)) == expected


def test_variables_are_found_in_nested_values_and_listed_once(tmp_path: Path) -> None:
    variables = _required(
        tmp_path,
        host="{{ env_var('HOST') }}",
        settings={"a": {"b": "{{ env_var('NESTED') }}"}},
        attach=[{"path": "{{ env_var('ATTACHED') }}"}, "{{ env_var('HOST') }}", 5, None],
    )

    assert [variable.name for variable in variables] == ["HOST", "NESTED", "ATTACHED"]


def test_variables_of_outputs_that_are_not_used_are_not_required(tmp_path: Path) -> None:
    assert _select(project(tmp_path), _two_outputs("dev")).variables == ()


def test_variables_of_the_selected_output_are_required(tmp_path: Path) -> None:
    assert [variable.name for variable in _select(project(tmp_path), _two_outputs("production")).variables] == [
        "PG_HOST",
        "PG_USER",
    ]


def test_missing_variables_are_those_that_are_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PG_USER", "")
    profile = _select(project(tmp_path), _two_outputs("production"))

    assert [variable.name for variable in profile.missing_variables] == ["PG_HOST"]


def test_every_missing_variable_is_reported(tmp_path: Path) -> None:
    profile = _select(project(tmp_path), _two_outputs("production"))

    with pytest.raises(ProfileError) as raised:
        require_variables(profile)

    assert str(raised.value) == (
        "dbt profile 'shop_orders', target 'production': 2 problems\n"
        "  PG_HOST: the environment variable is not set\n"
        "  PG_USER: the environment variable is not set\n"
        "    fix: Set it where Dagster's runs get their secrets."
    )


def test_variables_that_are_set_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PG_HOST", "db")
    monkeypatch.setenv("PG_USER", "shop")

    require_variables(_select(project(tmp_path), _two_outputs("production")))


# --- on disk --------------------------------------------------------------------------------------------------------


def test_written_profile_is_what_dbt_reads(tmp_path: Path) -> None:
    profile = _select(project(tmp_path), _two_outputs("{{ env_var('TARGET') }}"))

    with written_profile(profile) as directory:
        content = yaml.safe_load((directory / "profiles.yml").read_text(encoding="utf-8"))

    assert content == {
        "shop_orders": {
            "target": "{{ env_var('TARGET') }}",
            "outputs": {
                "dev": {"type": "duckdb", "path": str(tmp_path / "dev.duckdb")},
                "production": {
                    "type": "postgres",
                    "host": "{{ env_var('PG_HOST') }}",
                    "user": "{{ env_var('PG_USER') }}",
                },
            },
        }
    }


def test_written_profile_is_private(tmp_path: Path) -> None:
    with written_profile(_with_path(tmp_path, "shop.duckdb")) as directory:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE((directory / "profiles.yml").stat().st_mode) == 0o600
        assert sorted(entry.name for entry in directory.iterdir()) == [".lock", "profiles.yml"]
        assert tmp_path not in directory.parents


def test_written_profile_is_removed_at_the_end(tmp_path: Path) -> None:
    with written_profile(_with_path(tmp_path, "shop.duckdb")) as directory:
        pass

    assert not directory.exists()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_written_profile_is_removed_after_an_exception(tmp_path: Path, error: type[BaseException]) -> None:
    with (  # noqa: PT012  # the body is what fails
        pytest.raises(error),
        written_profile(_with_path(tmp_path, "shop.duckdb")) as directory,
    ):
        assert directory.exists()
        raise error

    assert not directory.exists()


def test_written_profile_is_removed_when_the_step_is_dropped(tmp_path: Path) -> None:
    def step(found: list[Path]) -> Iterator[None]:
        with written_profile(_with_path(tmp_path, "shop.duckdb")) as directory:
            found.append(directory)
            yield

    found: list[Path] = []
    dropped: list[object] = [step(found)]
    next(dropped[0])  # type: ignore[call-overload]  # a list of itself and the generator: garbage only a cycle check finds
    dropped.append(dropped)

    del dropped
    gc.collect()

    assert [directory.exists() for directory in found] == [False]


def test_two_written_profiles_have_different_directories(tmp_path: Path) -> None:
    profile = _with_path(tmp_path, "shop.duckdb")

    with written_profile(profile) as first, written_profile(profile) as second:
        assert first != second


def test_written_profile_is_in_the_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = _with_path(tmp_path / "shop", "shop.duckdb")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    with written_profile(profile) as directory:
        assert directory.parent == tmp_path


def test_profiles_of_dead_processes_are_removed_and_those_in_use_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    abandoned, just_made = tmp_path / "floe-dbt-profile-abandoned", tmp_path / "floe-dbt-profile-just-made"
    abandoned.mkdir()
    just_made.mkdir()
    a_while_ago = time.time() - 100
    os.utime(abandoned, (a_while_ago, a_while_ago))
    profile = _select(project(tmp_path / "shop"), profiles())

    with written_profile(profile) as in_use:
        os.utime(in_use, (a_while_ago, a_while_ago))
        with written_profile(profile):
            assert not abandoned.exists()
            assert just_made.exists()
            assert in_use.exists()


def test_secrets_are_the_values_of_secret_keys_and_of_their_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "from-the-environment")
    monkeypatch.setenv("SHORT", "abc")
    outputs: dict[str, Json] = {
        "dev": {"type": "postgres", "user": "floe", "password": "{{ env_var('SHOP_PASSWORD') }}", "pass": "as-it-is"},
        "lake": {
            "type": "duckdb",
            "secrets": [{"type": "s3", "secret": "in-a-list", "region": "eu-north-1"}],
            "settings": {"s3_secret_access_key": "nested", "threads": 4},
            "token": "{{ env_var('SHORT') }}",
            "api_key": "{{ env_var('NOT_SET') }}",
            "private_key_passphrase": "{{ env_var('NOT_SET', 'by-default') }}",
            "sslpassword": 123456,
            "private_key": "-----BEGIN PRIVATE KEY-----\nMIIEvQIB\n-----END PRIVATE KEY-----\n",
        },
    }
    profile = Profile(name="shop", target="dev", outputs=outputs, default_target="dev", variables=())

    assert {"from-the-environment", "as-it-is", "in-a-list", "nested", "by-default", "123456"} <= set(profile.secrets)
    assert "MIIEvQIB" in profile.secrets  # output is masked line by line
    assert not {"floe", "abc", "", "eu-north-1"} & set(profile.secrets)


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        ("postgresql://shop:s3cret!@db.internal:5432/shop?sslmode=require", {"s3cret!"}),
        ("postgresql://shop:p%40ss%2Fword@db/shop", {"p%40ss%2Fword", "p@ss/word"}),
        ("postgresql+psycopg2://shop:p@ss:word@db/shop", {"p@ss:word", "p%40ss%3Aword"}),
        ("host=db dbname=shop user=shop password=hunter22 sslmode=require", {"hunter22"}),
        ("host=db password = 'it\\'s here' user=shop", {"it's here", "it%27s+here"}),
        ("Driver={ODBC 18};Server=db;UID=shop;PWD={a;b;c};Encrypt=yes", {"a;b;c"}),
        ("md:shop?motherduck_token=eyJhbGciOi.J9", {"eyJhbGciOi.J9"}),
        ("https://acc.blob.core.windows.net/c?sv=2024&sig=abc%2Bdef%3D", {"abc%2Bdef%3D", "abc+def="}),
        (
            "postgresql://shop:{{ env_var('PG_PASSWORD') }}@{{ env_var('PG_HOST', 'db') }}/shop",
            {"from env", "from%20env"},
        ),
        ("dbname=shop sort_key=order_id", set()),
        ("https://db.internal:5432/shop", set()),
        ("s3://bucket/path", set()),
    ],
)
def test_secrets_in_connection_strings_are_found_plain_and_url_encoded(
    text: str, secrets: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PG_PASSWORD", "from env")
    output = {"type": "duckdb", "attach": [{"path": text}]}
    profile = Profile(name="shop", target="dev", outputs={"dev": output}, default_target="dev", variables=())

    found = set(profile.secrets)

    assert secrets <= found
    assert bool(found) == bool(secrets)
    assert not {"shop", "db.internal", "require", "order_id"} & found


@pytest.mark.parametrize(
    ("output", "files"),
    [
        ({"path": "/w/a.duckdb"}, ("/w/a.duckdb",)),
        ({"path": ":memory:"}, ()),
        ({"path": "md:shop"}, ()),
        ({"path": "/w/a.duckdb", "read_only": True}, ()),
        (
            {
                "path": "/w/a.duckdb",
                "attach": [
                    {"path": "/w/b.duckdb"},
                    {"path": "/w/b.duckdb", "alias": "again"},
                    {"path": "/w/c.sqlite", "type": "sqlite"},
                    {"path": "/w/d.duckdb", "read_only": True},
                    {"path": "s3://bucket/e.duckdb"},
                ],
            },
            ("/w/a.duckdb", "/w/b.duckdb"),
        ),
        ({"path": "{{ env_var('SHOP_DB') }}"}, ("/data/shop.duckdb",)),
        ({"path": "{{ env_var('NOT_SET', 'warehouse') | as_text }}/a.duckdb"}, ("warehouse/a.duckdb",)),
        ({"path": "{{ env_var('NOT_SET') }}"}, ()),
        ({"path": "{{ var('database') }}"}, ()),
        ({"path": "{{ env_var('SHOP_DB' }}"}, ()),
        ({"path": "{{ env_var('MOTHERDUCK') }}"}, ()),
    ],
)
def test_duckdb_files_are_those_that_are_written(
    output: dict[str, object], files: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_DB", "/data/shop.duckdb")
    monkeypatch.setenv("MOTHERDUCK", "md:shop")
    profile = Profile(
        name="shop", target="dev", outputs={"dev": {"type": "duckdb", **output}}, default_target="dev", variables=()
    )

    assert profile.duckdb_files == tuple(map(Path, files))


def test_other_warehouses_have_no_duckdb_files() -> None:
    profile = Profile("shop", "dev", {"dev": {"type": "postgres", "path": "/w/a.duckdb"}}, "dev", ())

    assert profile.duckdb_files == ()


# --- the project's .env ---------------------------------------------------------------------------------------------

_DBT_READS_ENV_FILES = Version(version("dbt-core")) >= Version("1.12")


def _with_env_file(tmp_path: Path, content: str, **output: object) -> Profile:
    (tmp_path / ".env").write_text(content, encoding="utf-8")
    return _select(project(tmp_path / "dbt" / "shop"), profiles("shop-orders", **output))


@pytest.mark.skipif(not _DBT_READS_ENV_FILES, reason="dbt-core reads .env since 1.12")
def test_variables_of_the_nearest_env_file_are_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_SCHEMA", "of_the_process")
    content = """
        # Read by dbt too.
        export SHOP_TOKEN='from the file'
        SHOP_SCHEMA=of_the_file
        SHOP_DIRECTORY=/data
        NOT_A_VALUE
        """
    profile = _with_env_file(
        tmp_path,
        content,
        schema="{{ env_var('SHOP_SCHEMA') }}",
        path="{{ env_var('SHOP_DIRECTORY') }}/shop.duckdb",
        token="{{ env_var('SHOP_TOKEN') }}",  # noqa: S106  # a template
        threads="{{ env_var('NOT_A_VALUE') }}",
    )

    assert [variable.name for variable in profile.missing_variables] == ["NOT_A_VALUE"]
    assert profile.duckdb_files == (Path("/data/shop.duckdb"),)
    assert "from the file" in profile.secrets
    assert "from the file" not in repr(profile)
    assert profile.environment["SHOP_SCHEMA"] == "of_the_process"
    assert "SHOP_TOKEN" not in os.environ


@pytest.mark.skipif(not _DBT_READS_ENV_FILES, reason="dbt-core reads .env since 1.12")
def test_an_env_file_can_select_the_target(tmp_path: Path) -> None:
    outputs = {name: {"type": "duckdb", "path": f"{name}.duckdb"} for name in ("dev", "prod")}
    compiled = {"shop-orders": {"target": "{{ env_var('SHOP_TARGET') }}", "outputs": outputs}}
    (tmp_path / ".env").write_text("SHOP_TARGET=prod", encoding="utf-8")

    assert _select(project(tmp_path), compiled).target == "prod"


@pytest.mark.skipif(not _DBT_READS_ENV_FILES, reason="dbt-core reads .env since 1.12")
def test_an_env_file_that_is_not_text_is_an_error_with_its_path(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"SHOP_NAME=caf\xe9")

    with pytest.raises(ProjectError) as raised:
        _select(project(tmp_path), profiles())

    assert str(raised.value) == (
        f"{tmp_path}/.env: 1 problem\n"
        "  cannot be read: 'utf-8' codec can't decode byte 0xe9 in position 13: unexpected end of data\n"
        "    fix: Write it as UTF-8 and let the user that runs Dagster read it, or remove it: dbt reads .env too."
    )


@pytest.mark.skipif(_DBT_READS_ENV_FILES, reason="dbt-core reads .env since 1.12")
def test_an_older_dbt_reads_no_env_file(tmp_path: Path) -> None:
    profile = _with_env_file(tmp_path, "SHOP_SCHEMA=shop", schema="{{ env_var('SHOP_SCHEMA') }}")

    assert [variable.name for variable in profile.missing_variables] == ["SHOP_SCHEMA"]
