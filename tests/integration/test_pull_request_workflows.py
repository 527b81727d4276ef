"""The workflow files in the documentation: their shell steps run in a clone of a bare repository."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from dbt_v2 import v2_executable
from files import write_files
from integration.pull_requests import publish
from processes import clean_environment, floe_compile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "pull-requests.md"
FILES = {
    ".gitignore": "target/\ncompiled_artifacts.json\ncomment.md\nlogs/\n",
    "dbt_project.yml": '{name: shop, profile: shop, version: "1.0"}',
    "models/orders.sql": "{{ config(materialized='table') }} select 1 as id, 10 as amount",
    "models/totals.sql": "{{ config(materialized='table') }} select sum(amount) as total from {{ ref('orders') }}",
    "floe.yaml": """
        apiVersion: floe.dev/v1
        kind: FloeSpec
        metadata: {name: shop, version: 1.0.0, owner: kitchen}
        platform: {manifest: manifest.yaml}
        transforms: [{name: orders}, {name: totals, dependsOn: [orders]}]
        """,
    "manifest.yaml": """
        apiVersion: floe.dev/v1
        kind: Manifest
        metadata: {name: kitchen, version: 1.0.0, owner: kitchen@example.com}
        plugins:
          compute: {type: duckdb, config: {path: "PRODUCTION"}}
          orchestrator: {type: dagster, config: {dbt: {engine: v2, executable: "EXECUTABLE"}}}
        """,
}
CHANGED = "{{ config(materialized='table') }} select sum(amount) as total, 1 as more from {{ ref('orders') }}"


def blocks() -> dict[str, Any]:
    """Read the YAML blocks of the page that name their file, by this name."""
    found = re.findall(r"```yaml\n# (\S+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return {name: yaml.safe_load(text) for name, text in found}


def github_steps(name: str = "build") -> list[str]:
    """Return the shell steps of a job, without the installation."""
    job = blocks()[".github/workflows/pull-request.yml"]["jobs"][name]
    return [step["run"] for step in job["steps"] if "run" in step and step["name"] != "install"]


def gitlab_steps() -> list[str]:
    """Return the scripts of the job, without the installation."""
    job = blocks()[".gitlab-ci.yml"]["pull-request"]
    return [*job["script"], *job["after_script"]]


class Repository:
    """A bare repository with a product whose production is built, and a branch."""

    def __init__(self, directory: Path) -> None:
        """Create it, and build production."""
        self.directory = directory
        self.production = directory / "warehouse.duckdb"
        replaced = {"PRODUCTION": str(self.production), "EXECUTABLE": v2_executable()}
        manifest = FILES["manifest.yaml"]
        for word, value in replaced.items():
            manifest = manifest.replace(word, value)
        work = write_files(directory / "work", {**FILES, "manifest.yaml": manifest})
        floe_compile(work, "--output", "compiled_artifacts.json")
        publish(work / "compiled_artifacts.json", str(directory / "state"))
        self._git(directory, "init", "-q", "--bare", "hub.git")
        self._git(work, "init", "-q", "-b", "change")
        (work / "models" / "totals.sql").write_text(CHANGED)
        self._git(work, "add", "-A")
        self._git(work, "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-qm", "Change totals")
        self._git(work, "push", "-q", str(directory / "hub.git"), "change")

    def clone(self, name: str) -> Path:
        """Return a clone of the branch."""
        self._git(self.directory, "clone", "-q", "-b", "change", "hub.git", name)
        return self.directory / name

    @staticmethod
    def _git(directory: Path, *arguments: str) -> None:
        subprocess.run(["/usr/bin/git", *arguments], cwd=directory, check=True, env=clean_environment())


def _shell(step: str, clone: Path, **variables: str) -> None:
    environment = clean_environment(**variables)
    subprocess.run(["/bin/bash", "-e", "-c", step], cwd=clone, env=environment, check=True, timeout=300)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_DISABLE_TELEMETRY", "true")
        yield Repository(tmp_path_factory.mktemp("repository"))


@pytest.mark.parametrize(
    ("steps", "variables", "schema"),
    [
        (github_steps, {"NUMBER": "7"}, "pr_7"),
        (gitlab_steps, {"CI_MERGE_REQUEST_IID": "8"}, "mr_8"),
    ],
    ids=["github", "gitlab"],
)
def test_steps_of_a_workflow_build_the_change(
    repository: Repository, steps: Callable[[], list[str]], variables: dict[str, str], schema: str, tmp_path: Path
) -> None:
    clone = repository.clone(schema)
    tools = tmp_path / "bin"
    write_files(tools, {"gh": f'#!/bin/sh\necho "$@" > {tmp_path}/gh.txt\n'})
    (tools / "gh").chmod(0o755)
    path = f"{tools}:{Path(sys.executable).parent}:/usr/bin:/bin"
    given = {"STATE_URL": str(repository.directory / "state"), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    before = repository.production.read_bytes()
    for step in steps():
        _shell(step, clone, **{**given, **variables, "PATH": path})

    comment = (clone / "comment.md").read_text()
    assert comment.startswith("### ✅ shop: 1 changed and 0 affected table, 0 tests\n")
    assert "| ✅ | <code>totals</code> | " in comment
    assert "| success | 1 (same) | <code>+ more INTEGER</code> |" in comment
    assert not (clone / "floe-ci").exists()
    assert repository.production.read_bytes() == before
    if schema == "pr_7":
        assert (tmp_path / "gh.txt").read_text().startswith("pr comment 7 --body-file comment.md")
        assert (tmp_path / "summary.md").read_text() == comment


def test_the_job_of_a_closed_pull_request_removes_what_a_build_left(repository: Repository) -> None:
    clone = repository.clone("pr_9")
    variables = {"NUMBER": "9", "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    [compiled, *_] = github_steps()
    _shell(compiled, clone, **variables)
    state = repository.directory / "state"
    _shell(f"floe-dagster ci --keep --state {state} --schema pr_9 compiled_artifacts.json", clone, **variables)
    assert (clone / "floe-ci" / "pr_9" / "pr_9.duckdb").is_file()

    for step in github_steps("remove"):
        _shell(step, clone, **variables)

    assert not (clone / "floe-ci").exists()


def test_each_documented_workflow_file_is_tested() -> None:
    assert {*blocks()} == {".github/workflows/pull-request.yml", ".gitlab-ci.yml"}
