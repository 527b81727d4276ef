"""The reference pages: complete lists of fields and keys, and working examples."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Any, get_args

import pytest
import yaml
from dbt.artifacts.resources.types import NodeType
from floe_core.schemas.compiled_artifacts import CompiledArtifacts
from floe_core.schemas.floe_spec import ScheduleSpec
from floe_core.schemas.quality_score import QualityCheck
from pydantic import BaseModel

import floe_orchestrator_dagster
import matrix
from command import invoke
from conftest import REPOSITORY
from floe_orchestrator_dagster.cli import main
from floe_orchestrator_dagster.config import DagsterConfig, read_config
from floe_orchestrator_dagster.connection import Connection
from floe_orchestrator_dagster.connection.webserver import CodeLocation, Daemon, Webserver
from floe_orchestrator_dagster.deploy.settings import parse_log_store
from floe_orchestrator_dagster.inspect.plan import (
    AssetPlan,
    AutomationPlan,
    JobPlan,
    Plan,
    PoolPlan,
    RunPlan,
    SchedulePlan,
    SensorPlan,
    StepPlan,
)
from floe_orchestrator_dagster.pull_request.report import BuildReport, NodeReport
from floe_orchestrator_dagster.pull_request.warehouse import TableStats
from floe_orchestrator_dagster.telemetry import TRACER_NAME
from unit import samples

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DOCS = REPOSITORY / "docs"
_PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted(_DOCS.rglob("*.md"))]


def _page(name: str) -> str:
    return (_DOCS / name).read_text(encoding="utf-8")


def _code(text: str) -> set[str]:
    """Find everything that a page sets in code."""
    return set(re.findall(r"`([^`\n]+)`", text))


def _models(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


def _contract_fields(model: type[BaseModel], prefix: str = "", depth: int = 2) -> Iterator[str]:
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        yield path
        repeated = "[]" if "list[" in str(field.annotation) else ""
        for inner in _models(field.annotation) if depth > 1 else []:
            yield from _contract_fields(inner, f"{path}{repeated}.", depth - 1)


def test_every_field_of_the_contract_has_its_place_on_the_page() -> None:
    named = _code(_page("reference/from-floe-to-dagster.md"))

    assert sorted(set(_contract_fields(CompiledArtifacts)) - named) == []


def test_every_resource_type_of_dbt_has_its_place_on_the_page() -> None:
    _, found, rest = _page("reference/from-floe-to-dagster.md").partition("## dbt, type by type\n")

    assert found
    assert {str(kind) for kind in NodeType} - _code(rest.partition("\n## ")[0]) == set()


def test_models_and_their_quality_checks_are_named_field_by_field() -> None:
    page = _page("reference/from-floe-to-dagster.md")
    transforms = CompiledArtifacts.model_fields["transforms"].annotation
    (model,) = _models(_models(transforms)[0].model_fields["models"].annotation)

    assert {f"transforms.models[].{name}" for name in model.model_fields} - _code(page) == set()
    section = page.partition("### Quality checks")[2].partition("\n### ")[0]
    assert set(QualityCheck.model_fields) - _code(section) == set()


def test_page_names_no_field_that_the_contract_does_not_have() -> None:
    page = _page("reference/from-floe-to-dagster.md").partition("## The contract")[2].partition("\n## ")[0]
    known = set(_contract_fields(CompiledArtifacts, depth=4))
    paths = {name for name in _code(page) if re.fullmatch(r"[a-z_]+(\[\])?\.[\w.\[\]]+", name)}

    assert sorted(path for path in paths - known if not path.endswith((".json", ".yaml", ".md", "/…", "[]"))) == []


def test_settings_read_from_floe_yaml_are_named() -> None:
    section = _page("reference/from-floe-to-dagster.md").partition("## `floe.yaml`")[2].partition("\n## ")[0]
    metadata = {f"metadata.{name}" for name in ("owner", "description", "labels")}

    assert metadata | {f"schedule.{name}" for name in ScheduleSpec.model_fields} <= _code(section)


@pytest.mark.parametrize(
    ("page", "heading"),
    [
        ("reference/from-floe-to-dagster.md", "## `plugins.orchestrator.config`"),
        ("reference/configuration.md", "## Keys"),
    ],
)
def test_every_key_of_the_configuration_is_named(page: str, heading: str) -> None:
    section = _page(page).partition(heading)[2].partition("\n### ")[0]

    assert set(DagsterConfig.model_fields) - _code(section) == set()


def _sections() -> dict[str, set[str]]:
    """Collect the keys of each nested section of the configuration, under the heading it has on the page."""
    sections: dict[str, set[str]] = {}
    for name, field in DagsterConfig.model_fields.items():
        for model in _models(field.annotation):
            heading = f"{name}[]" if "list[" in str(field.annotation) else name
            sections.setdefault(heading, set()).update(model.model_fields)
    return sections


@pytest.mark.parametrize(("heading", "keys"), _sections().items())
def test_every_key_of_a_nested_section_is_named(heading: str, keys: set[str]) -> None:
    _, found, rest = _page("reference/configuration.md").partition(f"### `{heading}`\n")

    assert found, f"no section {heading}"
    assert keys - _code(rest.partition("\n### ")[0]) == set()


def _example() -> dict[str, Any]:
    (block,) = re.findall(r"^```yaml\n(.*?)^```", _page("reference/configuration.md"), re.MULTILINE | re.DOTALL)
    config: dict[str, Any] = yaml.safe_load(block)["plugins"]["orchestrator"]["config"]
    return config


def test_example_of_the_configuration_is_read_and_has_every_key() -> None:
    example = _example()

    config = read_config(example, "docs/reference/configuration.md")

    assert set(example) == set(DagsterConfig.model_fields)
    assert config.model_fields_set == set(DagsterConfig.model_fields)


def test_example_has_every_key_of_every_nested_section() -> None:
    example = _example()

    sections = _sections()
    named = {key for compute in example["computes"].values() for key in compute}
    assert sections.pop("computes") < named  # beside the keys of a connection
    for heading, keys in sections.items():
        section = example[heading.removesuffix("[]")]
        used = {key for entry in (section if isinstance(section, list) else [section]) for key in entry}
        # In comments: static partitions, because a job has one kind, the other form of `steps`, and what the machine or
        # the sample lacks: a dbt executable, a YAML selector, and a state.
        absent = {"executable", "selector", "defer", "state", "favor_state"}
        assert used == keys - absent - {"values", "by", "max"}, heading


def test_every_command_is_named() -> None:
    page = _page("reference/command-line.md")

    assert [name for name in main.commands if f"`floe-dagster {name}" not in page] == []


@pytest.mark.parametrize(
    "part", [Plan, AssetPlan, JobPlan, SchedulePlan, SensorPlan, AutomationPlan, PoolPlan, RunPlan, StepPlan]
)
def test_every_key_of_the_plan_is_named(part: type) -> None:
    section = _page("reference/command-line.md").partition("## The plan as JSON")[2].partition("\n## ")[0]

    assert {field.name for field in fields(part)} - _code(section) == set()


@pytest.mark.parametrize("part", [Connection, Webserver, CodeLocation, Daemon])
def test_every_key_of_the_connection_is_named(part: type) -> None:
    section = _page("reference/command-line.md").partition("## The connection as JSON")[2].partition("\n## ")[0]

    # The webserver's own keys are printed in its place.
    assert {field.name for field in fields(part)} - _code(section) - {"webserver"} == set()


@pytest.mark.parametrize("part", [BuildReport, NodeReport, TableStats])
def test_every_key_of_a_pull_request_is_named(part: type) -> None:
    section = _page("reference/command-line.md").partition("## A pull request as JSON")[2].partition("\n## ")[0]

    assert {field.name for field in fields(part)} - _code(section) == set()


def _parity_rows() -> list[list[str]]:
    """Return the cells of the table that compares dbt-core with dbt v2."""
    table = _page("reference/compatibility.md").partition("| behaviour |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]


@pytest.mark.parametrize("row", _parity_rows(), ids=lambda row: row[0])
def test_every_behaviour_of_both_engines_names_tests_that_exist(row: list[str]) -> None:
    assert len(row) == 4
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", row[3])
    assert named
    for file, name in named:
        assert f"\ndef {name}(" in (REPOSITORY / "tests" / file).read_text(encoding="utf-8")


def test_the_table_of_both_engines_has_rows() -> None:
    assert len(_parity_rows()) > 20


def test_versions_of_the_gate_are_those_that_it_installs() -> None:
    page = _page("reference/compatibility.md").partition("## Tested versions")[2]
    locked = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    scripts = (REPOSITORY / "scripts" / "setup-v2").read_text(encoding="utf-8")

    [core] = re.findall(r"^dbt-core==(\S+)", locked, re.MULTILINE)
    [dagster] = re.findall(r"^dagster==(\d+\.\d+)", locked, re.MULTILINE)
    [v2] = re.findall(r"^dbt=(\S+)", scripts, re.MULTILINE)
    assert f"| `make test` | all | {dagster}, locked | dbt-core {core}; dbt v2 {v2.replace('a', '-alpha.')}," in page
    gate = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8").partition("set -euo pipefail")[2]
    listed = re.findall(r"^\| `(make [\w-]+)` \|", page, re.MULTILINE)
    assert set(listed) == set(re.findall(r"^make test[\w-]*", gate, re.MULTILINE))


def _anchors(page: Path) -> set[str]:
    """Compute the anchors of a page: of its headings, as GitHub makes them, and those written as HTML."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    written = re.findall(r'<a id="([^"]+)"', text)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings} | set(written)


def _dead_links(page: Path) -> list[str]:
    dead = []
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and anchor not in _anchors(file)):
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_links_lead_to_a_page_and_a_heading(page: Path) -> None:
    assert _dead_links(page) == []


def test_index_lists_every_page() -> None:
    linked = set(re.findall(r"\]\(([\w/-]+\.md)\)", _page("index.md")))

    assert {path.relative_to(_DOCS).as_posix() for path in _DOCS.rglob("*.md")} - linked == {"index.md"}


def _built_site(directory: Path, source: Path) -> subprocess.CompletedProcess[str]:
    """Build the site with the documentation of ``source``; strict, as `make docs` does."""
    config = directory / "mkdocs.yml"
    configured = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    paths = {
        "docs_dir: docs": f"docs_dir: {source}",
        "scripts/": f"{REPOSITORY}/scripts/",
        "[src]": f"[{REPOSITORY}/src]",
    }
    for relative, absolute in paths.items():
        configured = configured.replace(relative, absolute)
    config.write_text(configured, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--config-file", config, "--site-dir", directory / "site"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )


def test_site_is_built_with_the_help_of_every_command_and_no_dead_link(tmp_path: Path) -> None:
    result = _built_site(tmp_path, _DOCS)

    assert result.returncode == 0, result.stderr
    page = (tmp_path / "site" / "reference" / "command-line.html").read_text(encoding="utf-8")
    assert [name for name in main.commands if f'id="floe-dagster-{name}' not in page] == []
    assert "Usage: floe-dagster init [OPTIONS] [DIRECTORY]" in page
    api = (tmp_path / "site" / "reference" / "python.html").read_text(encoding="utf-8")
    assert [name for name in floe_orchestrator_dagster.__all__ if f">{name}</" not in api] == [
        "DagsterConfig",  # the page on the configuration has it
        "__version__",
    ]
    assert ":class:" not in api


def test_dead_heading_fails_the_site(tmp_path: Path) -> None:
    shutil.copytree(_DOCS, tmp_path / "docs")
    with (tmp_path / "docs" / "index.md").open("a", encoding="utf-8") as page:
        page.write("\n[gone](reference/limits.md#gone)\n")

    result = _built_site(tmp_path, tmp_path / "docs")

    assert result.returncode == 1
    assert "does not contain an anchor '#gone'" in result.stderr


def _helm_commands() -> list[list[str]]:
    """Find the commands of the page on Kubernetes that print values or ConfigMaps."""
    blocks = re.findall(r"^```console\n(.*?)^```", _page("how-to/deploy.md"), re.MULTILINE | re.DOTALL)
    lines = [line.partition(" | ")[0] for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("floe-dagster helm")]


def test_documented_image_has_the_package_that_the_documented_values_need() -> None:
    page = _page("how-to/deploy.md")
    [location] = {argument for command in _helm_commands() for argument in command if argument.startswith("s3://")}

    assert f"--build-arg EXTRA_PACKAGES={parse_log_store(location).package} " in page


def test_alerts_and_dashboard_use_the_metrics_that_are_sent() -> None:
    sent = TRACER_NAME.replace(".", "_")
    named = {f"{sent}_nodes_total", *(f"{sent}_node_duration_seconds_{part}" for part in ("bucket", "sum"))}
    rules = yaml.safe_load((_DOCS / "monitoring" / "alerts.yaml").read_text(encoding="utf-8"))
    dashboard = json.loads((_DOCS / "monitoring" / "dashboard.json").read_text(encoding="utf-8"))

    queries = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    queries += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]

    assert {name for query in queries for name in re.findall(r"floe_orchestrator\w+", query)} == named


def test_alerts_fire_at_the_documented_times() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        reason = "no promtool on the PATH; install it: apt-get install prometheus"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)

    cases = _DOCS / "monitoring" / "alerts-test.yaml"
    result = subprocess.run(
        [promtool, "test", "rules", cases], capture_output=True, text=True, check=False, timeout=300
    )

    assert result.returncode == 0, result.stdout + result.stderr


def test_documented_charts_have_the_version_of_the_locked_dagster() -> None:
    lock = (REPOSITORY / "requirements-image.lock").read_text(encoding="utf-8")
    [locked] = re.findall(r"^dagster==(\S+)", lock, re.MULTILINE)
    pages = _page("how-to/deploy.md") + _page("how-to/day-two.md")

    named = re.findall(
        r"dagster/dagster --version (\S+)|targetRevision: (\d\S+)|chart: dagster, version: ([\d.]+)", pages
    )

    assert {next(filter(None, found)) for found in named} == {locked}


def test_commands_that_print_values_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    profiles = samples.profiles()
    outputs = profiles[samples.NAME]["outputs"]
    outputs["production"] = outputs["dev"]
    for directory, name in (("dbt_project", "retail-orders"), ("orders", "orders"), ("returns", "returns")):
        content = samples.contract(samples.model("a"), name=name, dbt_profiles=profiles)
        samples.write_json(tmp_path / directory / "compiled_artifacts.json", content)

    for name in ("deployed.yaml", "mine.yaml"):  # of `helm get values`, and the user's own
        (tmp_path / name).write_text("{}\n", encoding="utf-8")

    results = [invoke(*command) for command in _helm_commands()]

    assert [result.exit_code for result in results] == [0] * 6


def test_table_of_versions_is_made_from_runs() -> None:
    """``make test-matrix`` writes both; neither is edited by hand."""
    made = _page("reference/compatibility.md").partition(matrix.BEGIN)[2].partition(matrix.END)[0]

    assert made.strip() == matrix.table(matrix.kept_results())
