"""floe's own compiler takes the plugin and its configuration as they are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from files import write_files
from floe_orchestrator_dagster.config import read_config
from integration.conftest import FILES
from processes import floe_compile

if TYPE_CHECKING:
    from pathlib import Path

_HEADERS = [
    {"name": "Authorization", "variable": "DAGSTER_AUTHORIZATION"},
    {"name": "X-Api-Token", "variable": "DAGSTER_API_TOKEN"},
]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Compile a project whose webserver wants a login; gives its directory and what the compiler logged."""
    project = write_files(tmp_path_factory.mktemp("compiled"), FILES)
    manifest = project / "manifest.yaml"
    configured = f"config: {{webserver_headers: {json.dumps(_HEADERS)}, "
    text = manifest.read_text(encoding="utf-8").replace("type: dagster, config: {", f"type: dagster, {configured}")
    manifest.write_text(text, encoding="utf-8")
    said = floe_compile(project)
    return project, [json.loads(line) for line in said.splitlines() if line.startswith("{")]


def test_compiler_audits_the_plugin_and_has_nothing_to_say(compiled: tuple[Path, list[dict[str, Any]]]) -> None:
    _, logged = compiled

    audited = [event for event in logged if event.get("stage") == "ENFORCE"]
    assert [event["event"] for event in audited] == ["compilation_stage_start", "compilation_stage_complete"]
    assert [event for event in logged if event["event"] == "uninstrumented_plugin" and "dagster" in str(event)] == []
    assert [event for event in logged if event["level"] not in ("info", "debug") and "dagster" in str(event)] == []


def test_headers_survive_the_compilers_search_for_secrets(compiled: tuple[Path, list[dict[str, Any]]]) -> None:
    project, _ = compiled
    content = json.loads((project / "target" / "compiled_artifacts.json").read_text(encoding="utf-8"))

    config = read_config(content["plugins"]["orchestrator"]["config"], "compiled")

    assert [header.model_dump() for header in config.webserver_headers] == _HEADERS
