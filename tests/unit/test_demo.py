"""The demo: a complete copy of the sample product, without generated files, which never overwrites."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from conftest import REPOSITORY, SAMPLE
from floe_orchestrator_dagster import demo
from floe_orchestrator_dagster.demo import sample_path, write_demo
from floe_orchestrator_dagster.errors import ProjectError
from floe_orchestrator_dagster.product.engines import DbtEngine


def _files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def _tracked() -> list[str]:
    """Files of the sample that git knows."""
    command = ["git", "ls-files", "--full-name", "."]
    listed = subprocess.run(command, cwd=SAMPLE, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted(line.removeprefix("dbt_project/") for line in listed)


@pytest.mark.parametrize("make", [False, True])
def test_demo_is_the_sample_in_git(tmp_path: Path, make: bool) -> None:  # noqa: FBT001  # parametrized
    directory = tmp_path / "shops" / "retail"
    if make:
        directory.mkdir(parents=True)

    artifacts = write_demo(directory)

    assert artifacts == directory / "compiled_artifacts.json"
    assert _files(directory) == _tracked()
    assert all((directory / name).read_bytes() == (SAMPLE / name).read_bytes() for name in _files(directory))


def test_dbt_core_before_arguments_of_tests_gets_the_form_that_it_reads(tmp_path: Path) -> None:
    newest, older = tmp_path / "newest", tmp_path / "older"
    write_demo(newest, DbtEngine("core", "python", "1.10.5"))
    write_demo(older, DbtEngine("core", "python", "1.10.4"))

    changed = [name for name in _files(newest) if (newest / name).read_bytes() != (older / name).read_bytes()]
    assert changed == [
        "dbt_project.yml",
        "models/intermediate/_intermediate.yml",
        "models/marts/_marts.yml",
        "models/staging/_sources.yml",
        "models/staging/_staging.yml",
    ]
    flags = yaml.safe_load((older / "dbt_project.yml").read_text())["flags"]
    assert flags["require_generic_test_arguments_property"] is False
    (source,) = yaml.safe_load((older / "models" / "staging" / "_sources.yml").read_text())["sources"]
    assert source.pop("tables")
    assert source == {
        "name": "shop",
        "description": source["description"],
        "meta": {"external_location": "data/{name}.csv"},
        "loaded_at_field": "loaded_at",
        "freshness": {"warn_after": {"count": 36, "period": "hour"}},
    }
    assert _tests_with_settings(newest) == _tests_with_settings(older)
    assert len(_tests_with_settings(older)) == 22
    assert "arguments:" not in "".join((older / name).read_text() for name in changed)


def _tests_with_settings(directory: Path) -> list[tuple[str, dict[str, object]]]:
    """Return the generic tests with arguments or a config, in either form, with the arguments beside the config."""
    found = []
    for file in sorted(directory.rglob("_*.yml")):
        content = yaml.safe_load(file.read_text())
        for node in [*content.get("models", []), *content.get("seeds", []), *content.get("snapshots", [])]:
            for column in node["columns"]:
                for test in column.get("data_tests", []):
                    if isinstance(test, dict):
                        ((name, settings),) = test.items()
                        found.append(
                            (f"{node['name']}.{column['name']}.{name}", settings | settings.pop("arguments", {}))
                        )
    return found


def test_generated_files_of_a_checkout_are_not_copied(
    tmp_path: Path, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _files(sample)
    for name in ("target/manifest.json", "warehouse/x.duckdb", "dbt_packages/a/b.sql", "logs/dbt.log", ".user.yml"):
        (sample / name).parent.mkdir(exist_ok=True, parents=True)
        (sample / name).touch()
    monkeypatch.setattr(demo, "_CHECKOUT", sample)

    write_demo(tmp_path / "demo")

    assert _files(tmp_path / "demo") == before


def test_files_are_writable_even_if_the_package_is_read_only(
    tmp_path: Path, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in sample.rglob("*.yml"):
        path.chmod(0o444)
    monkeypatch.setattr(demo, "_CHECKOUT", sample)

    write_demo(tmp_path / "demo")

    assert (tmp_path / "demo" / "dbt_project.yml").stat().st_mode & 0o200


def test_relative_directory_is_shown_as_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert write_demo(Path("shop")) == tmp_path / "shop" / "compiled_artifacts.json"


@pytest.mark.parametrize("taken", ["file", "link", "directory"])
def test_existing_files_are_not_changed(tmp_path: Path, taken: str) -> None:
    place = tmp_path / "shop"
    if taken == "file":
        place.write_text("mine", encoding="utf-8")
    elif taken == "link":
        place.symlink_to(tmp_path / "nowhere")
    else:
        place.mkdir()
        (place / ".hidden").touch()
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(ProjectError) as raised:
        write_demo(place)

    what = "is not empty" if taken == "directory" else "is a file"
    assert str(raised.value) == (
        f"{place}: 1 problem\n  {what}\n    fix: Choose a new or empty directory. No file was written."
    )
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("place", ["/proc/shop", "file/shop", "a" * 300])
def test_directory_that_cannot_be_written_is_reported(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ProjectError) as raised:
        write_demo(tmp_path / place)

    (problem,) = raised.value.problems
    assert problem.what.startswith("cannot be written (")
    assert problem.fix == "Choose a directory that you can write."


def test_installation_without_the_sample_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_CHECKOUT", tmp_path)

    with pytest.raises(ProjectError, match="this installation has no sample product"):
        sample_path()


def test_editable_install_uses_the_repositorys_sample() -> None:
    assert sample_path() == REPOSITORY / "dbt_project"
