"""The demo: a complete copy of the sample product, without generated files, which never overwrites."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from conftest import REPOSITORY, SAMPLE
from floe_orchestrator_dagster import demo
from floe_orchestrator_dagster.demo import sample_path, write_demo
from floe_orchestrator_dagster.errors import ProjectError


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
