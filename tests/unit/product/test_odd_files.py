"""Unusual YAML, paths and templates: an error with its place, or the intended value."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from floe_orchestrator_dagster.cli import main
from floe_orchestrator_dagster.config.models import LineageConfig
from floe_orchestrator_dagster.errors import (
    ArtifactsError,
    FloeDagsterError,
    LineageError,
    ProfileError,
    ProjectError,
    SpecError,
)
from floe_orchestrator_dagster.lineage.delivery.emitter import emitter_for
from floe_orchestrator_dagster.product.artifacts import artifacts_path_from_environment, json_object
from floe_orchestrator_dagster.product.files import is_deeper_than
from floe_orchestrator_dagster.product.profiles import select_profile
from floe_orchestrator_dagster.product.project import find_project_path, read_project_directory, state_directory
from floe_orchestrator_dagster.product.spec import read_spec
from floe_orchestrator_dagster.product.templates import rendered, required_variables
from floe_orchestrator_dagster.product.yaml_file import read_yaml
from unit.samples import contract, model, profiles, validated

if TYPE_CHECKING:
    from pathlib import Path

_BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 2026-02-30", "'2026-02-30' is not a valid timestamp"),
        ("a: 2026-01-01T25:00:00Z", "'2026-01-01T25:00:00Z' is not a valid timestamp"),
        ("a: !!int foo", "'foo' is not a valid int"),
        ("a: !!bool foo", "'foo' is not a valid bool"),
        ("a: !!timestamp foo", "'foo' is not a valid timestamp"),
        ("a: !!float foo", "'foo' is not a valid float"),
        ("a: !!python/object:os.system x", "could not determine a constructor for the tag"),
        (f"a: {'9' * 10_000}", f"'{'9' * 58}… is not a valid int"),
        ("[" * 5_000, "is nested too deeply"),
        ("a: " + "[" * 150 + "]" * 150, "is nested more than 100 levels deep"),
        ("a: &a [*a]", "an alias refers to itself"),
        ('a: "\\ud800"', "'\\ud800' is an incomplete character (a surrogate)"),
        (_BOMB, "aliases expand to more than 1000000 values"),
        ("a: b: c", "mapping values are not allowed here"),
        ("\0", "unacceptable character"),
    ],
)
def test_yaml_that_cannot_be_read_is_one_problem(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "dbt_project.yml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(ProjectError) as raised:
        read_yaml(path, ProjectError)

    assert raised.value.origin == str(path)
    assert said in str(raised.value)
    assert "fix: " in str(raised.value)


def test_yaml_says_in_which_line_a_value_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "dbt_project.yml"
    path.write_text("name: shop\nvars:\n  start: 2026-02-30\n", encoding="utf-8")

    with pytest.raises(ProjectError, match="line 3, column 10"):
        read_yaml(path, ProjectError)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("on: push\n2: b", {True: "push", 2: "b"}),
        ("a: &a [1]\nb: *a\nc: *a", {"a": [1], "b": [1], "c": [1]}),
        ("a: &a {x: 1}\nb: {<<: *a, y: 2}", {"a": {"x": 1}, "b": {"x": 1, "y": 2}}),
        ("a: \N{GRINNING FACE}", {"a": "\N{GRINNING FACE}"}),
    ],
)
def test_legal_yaml_is_read(tmp_path: Path, text: str, value: object) -> None:
    path = tmp_path / "floe.yaml"
    path.write_text(text, encoding="utf-8")

    assert read_yaml(path, ProjectError) == value


@pytest.mark.parametrize("text", ["on: push\nname: shop", "1: a\n", "on: {1: 2}\n", "- a", "text", "? [a]\n: b"])
@pytest.mark.parametrize("file", ["floe.yaml", "dbt_project.yml"])
def test_unusual_top_level_keys_do_not_end_in_a_traceback(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / "dbt_project.yml").write_text("name: shop", encoding="utf-8")
    (tmp_path / file).write_text(text, encoding="utf-8")
    artifacts = tmp_path / "compiled_artifacts.json"
    artifacts.write_text(json.dumps(contract(model("a"))), encoding="utf-8")

    result = CliRunner().invoke(main, ["validate", str(artifacts)])

    assert isinstance(result.exception, SystemExit)
    assert f"error: {tmp_path}" in result.stderr


def test_key_that_yaml_does_not_read_as_a_string_is_named(tmp_path: Path) -> None:
    (tmp_path / "floe.yaml").write_text("on: push\nmetadata: {labels: [{1: a}]}", encoding="utf-8")

    with pytest.raises(SpecError) as raised:
        read_spec(tmp_path, "shop")

    assert [(problem.where, problem.what) for problem in raised.value.problems] == [
        ("True", "the key True is not a string"),
        ("metadata.labels[0].1", "the key 1 is not a string"),
    ]


def test_artifacts_nested_deeper_than_python_can_follow_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "compiled_artifacts.json"
    deep = "[" * 900 + "]" * 900
    path.write_text(json.dumps(contract(model("a"))).replace('"duckdb"', deep), encoding="utf-8")

    result = CliRunner().invoke(main, ["validate", str(path)])

    assert result.exit_code == 1
    assert "is nested more than 100 levels deep" in result.stderr


def test_depth_is_counted_in_mappings_and_lists() -> None:
    assert not is_deeper_than({"a": [{"b": 1}]}, 3)
    assert is_deeper_than({"a": [{"b": 1}]}, 2)
    endless: dict[str, object] = {}
    endless["again"] = endless

    with pytest.raises(ArtifactsError, match="is nested more than 100 levels deep"):
        json_object(endless, "CompiledArtifacts")


# --- paths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "read"),
    [
        ("FLOE_ARTIFACTS_PATH", artifacts_path_from_environment),
        ("FLOE_DBT_PROJECT_DIR", lambda: find_project_path(None)),
        ("FLOE_STATE_DIR", lambda: state_directory("shop")),
    ],
)
def test_home_of_an_unknown_user_is_named_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, read: object
) -> None:
    monkeypatch.setenv(variable, "~no-such-user/shop")

    with pytest.raises(FloeDagsterError) as raised:
        read()  # type: ignore[operator]

    assert str(raised.value) == (
        f"{variable}: 1 problem\n"
        "  '~no-such-user/shop' cannot be expanded: the user is unknown on this machine or has no home directory\n"
        "    fix: Write the path without `~`."
    )


@pytest.fixture
def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the home directory away, as a container's user often has none."""
    monkeypatch.setenv("HOME", "~")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("FLOE_STATE_DIR", raising=False)


@pytest.mark.usefixtures("no_home")
def test_user_without_home_is_asked_for_a_state_directory() -> None:
    with pytest.raises(ProjectError) as raised:
        state_directory("shop")

    assert raised.value.problems[0].fix == "Set FLOE_STATE_DIR to a directory that this user can write."


@pytest.mark.usefixtures("no_home")
def test_lineage_of_a_user_without_home_is_a_warning_or_with_strict_an_error(caplog: pytest.LogCaptureFixture) -> None:
    content = contract(model("a"))["observability"]
    artifacts = validated(model("a"), observability={**content, "lineage": True, "lineage_transport": "console"})

    assert emitter_for(artifacts, LineageConfig()) is None
    assert emitter_for(artifacts, LineageConfig(spool_dir="~/spool")) is None
    assert "Lineage is not sent: FLOE_STATE_DIR: 1 problem" in caplog.text
    assert "Lineage is not sent: plugins.orchestrator.config.lineage.spool_dir: 1 problem" in caplog.text
    with pytest.raises(LineageError):
        emitter_for(artifacts, LineageConfig(strict=True))


@pytest.mark.parametrize("path", ["~no-such-user/shop.duckdb", "shop\0.duckdb"])
def test_database_that_cannot_be_a_path_is_named_with_its_place(tmp_path: Path, path: str) -> None:
    (tmp_path / "dbt_project.yml").write_text("name: shop", encoding="utf-8")
    project = read_project_directory(tmp_path, "shop")

    with pytest.raises(ProfileError) as raised:
        select_profile(validated(model("a"), dbt_profiles=profiles(path=path)), project, "artifacts.json")

    [problem] = raised.value.problems
    assert raised.value.origin == "artifacts.json"
    assert problem.where == "dbt_profiles.shop-orders.outputs.dev.path"
    assert problem.what == f"{path!r} is not the path of a file on this machine"


# --- templates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ env_var('A') }}", "Ab"),
        ("{{ env_var('A').lower() ~ '_x' }}", "ab_x"),
        ("{{ env_var('A') | upper | replace('B', 'c') }}", "Ac"),
        ("{{ env_var('A').replace('b', 'c')[:1] }}", "A"),
        ("{{ env_var('B', 'none') if env_var('A') == 'Ab' else 'other' }}", "none"),
        ("{% if env_var('A') == 'x' %}1{% else %}{{ env_var('A') }}{% endif %}", "Ab"),
        ("{{ env_var('PORT', '5432') | as_number }}", "5432"),
    ],
)
def test_template_is_rendered_as_dbt_does(template: str, text: str) -> None:
    assert rendered(template, {"A": "Ab"}) == text


@pytest.mark.parametrize(
    "template",
    [
        "{{ 1 / 0 }}",
        "{{ 1 % 0 }}",
        "{{ 'a' * 10 ** 10 }}",
        "{{ 10 ** 10 ** 10 }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '{:999999999}'.format(1) }}",
        "{{ 'x' | center(999999999) }}",
        "{{ range(99999) | list }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}",
        "{% set a = 'aaaa' %}{% set a = a ~ a %}{{ a }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ ('a' | replace('a', 'b' ~ 'b')) | replace('b', "
        + repr("c" * 9_000)
        + ") | replace('c', "
        + repr("d" * 200)
        + ") }}",
        "{{ " + "(" * 3_000 + "1" + ")" * 3_000 + " }}",
        "{{ " + "not " * 3_000 + "1 }}",
        "{{ " + "9" * 9_000 + " }}",
        "{{ env_var() }}",
        "{{ env_var(['A']) }}",
        "{{ env_var('A', 'b', 'c') }}",
        "{{ ''.__class__ }}",
        "{{ env_var('A')[['a']] }}",
        "{{ [1][9] }}",
        "{{ nothing }}",
        "{{ 'a' | nothing }}",
        "{{",
        "{{ }}",
        "{% if %}{{ 1 }}",
        "{{ 1 }}" * 5_000,
    ],
)
def test_template_that_fails_or_never_ends_is_left_to_dbt(template: str) -> None:
    assert rendered(template, {"A": "Ab"}) is None
    assert isinstance(required_variables({"a": [template]}), tuple)
