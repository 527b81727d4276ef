"""Lookup of the dbt project, and the paths that its settings and the environment determine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from floe_orchestrator_dagster.errors import ProjectError
from floe_orchestrator_dagster.product.project import (
    find_project_path,
    newest_change,
    read_project_directory,
)
from unit.samples import NAME, project, write_project

_LONG_AGO = 1_000_000_000


def _age(directory: Path) -> None:
    """Make everything in ``directory`` look old."""
    for path in [directory, *directory.rglob("*")]:
        os.utime(path, (_LONG_AGO, _LONG_AGO))


# --- where it lies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["compiled_artifacts.json", "target/compiled_artifacts.json", "a/b/c.json"])
def test_nearest_parent_with_a_dbt_project_is_found(tmp_path: Path, below: str) -> None:
    write_project(tmp_path)
    directory = write_project(tmp_path / "inner")

    assert find_project_path(directory / below) == directory


def test_relative_artifacts_path_is_searched_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)

    assert find_project_path(Path("compiled_artifacts.json")) == tmp_path


def test_artifacts_without_a_dbt_project_above_have_none(tmp_path: Path) -> None:
    assert find_project_path(tmp_path / "compiled_artifacts.json") is None


def test_nothing_to_search_from_means_no_project() -> None:
    assert find_project_path(None) is None


def test_environment_variable_takes_precedence_over_the_artifacts_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_project(tmp_path / "beside")
    named = write_project(tmp_path / "named")
    monkeypatch.setenv("FLOE_DBT_PROJECT_DIR", str(named))

    assert find_project_path(tmp_path / "beside" / "compiled_artifacts.json") == named
    assert find_project_path(None) == named


def test_environment_variable_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_project(tmp_path / "named")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLOE_DBT_PROJECT_DIR", "named")

    assert find_project_path(None) == tmp_path / "named"


def test_environment_variable_may_name_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_project(tmp_path / "shop")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FLOE_DBT_PROJECT_DIR", "~/shop")

    assert find_project_path(None) == tmp_path / "shop"


@pytest.mark.parametrize("exists", [True, False], ids=["empty-directory", "no-directory"])
def test_environment_variable_without_a_dbt_project_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    exists: bool,  # noqa: FBT001  # a table's column
) -> None:
    path = tmp_path / "shop"
    if exists:
        path.mkdir()
    monkeypatch.setenv("FLOE_DBT_PROJECT_DIR", str(path))

    with pytest.raises(ProjectError) as raised:
        find_project_path(write_project(tmp_path) / "compiled_artifacts.json")

    assert str(raised.value) == (
        f"{path}: 1 problem\n"
        "  FLOE_DBT_PROJECT_DIR has no dbt_project.yml in it\n"
        "    fix: Set FLOE_DBT_PROJECT_DIR to the directory with dbt_project.yml, or unset it."
    )


# --- settings -------------------------------------------------------------------------------------------------------


def test_missing_settings_have_dbts_defaults(tmp_path: Path) -> None:
    directory = project(tmp_path, profile=None)

    assert directory.path == tmp_path
    assert directory.profile_name is None
    assert directory.state_path == tmp_path
    assert directory.written_target == tmp_path / "target"
    assert directory.read_targets == (tmp_path / "target",)
    assert directory.packages_path == tmp_path / "dbt_packages"
    assert directory.source_paths == tuple(
        tmp_path / name
        for name in (
            "dbt_project.yml",
            "packages.yml",
            "dependencies.yml",
            "package-lock.yml",
            "selectors.yml",
            ".dbtignore",
            "vars.yml",
            ".env",
            "models",
            "seeds",
            "snapshots",
            "macros",
            "tests",
            "analyses",
            "functions",
            "osi",
            "OSI",
        )
    )


def test_settings_are_taken_from_dbt_project_yml(tmp_path: Path) -> None:
    settings = {
        "profile": "warehouse",
        "target-path": "out/dbt",
        "packages-install-path": "vendor",
        "model-paths": ["models", "marts"],
        "seed-paths": [],
    }

    directory = project(tmp_path, **settings)

    assert directory.profile_name == "warehouse"
    assert directory.written_target == tmp_path / "out" / "dbt"
    assert directory.packages_path == tmp_path / "vendor"
    assert tmp_path / "marts" in directory.source_paths
    assert tmp_path / "seeds" not in directory.source_paths


@pytest.mark.parametrize("value", ["{{ env_var('WHERE') }}", 7, None, ["a"]])
def test_setting_that_is_not_a_plain_string_has_dbts_default(tmp_path: Path, value: object) -> None:
    directory = project(tmp_path, **{"target-path": value, "profile": value, "packages-install-path": value})

    assert directory.written_target == tmp_path / "target"
    assert directory.packages_path == tmp_path / "dbt_packages"
    assert directory.profile_name is None


def test_absolute_target_path_is_kept(tmp_path: Path) -> None:
    directory = project(tmp_path / "shop", **{"target-path": str(tmp_path / "elsewhere")})

    assert directory.written_target == tmp_path / "elsewhere"


@pytest.mark.parametrize("absolute", [True, False], ids=["absolute", "relative"])
def test_dbt_target_path_takes_precedence_and_the_projects_target_is_still_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    absolute: bool,  # noqa: FBT001  # a table's column
) -> None:
    moved = tmp_path / "moved"
    monkeypatch.setenv("DBT_TARGET_PATH", str(moved) if absolute else "moved")

    directory = project(tmp_path, **{"target-path": "out"})

    assert directory.written_target == moved
    assert directory.read_targets == (moved, tmp_path / "out")


def test_written_files_are_in_the_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOE_STATE_DIR", str(tmp_path / "state"))

    directory = project(tmp_path / "shop")

    assert tmp_path / "state" in [directory.state_path, *directory.state_path.parents]
    assert directory.written_target == directory.state_path / "target"
    assert directory.read_targets == (directory.written_target, tmp_path / "shop" / "target")


def test_state_directory_may_be_relative_or_in_the_home_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_project(tmp_path / "shop")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLOE_STATE_DIR", "state")
    relative = read_project_directory(tmp_path / "shop", NAME).state_path
    monkeypatch.setenv("FLOE_STATE_DIR", "~/state")
    home = read_project_directory(tmp_path / "shop", NAME).state_path

    assert tmp_path / "state" in [relative, *relative.parents]
    assert tmp_path / "home" / "state" in [home, *home.parents]


def test_products_that_share_a_state_directory_do_not_share_their_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOE_STATE_DIR", str(tmp_path / "state"))
    orders = read_project_directory(write_project(tmp_path / "orders"), "orders")
    returns = read_project_directory(write_project(tmp_path / "returns"), "returns")

    assert not set(orders.read_targets) & set(returns.read_targets)


def test_dbt_target_path_takes_precedence_over_the_state_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("DBT_TARGET_PATH", str(tmp_path / "moved"))

    directory = project(tmp_path / "shop")

    assert directory.written_target == tmp_path / "moved"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("xdg", [True, False], ids=["XDG_STATE_HOME", "HOME"])
def test_project_that_cannot_be_written_has_its_state_in_the_home_directory(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    xdg: bool,  # noqa: FBT001  # a table's column
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME" if xdg else "HOME", str(tmp_path))
    write_project(tmp_path / "shop").chmod(0o500)

    directory = read_project_directory(tmp_path / "shop", NAME)

    assert directory.state_path == (tmp_path if xdg else tmp_path / ".local" / "state") / "floe" / NAME


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: [shop\n", "is not YAML: while parsing a flow sequence"),
        (b"", "is not a YAML mapping\n    fix: See https://docs.getdbt.com/reference/dbt_project.yml."),
        (b"- name: shop\n", "is not a YAML mapping\n    fix: See https://docs.getdbt.com/reference/dbt_project.yml."),
        (b"name: sh\xf6p\n", "cannot be read ('utf-8' codec can't decode byte 0xf6"),
    ],
    ids=["broken", "empty", "list", "latin-1"],
)
def test_dbt_project_yml_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "dbt_project.yml"
    path.write_bytes(content)

    with pytest.raises(ProjectError) as raised:
        read_project_directory(tmp_path, NAME)

    assert str(raised.value).startswith(f"{path}: 1 problem\n  {message}")


def test_missing_dbt_project_yml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"cannot be read \(\[Errno 2\] No such file or directory"):
        read_project_directory(tmp_path, NAME)


# --- when it changed ------------------------------------------------------------------------------------------------


def test_project_without_a_change_has_the_same_time(tmp_path: Path) -> None:
    directory = project(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "stg_orders.sql").touch()
    _age(tmp_path)

    assert newest_change(directory.source_paths) == _LONG_AGO


@pytest.mark.parametrize(
    "changed",
    [
        "dbt_project.yml",
        "packages.yml",
        "selectors.yml",
        ".dbtignore",
        "models/stg_orders.sql",
        "models/deep/er/fct_orders.sql",
        "seeds/a.csv",
        "descriptions/orders.md",
    ],
)
def test_changed_or_added_file_is_noticed(tmp_path: Path, changed: str) -> None:
    directory = project(tmp_path, **{"docs-paths": ["descriptions"]})
    path = tmp_path / changed
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    _age(tmp_path)

    os.utime(path)

    assert newest_change(directory.source_paths) > _LONG_AGO


@pytest.mark.parametrize(
    "deleted", ["models/stg_orders.sql", "models/deep/er/fct_orders.sql", "macros/cents.sql", "seeds/a.csv"]
)
def test_deleted_file_is_noticed(tmp_path: Path, deleted: str) -> None:
    directory = project(tmp_path)
    path = tmp_path / deleted
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    _age(tmp_path)

    path.unlink()

    assert newest_change(directory.source_paths) > _LONG_AGO


@pytest.mark.parametrize("written", ["target/manifest.json", "logs/dbt.log", "shop.duckdb"])
def test_files_that_dbt_generates_are_not_a_change(tmp_path: Path, written: str) -> None:
    directory = project(tmp_path)
    path = tmp_path / written
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    _age(tmp_path)

    path.write_text("new", encoding="utf-8")

    assert newest_change(directory.source_paths) == _LONG_AGO


def test_change_behind_a_link_to_a_directory_is_noticed(tmp_path: Path) -> None:
    directory = project(tmp_path / "shop")
    shared = tmp_path / "shared" / "deep" / "orders.sql"
    shared.parent.mkdir(parents=True)
    shared.touch()
    (tmp_path / "shop" / "models").mkdir()
    (tmp_path / "shop" / "models" / "shared").symlink_to(tmp_path / "shared")
    _age(tmp_path)

    os.utime(shared)

    assert newest_change(directory.source_paths) > _LONG_AGO


def test_links_that_form_a_cycle_are_followed_once(tmp_path: Path) -> None:
    directory = project(tmp_path)
    (tmp_path / "models" / "deep").mkdir(parents=True)
    (tmp_path / "models" / "deep" / "up").symlink_to(tmp_path / "models")
    _age(tmp_path)

    assert newest_change(directory.source_paths) == _LONG_AGO


def test_broken_link_is_not_an_error(tmp_path: Path) -> None:
    directory = project(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "gone.sql").symlink_to(tmp_path / "nowhere.sql")

    assert newest_change(directory.source_paths) > _LONG_AGO


@pytest.mark.parametrize("compute", ["warehouse", "..", ".", "a/b"])
def test_manifest_of_each_compute_has_its_own_directory(tmp_path: Path, compute: str) -> None:
    directory = project(tmp_path)

    target = directory.of_compute(compute).written_target.resolve()

    assert target.parent == (directory.written_target / "computes").resolve()
