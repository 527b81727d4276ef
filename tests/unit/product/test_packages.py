"""Detection of installed dbt packages and of changes in them, with dbt's own hash of the lock."""

from __future__ import annotations

import os
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from dbt.config.project import package_config_from_data
from dbt.task.deps import _create_sha1_hash

from floe_orchestrator_dagster.product.engines import DbtEngine
from floe_orchestrator_dagster.product.prepare import package_source_paths, packages_are_installed
from floe_orchestrator_dagster.product.project import newest_change
from unit.samples import project

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    Entries = Sequence[dict[str, Any]]

_CORE, _V2 = DbtEngine("core", "python", "1.11.2"), DbtEngine("v2", "dbt", "2.0.9")
UTILS = {"package": "acme/utils", "version": "1.2.0"}
LONG_AGO = 1_000_000_000


def write_yaml(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


def declare(directory: Path, declared: Entries, *, rendered: Entries | None = None, file: str = "packages.yml") -> None:
    """Write the declaration and its lock, whose hash dbt itself computes."""
    write_yaml(directory / file, {"packages": declared})
    config = package_config_from_data({"packages": deepcopy(rendered or declared)}, {"packages": declared})
    locked = [{**entry, "name": f"package_{number}"} for number, entry in enumerate(rendered or declared)]
    lock = {"packages": locked, "sha1_hash": _create_sha1_hash(config.packages)}
    write_yaml(directory / "package-lock.yml", lock)


def install(directory: Path, *names: str, version: str = "1.2.0") -> None:
    for name in names:
        write_yaml(directory / "dbt_packages" / name / "dbt_project.yml", {"name": name, "version": version})


@pytest.mark.parametrize(
    "declared",
    [
        [UTILS],
        [{"package": "acme/utils", "version": [">=1.2", "<2"]}],
        [{"package": "acme/utils", "version": 1.2}],
        [{"package": "acme/utils", "version": "1.2.0", "install_prerelease": True}],
        [{"git": "https://example.com/utils.git", "revision": "v1"}],
        [{"git": "https://example.com/utils.git", "revision": 1.0, "warn-unpinned": False, "subdirectory": "dbt"}],
        [{"git": "https://example.com/utils.git"}],
        [{"private": "acme/utils", "revision": "v1", "provider": "github"}],
        [{"tarball": "https://example.com/utils.tgz", "name": "utils"}],
        [{"package": "acme/utils", "version": "1.2.0"}, {"git": "https://example.com/more.git", "revision": "ümlaut"}],
    ],
    ids=lambda declared: " ".join(str(value) for entry in declared for value in entry.values()),
)
def test_locked_packages_that_exist_are_installed(tmp_path: Path, declared: Entries) -> None:
    directory = project(tmp_path)
    declare(tmp_path, declared)
    install(tmp_path, *(f"package_{number}" for number in range(len(declared))))

    assert packages_are_installed(directory, _CORE)


def test_packages_of_dependencies_yml_are_included(tmp_path: Path) -> None:
    directory = project(tmp_path)
    declare(tmp_path, [UTILS], file="dependencies.yml")
    install(tmp_path, "package_0")
    assert packages_are_installed(directory, _CORE)

    write_yaml(tmp_path / "dependencies.yml", {"packages": [UTILS, {"package": "acme/more", "version": "1"}]})
    assert not packages_are_installed(directory, _CORE)


@pytest.mark.parametrize("content", [None, [], {"projects": [{"name": "upstream"}]}, {"packages": None}, "text"])
def test_project_without_packages_needs_no_installation(tmp_path: Path, content: object) -> None:
    directory = project(tmp_path)
    write_yaml(tmp_path / "dependencies.yml", content)

    assert packages_are_installed(directory, _CORE)


def test_another_version_in_packages_yml_is_not_installed(tmp_path: Path) -> None:
    directory = project(tmp_path)
    declare(tmp_path, [UTILS])
    install(tmp_path, "package_0")

    write_yaml(tmp_path / "packages.yml", {"packages": [{**UTILS, "version": "1.3.0"}]})

    assert not packages_are_installed(directory, _CORE)


def test_another_version_in_the_lock_is_not_installed(tmp_path: Path) -> None:
    directory = project(tmp_path)
    install(tmp_path, "package_0", version="1.1.0")
    os.utime(tmp_path / "dbt_packages", (LONG_AGO, LONG_AGO))

    declare(tmp_path, [UTILS])

    assert not packages_are_installed(directory, _CORE)


def test_package_without_its_own_version_is_installed_when_it_came_after_the_lock(tmp_path: Path) -> None:
    directory = project(tmp_path)
    declare(tmp_path, [UTILS])

    install(tmp_path, "package_0", version="0.1.0")

    assert packages_are_installed(directory, _CORE)


@pytest.mark.parametrize("missing", ["package-lock.yml", "dbt_packages/package_1/dbt_project.yml"])
def test_missing_part_means_not_installed(tmp_path: Path, missing: str) -> None:
    directory = project(tmp_path)
    declare(tmp_path, [UTILS, {"package": "acme/more", "version": "1"}])
    install(tmp_path, "package_0", "package_1")

    (tmp_path / missing).unlink()

    assert not packages_are_installed(directory, _CORE)


def test_variable_of_the_environment_counts_with_its_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = project(tmp_path)
    declared = [{"package": "acme/utils", "version": "{{ env_var('UTILS_VERSION') }}"}]
    declare(tmp_path, declared, rendered=[UTILS])
    install(tmp_path, "package_0")

    monkeypatch.setenv("UTILS_VERSION", "1.2.0")
    assert packages_are_installed(directory, _CORE)

    monkeypatch.setenv("UTILS_VERSION", "1.3.0")
    assert not packages_are_installed(directory, _CORE)


def test_template_that_only_dbt_renders_is_decided_by_modification_times(tmp_path: Path) -> None:
    directory = project(tmp_path)
    declare(tmp_path, [{"package": "acme/utils", "version": "{{ var('version') }}"}], rendered=[UTILS])
    install(tmp_path, "package_0")
    assert packages_are_installed(directory, _CORE)

    os.utime(tmp_path / "dbt_packages", (LONG_AGO, LONG_AGO))
    assert not packages_are_installed(directory, _CORE)


def test_lock_of_dbt_v2_whose_hash_only_dbt_v2_computes_is_decided_by_modification_times(tmp_path: Path) -> None:
    directory = project(tmp_path)
    declare(tmp_path, [UTILS])
    install(tmp_path, "package_0")
    lock = {"packages": [{**UTILS, "name": "package_0"}], "sha1_hash": "of dbt v2"}
    write_yaml(tmp_path / "package-lock.yml", lock)

    assert packages_are_installed(directory, _V2)
    assert not packages_are_installed(directory, _CORE)

    os.utime(tmp_path / "dbt_packages", (LONG_AGO, LONG_AGO))
    assert not packages_are_installed(directory, _V2)


@pytest.mark.parametrize("added", [{"package": "acme/more", "version": "1"}, {"local": "acme/utils"}])
def test_package_that_the_lock_of_dbt_v2_does_not_name_is_not_installed(tmp_path: Path, added: dict[str, Any]) -> None:
    directory = project(tmp_path)
    install(tmp_path, "package_0")
    write_yaml(tmp_path / "package-lock.yml", {"packages": [{**UTILS, "name": "package_0"}], "sha1_hash": "of dbt v2"})

    write_yaml(tmp_path / "packages.yml", {"packages": [UTILS, added]})

    assert not packages_are_installed(directory, _V2)


@pytest.mark.parametrize("lock", ["", "packages: 7", "packages: [7]", "- a", "packages: [", "packages: [{name: [1]}]"])
def test_lock_of_any_shape_means_not_installed(tmp_path: Path, lock: str) -> None:
    directory = project(tmp_path)
    write_yaml(tmp_path / "packages.yml", {"packages": [UTILS]})
    install(tmp_path, "package_0")

    (tmp_path / "package-lock.yml").write_text(lock, encoding="utf-8")

    assert not packages_are_installed(directory, _CORE)


@pytest.mark.parametrize("link", [True, False], ids=["link", "copy"])
def test_change_in_a_local_package_is_noticed(tmp_path: Path, *, link: bool) -> None:
    directory = project(tmp_path / "shop")
    declare(tmp_path / "shop", [{"local": "../shared"}])
    write_yaml(tmp_path / "shared" / "dbt_project.yml", {"name": "package_0", "model-paths": ["marts"]})
    model = tmp_path / "shared" / "marts" / "people.sql"
    model.parent.mkdir()
    model.touch()
    (tmp_path / "shop" / "dbt_packages").mkdir()
    if link:
        (tmp_path / "shop" / "dbt_packages" / "package_0").symlink_to(tmp_path / "shared")
    else:
        install(tmp_path / "shop", "package_0")
    assert packages_are_installed(directory, _CORE)
    for path in [tmp_path, *tmp_path.rglob("*")]:
        os.utime(path, (LONG_AGO, LONG_AGO))
    assert newest_change(package_source_paths(directory)) == LONG_AGO

    os.utime(model)

    assert newest_change(package_source_paths(directory)) > LONG_AGO
    assert packages_are_installed(directory, _CORE) is link


def test_files_that_a_local_package_generates_are_not_a_change(tmp_path: Path) -> None:
    # Integration tests inside a package declare the package. Their files are not a change of the package.
    directory = project(tmp_path / "shared" / "integration_tests")
    write_yaml(tmp_path / "shared" / "dbt_project.yml", {"name": "shared"})
    declare(tmp_path / "shared" / "integration_tests", [{"local": "../"}])
    for path in [tmp_path, *tmp_path.rglob("*")]:
        os.utime(path, (LONG_AGO, LONG_AGO))

    write_yaml(tmp_path / "shared" / "integration_tests" / "target" / "manifest.json", {})

    assert newest_change(package_source_paths(directory)) == LONG_AGO
