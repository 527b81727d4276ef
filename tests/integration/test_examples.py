"""Every example that a help text, the README or a page of the docs shows of ``floe-dagster`` is run here."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click
import dagster as dg
import pytest
import yaml
from click.testing import CliRunner

import lineage_backend
from command import invoke
from conftest import REPOSITORY
from files import write_files
from floe_orchestrator_dagster.cli import main
from hostile import certificate, serving, serving_bytes
from processes import clean_environment
from unit.samples import NAME, contract, model, profiles, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAGES = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SHELL = {"console", "bash", "sh", "shell"}
_OPERATOR = re.compile(r" (>|\||&&) ")
_PLACEHOLDER = re.compile(r"…|\.\.\.|\[|\b[A-Z_]{3,}\b")
# Commands of others, and where they are run: `make` and `dagster dev` by the gate and its end-to-end tests, `floe` by
# the tests of the compiler, `docker` by `make image-test`. `dg` is not installed; tests/unit/test_component.py calls
# its code. `kubectl`, and `helm` with the chart of the network, need what a test has not: charts are
# rendered by tests/unit/deploy. `jq` is not installed everywhere.
_RUN_ELSEWHERE = {
    "make",
    "pip",
    "export",
    "floe",
    "dagster",
    "docker",
    "git",
    "kubectl",
    "helm",
    "jq",
    "promtool",
    "mkdir",
    "dg",
    "dbt",
    "python",
}
# Published states: tests/integration/test_published_state.py and test_pull_requests.py run these commands.
_READS_STATE = re.compile(r"^floe-dagster (?:ci|state) |--state ")
_NEW_PROJECT = {
    "dbt_project.yml": "name: new\nprofile: new\n",
    "profiles.yml": "new: {target: dev, outputs: {dev: {type: duckdb, path: new.duckdb}}}\n",
    "models/orders.sql": "select 1 as id",
}
_DAGSTER = {"data": {"version": "1.13.27"}}


def _commands(group: click.Group = main, *path: str) -> Iterator[tuple[str, ...]]:
    """Walk all commands, those of groups too; each by its words."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, *path, name)
        else:
            yield (*path, name)


def _help_examples(command: tuple[str, ...]) -> list[str]:
    said = invoke(*command, "--help").stdout
    shown = re.search(r"^  Examples?:\n(.*?)^\s*$", said, re.MULTILINE | re.DOTALL)
    return _lines(shown[1]) if shown else []


def _lines(block: str) -> list[str]:
    """Take the commands out of a block: continued lines joined, prompts and comments left out."""
    lines = re.sub(r"\\\n\s*", "", block).splitlines()
    return [stripped for line in lines if (stripped := line.strip().removeprefix("$ ").partition("  # ")[0].strip())]


def _shell_lines(page: Path) -> list[str]:
    blocks = _FENCE.findall(page.read_text(encoding="utf-8"))
    written = [block for language, block in blocks if language in _SHELL]
    # A block with prompts is a session: what has none is an answer.
    return [line for block in written for line in _lines(_without_answers(block))]


def _without_answers(block: str) -> str:
    asked = re.findall(r"^\$ .*\n", block, re.MULTILINE)
    return "".join(asked) or block


def _inline_examples(page: Path) -> list[str]:
    """Find commands in the text; one without arguments is the name of a command, one with a placeholder its form."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    spans = [" ".join(span.split()) for span in re.findall(r"`(floe-dagster [^`]+)`", text)]
    names = {" ".join(("floe-dagster", *command)) for command in _commands()}
    groups = {name.rpartition(" ")[0] for name in names}
    return [span for span in spans if span not in names | groups and not _PLACEHOLDER.search(span)]


def _examples() -> list[str]:
    """Collect all examples, each once."""
    from_help = [line for command in _commands() for line in _help_examples(command)]
    from_pages = [line for page in _PAGES for line in (*_shell_lines(page), *_inline_examples(page))]
    examples = dict.fromkeys([*from_help, *from_pages])
    return [line for line in examples if line.startswith("floe-dagster ") and not _READS_STATE.search(line)]


def _same(line: str) -> str:
    """Bring examples that do the same to one form: `dbt_project/` is the product that they share."""
    # dbt takes seconds to parse, so that one `prepare` serves all of them.
    line = re.sub(r"(?<=^floe-dagster init)( --yes| --json)+$", "", line)
    return re.sub(r"(?<=^floe-dagster prepare).*", "", line.replace(" dbt_project/", " "))


def _directory_of(line: str, place: Path) -> Path:
    if line.startswith("floe-dagster init"):
        for name in ("floe.yaml", "manifest.yaml"):
            for written in place.glob(f"new/**/{name}"):
                written.unlink()
        return place / "new"
    return place / "dbt_project" if " compiled_artifacts.json" in line else place


def _run(line: str, place: Path) -> str:
    """Run a line in this process as a shell would, in the directory that it is meant for; returns what is wrong."""
    os.chdir(_directory_of(line, place))
    ours, operator, rest = _OPERATOR.split(line, maxsplit=1) if _OPERATOR.search(line) else (line, "", "")
    answer = invoke(*shlex.split(ours)[1:])
    if answer.exit_code != 0:
        return f"exit code {answer.exit_code}: {answer.stderr or answer.stdout}"
    if "--json" in ours:
        json.loads(answer.stdout)
    if operator == ">":
        Path(rest).write_text(answer.stdout, encoding="utf-8")
    elif operator and rest.split()[0] not in _RUN_ELSEWHERE:
        return f"nobody runs `{rest}`"
    if operator == "|" and not all(yaml.safe_load_all(answer.stdout)):
        return "nothing is passed on"
    return ""


@pytest.fixture
def place(prepared_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make everything that examples name: products, a webserver and a lineage backend, all of them on this machine."""
    outputs = dict.fromkeys(("dev", "production"), profiles()[NAME]["outputs"]["dev"])
    for file, name in (("a.json", "orders"), ("b.json", "returns")):
        profile = {name: {"target": "dev", "outputs": outputs}}
        content = contract(model("a"), name=name, config={"key_prefix": [name]}, dbt_profiles=profile)
        write_json(tmp_path / file, content)
        write_json(tmp_path / name / "compiled_artifacts.json", content)
    for directory in (tmp_path / "new" / name for name in (".", "orders", "returns", "shop")):
        write_files(directory, _NEW_PROJECT)
    (tmp_path / "deploy" / "production").mkdir(parents=True)
    for directory in (tmp_path, prepared_sample):
        for name in ("deployed.yaml", "mine.yaml"):
            write_json(directory / name, {"dagsterWebserver": {"replicaCount": 1}})
    artifacts = prepared_sample / "compiled_artifacts.json"
    content = json.loads(artifacts.read_text(encoding="utf-8"))
    content["observability"]["lineage"] = True
    write_json(artifacts, content)
    home = write_files(tmp_path / "home", {"dagster.yaml": "{}"})
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.add_run(dg.DagsterRun("retail_orders", run_id="3f0c9a1e-5f0e-4d53-9b5e-2f6ad1c9b1aa"))
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.chdir(tmp_path)  # and back to where it was, afterwards
    authority = certificate(tmp_path, "dagster.example.com")
    with ExitStack() as servers:
        answering = servers.enter_context(serving(json.dumps(_DAGSTER).encode()))
        distant = servers.enter_context(serving(json.dumps(_DAGSTER).encode(), tls=authority))
        connected = b"HTTP/1.1 200 Connected\r\n\r\n"
        way = servers.enter_context(serving_bytes(connected, tunnel_to=distant.address))
        settings = {
            "FLOE_ARTIFACTS_PATH": str(prepared_sample / "compiled_artifacts.json"),
            "FLOE_STATE_DIR": str(tmp_path / "state"),
            "DAGSTER_URL": answering.url,
            "HTTPS_PROXY": way.url,
            "SSL_CERT_FILE": str(authority),
            "OPENLINEAGE_URL": servers.enter_context(lineage_backend.serving()).url,
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        yield tmp_path


def test_every_example_works(place: Path) -> None:
    examples = _examples()
    assert len(examples) > 20

    wrong = {
        line: problem for line in {_same(line): line for line in examples}.values() if (problem := _run(line, place))
    }

    assert wrong == {}
    assert yaml.safe_load((place / "values.yaml").read_text(encoding="utf-8"))["dagsterWebserver"]
    assert json.loads((place / "manifest.schema.json").read_text(encoding="utf-8"))["$schema"]


def _block(page: str, heading: str, language: str) -> str:
    section = (REPOSITORY / "docs" / page).read_text(encoding="utf-8").partition(f"\n{heading}\n")[2]
    return next(str(block) for named, block in _FENCE.findall(section) if named == language)


def test_other_commands_of_dbt_work_with_the_documented_profile(prepared_sample: Path) -> None:
    commands = _block("how-to/runs.md", "## Other commands of dbt", "console")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    (prepared_sample / "warehouse").mkdir()  # a run has made it

    ended = subprocess.run(
        ["/bin/bash", "-euc", commands],
        cwd=prepared_sample,
        env=clean_environment(PATH=path, DBT_SEND_ANONYMOUS_USAGE_STATS="false"),
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout
    assert all((prepared_sample / "target" / name).is_file() for name in ("index.html", "catalog.json"))


def test_documented_job_runs_only_the_freshness_of_sources(
    prepared_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(prepared_sample / "compiled_artifacts.json"))
    module = _block("how-to/runs.md", "### Source freshness", "python")
    location = write_files(tmp_path, {"location.py": module}) / "location.py"

    job = runpy.run_path(str(location))["defs"].resolve_job_def("source_freshness")

    assert list(job.graph.node_dict) == ["retail_orders_source_freshness"]


def test_every_shell_line_is_run_here_or_elsewhere() -> None:
    lines = [line for page in _PAGES for line in _shell_lines(page)]
    commands = [line for line in lines if not re.match(r"[A-Z_]+=", line)]

    assert [line for line in commands if line.split()[0] not in {"floe-dagster", *_RUN_ELSEWHERE}] == []


@pytest.mark.parametrize("command", [*_commands()], ids=" ".join)
def test_help_of_every_command_shows_how_it_is_used_and_how_it_ends(command: tuple[str, ...]) -> None:
    examples = _help_examples(command)

    assert [line for line in examples if line.startswith(" ".join(("floe-dagster", *command)))]
    assert "\n  Exits with " in invoke(*command, "--help").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_of_every_shell_on_the_page_is_printed(shell: str) -> None:
    page = (REPOSITORY / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    assert f"_FLOE_DAGSTER_COMPLETE={shell}_source floe-dagster" in page
    # click writes this answer as bytes.
    script = (
        CliRunner().invoke(main, prog_name="floe-dagster", env={"_FLOE_DAGSTER_COMPLETE": f"{shell}_source"}).output
    )

    assert f"_FLOE_DAGSTER_COMPLETE={shell}_complete" in script
    assert "floe-dagster" in script
