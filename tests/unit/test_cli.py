"""The command line: its output, and exit status 1 for a product's errors and 2 for wrong usage."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from command import Screen, invoke
from floe_orchestrator_dagster import __version__
from floe_orchestrator_dagster.cli import main
from floe_orchestrator_dagster.commands import demo as demo_command
from floe_orchestrator_dagster.commands.answers import echo_listed
from floe_orchestrator_dagster.config import config_schema, manifest_schema
from floe_orchestrator_dagster.upstream import patches
from hostile import free_port, serving
from processes import clean_environment, floe_dagster
from unit.samples import Json, contract, manifest, model, node, write_json, write_project

if TYPE_CHECKING:
    from pathlib import Path

_NO_ARTIFACTS = """\
error: FLOE_ARTIFACTS_PATH: 1 problem
  the environment variable is not set
    fix: Pass the path of the product's compiled_artifacts.json, or set the variable to it.
    No product yet? `floe-dagster init` makes one of a dbt project, `floe-dagster demo orders` a sample.
"""


def test_version_is_printed() -> None:
    assert floe_dagster("--version").stdout == f"floe-dagster, version {__version__}\n"


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_lists_the_commands(option: str) -> None:
    said = invoke(option).stdout

    assert said.startswith("Usage: floe-dagster [OPTIONS] COMMAND [ARGS]...\n\n  Run floe data products in Dagster.\n")
    assert re.findall(r"^  ([a-z-]+)  ", said.partition("Commands:")[2], re.MULTILINE) == [
        "check",
        "ci",
        "config-schema",
        "demo",
        "explain",
        "helm",
        "init",
        "lineage",
        "plan",
        "prepare",
        "state",
        "timeline",
        "validate",
        "workspace",
    ]
    assert "_FLOE_DAGSTER_COMPLETE=bash_source floe-dagster" in " ".join(said.split())


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("check", "[OPTIONS] [URL]"),
        ("config-schema", "[OPTIONS]"),
        ("demo", "[OPTIONS] DIRECTORY"),
        ("init", "[OPTIONS] [DIRECTORY]"),
        ("plan", "[OPTIONS] [ARTIFACTS]"),
        ("prepare", "[OPTIONS] [ARTIFACTS]"),
        ("validate", "[OPTIONS] [ARTIFACTS]"),
        ("workspace", "[OPTIONS] PRODUCT_DIR..."),
    ],
)
def test_help_of_each_command_starts_with_its_usage(command: str, usage: str) -> None:
    assert invoke(command, "--help").stdout.startswith(f"Usage: floe-dagster {command} {usage}\n")


# The settings of a deployment are too many for one.
@pytest.mark.parametrize(
    "command",
    [
        [],
        ["lineage", "status"],
        ["lineage", "replay"],
        *([name] for name in main.commands if name not in {"helm", "init"}),
    ],
    ids=lambda words: " ".join(words) or "all",
)
def test_help_fits_one_screen(command: list[str]) -> None:
    said = CliRunner().invoke(main, [*command, "--help"], prog_name="floe-dagster", terminal_width=80).output

    assert len(said.splitlines()) <= (24 if command else 30)  # the list of all commands is longer
    assert max(map(len, said.splitlines())) <= 80


def test_completion_has_the_commands() -> None:
    asked = floe_dagster(COMP_WORDS="floe-dagster v", COMP_CWORD="1", _FLOE_DAGSTER_COMPLETE="bash_complete")

    assert asked.stdout == "plain,validate\n"


def test_prepare_without_artifacts_says_what_to_set() -> None:
    result = invoke("prepare")

    assert (result.exit_code, result.stdout, result.stderr) == (1, "", _NO_ARTIFACTS)


def test_prepare_of_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    path = tmp_path / "compiled_artifacts.json"

    result = invoke("prepare", str(path))

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {path}: 1 problem\n  the file does not exist\n    fix: ")


def test_prepare_uses_the_artifacts_of_the_environment(tmp_path: Path) -> None:
    path = write_json(tmp_path / "compiled_artifacts.json", contract())

    result = invoke("prepare", FLOE_ARTIFACTS_PATH=str(path))

    assert (result.stdout, result.stderr) == (
        "shop-orders: the product declares no transforms, so there is nothing to prepare\n",
        "",
    )


def test_prepare_as_json_of_a_product_without_transforms(tmp_path: Path) -> None:
    path = write_json(tmp_path / "compiled_artifacts.json", contract())

    result = CliRunner().invoke(main, ["prepare", "--json", str(path)])

    assert json.loads(result.stdout) == {"product": "shop-orders", "manifest": None, "assets": 0}


def test_prepare_without_a_dbt_project_says_where_to_name_it(tmp_path: Path) -> None:
    path = write_json(tmp_path / "compiled_artifacts.json", contract(model("stg_orders")))

    result = invoke("prepare", str(path))

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"error: {path}: no dbt project to prepare. Set FLOE_DBT_PROJECT_DIR to it.\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["parse"],
        ["prepare", "--fast"],
        ["prepare", "a", "b"],
        ["validate", "a", "b"],
        ["plan", "--yaml"],
        ["demo"],
        ["config-schema", "a"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    result = invoke(*arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: floe-dagster ")


# --- validate -------------------------------------------------------------------------------------------------------


def _faulty(directory: Path) -> Path:
    """Make a product with problems in the contract, the configuration, floe.yaml and the dbt project."""
    content = contract(model("a", "a"), config={"timezone": 5, "group_by": "colour"})
    path = write_json(directory / "compiled_artifacts.json", content)
    (directory / "floe.yaml").write_text("kind: [", encoding="utf-8")
    (directory / "dbt_project.yml").write_text("5", encoding="utf-8")
    return path


def test_validate_reports_problems_of_several_places_at_once(tmp_path: Path) -> None:
    path = _faulty(tmp_path)

    result = invoke("validate", str(path))

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"error: {path}: 1 problem\n"
        "  transforms.models[0].depends_on: 'a' depends on itself\n"
        "    fix: Correct floe.yaml and compile the product again (floe platform compile).\n"
        f"error: {path}: 2 problems\n"
        "  plugins.orchestrator.config.timezone: must be a string, not a number\n"
        "  plugins.orchestrator.config.group_by: must be 'dbt_group', 'product', 'tier' or 'folder'\n"
        "    fix: Correct it in manifest.yaml.\n"
        f"error: {tmp_path}/floe.yaml: 1 problem\n"
        "  is not YAML: while parsing a flow node\n"
        "expected the node content, but found '<stream end>'\n"
        '  in "<unicode string>", line 1, column 8:\n'
        "    kind: [\n"
        "           ^\n"
        "    fix: Correct the YAML.\n"
        f"error: {tmp_path}/dbt_project.yml: 1 problem\n"
        "  is not a YAML mapping\n"
        "    fix: See https://docs.getdbt.com/reference/dbt_project.yml.\n"
        "5 problems\n"
    )


def test_validate_gives_the_same_problems_as_json(tmp_path: Path) -> None:
    path = _faulty(tmp_path)

    result = invoke("validate", "--json", str(path))

    answer = json.loads(result.stdout)
    assert (result.exit_code, result.stderr) == (1, "")
    assert list(answer) == ["valid", "problems", "warnings"]
    assert (answer["valid"], answer["warnings"]) == (False, [])
    assert [list(problem) for problem in answer["problems"]] == [["file", "where", "what", "fix"]] * 5
    assert answer["problems"][1] == {
        "file": str(path),
        "where": "plugins.orchestrator.config.timezone",
        "what": "must be a string, not a number",
        "fix": "Correct it in manifest.yaml.",
    }


def test_problem_of_one_sentence_has_only_what_in_json(tmp_path: Path) -> None:
    path = write_json(tmp_path / "compiled_artifacts.json", contract(model("a")))
    spec = {
        "apiVersion": "floe.dev/v1",
        "kind": "FloeSpec",
        "metadata": {"name": "shop-orders", "version": "1.0.0"},
        "transforms": [{"name": "a"}],
        "schedule": {"cron": "0 25 * * *"},
    }
    write_json(tmp_path / "floe.yaml", spec)

    (problem,) = json.loads(invoke("validate", str(path), "--json").stdout)["problems"]

    assert problem.pop("what").startswith("floe.yaml of 'shop-orders', schedule: cron '0 25 * * *' cannot fire: ")
    assert problem == {"file": "", "where": "", "fix": ""}


def test_validate_names_prepare_when_the_manifest_is_missing(tmp_path: Path) -> None:
    path = write_json(tmp_path / "compiled_artifacts.json", contract(model("a")))
    write_project(tmp_path)

    result = invoke("validate", str(path))

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"error: {tmp_path}: 1 problem\n"
        f"  no manifest.json in {tmp_path}/target\n"
        f"    fix: Run `floe-dagster prepare {path}` (dbt deps and dbt parse).\n"
    )


def test_validate_of_a_truncated_file_says_where_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "compiled_artifacts.json"
    path.write_text(json.dumps(contract())[:100], encoding="utf-8")

    result = invoke("validate", str(path))

    assert (result.exit_code, result.stdout) == (1, "")
    assert "  is not JSON, or is cut off: unexpected end of data (line 1, column 101)\n" in result.stderr


@pytest.mark.parametrize("command", ["validate", "plan"])
def test_without_artifacts_the_answer_says_what_to_set(command: str) -> None:
    result = invoke(command)

    assert (result.exit_code, result.stdout, result.stderr) == (1, "", _NO_ARTIFACTS)


def test_without_artifacts_the_answer_names_the_file_in_this_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(tmp_path / "compiled_artifacts.json", contract())
    monkeypatch.chdir(tmp_path)

    result = invoke("validate")

    assert (
        "fix: Pass the path of the product's compiled_artifacts.json, which is in this directory, or " in result.stderr
    )


def test_status_of_lineage_notes_that_none_is_sent(tmp_path: Path) -> None:
    content = contract(model("a"))
    content["observability"]["lineage"] = False
    path = write_json(tmp_path / "compiled_artifacts.json", content)

    result = invoke("lineage", "status", path)

    assert result.exit_code == 0
    assert result.stderr == (
        "note: observability.lineage: false: the product sends no lineage. Set observability.lineage.enabled to true "
        "in manifest.yaml and compile the product again (floe platform compile).\n"
    )


def test_without_artifacts_the_answer_is_json_when_asked_for() -> None:
    result = invoke("validate", "--json")

    (problem,) = json.loads(result.stdout)["problems"]
    assert (result.exit_code, result.stderr) == (1, "")
    assert (problem["file"], problem["what"]) == ("FLOE_ARTIFACTS_PATH", "the environment variable is not set")


def test_validate_of_a_product_without_dbt_project_warns_and_succeeds(tmp_path: Path) -> None:
    path = write_json(tmp_path / "compiled_artifacts.json", contract(model("a"), model("b", "a")))

    result = invoke("validate", FLOE_ARTIFACTS_PATH=str(path))

    assert result.stdout == "shop-orders: valid (2 assets, 0 checks, 0 schedules)\n"
    assert result.stderr == (
        f"warning: {path}: no dbt project, so assets can be seen but not run\n"
        "    fix: Set FLOE_DBT_PROJECT_DIR to the dbt project, or put the artifacts into it.\n"
    )


def test_output_of_dbt_is_not_in_the_json(tmp_path: Path) -> None:
    config = {"jobs": [{"name": "nightly", "select": "tag:nightly"}]}
    path = write_json(tmp_path / "compiled_artifacts.json", contract(model("a"), config=config))
    write_project(tmp_path)
    write_json(tmp_path / "target" / "manifest.json", manifest(node("a")))

    result = floe_dagster("validate", "--json", str(path), check=False)

    problems = json.loads(result.stdout)["problems"]
    assert [problem["where"] for problem in problems] == ["plugins.orchestrator.config.jobs[0].select"]


# --- plan -----------------------------------------------------------------------------------------------------------


def test_plan_of_a_product_with_problems_reports_them_as_validate_does(tmp_path: Path) -> None:
    path = _faulty(tmp_path)

    planned, validated = (invoke(command, str(path)) for command in ("plan", "validate"))

    assert (planned.exit_code, planned.stdout) == (1, "")
    assert planned.stderr == validated.stderr


def test_plan_as_json_has_every_part_and_the_warnings(tmp_path: Path) -> None:
    content = contract(model("a"), config={"default_schedule": "0 6 * * *", "timezone": "Europe/Berlin"})
    path = write_json(tmp_path / "compiled_artifacts.json", content)

    result = invoke("plan", "--json", str(path))

    answer: Json = json.loads(result.stdout)
    ticks = answer["schedules"][0].pop("next_ticks")
    assert result.stderr == ""
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT06:00:00\+0[12]:00", tick) for tick in ticks)
    assert answer == {
        "product": "shop-orders",
        "version": "1.2.0",
        "domain": "sales",
        "artifacts": str(path),
        "dbt_project": None,
        "dbt_engine": None,
        "dbt_target": None,
        "assets": [
            {
                "key": "a",
                "group": "shop_orders",
                "external": False,
                "tier": None,
                "compute": "duckdb",
                "materialization": None,
                "kinds": ["dbt", "duckdb"],
                "owners": [],
                "partitions": None,
                "upstream": [],
                "checks": 0,
                "blocking_checks": 0,
            }
        ],
        "checks": 0,
        "blocking_checks": 0,
        "jobs": [
            {
                "name": "shop_orders",
                "assets": 1,
                "checks": 0,
                "steps": 1,
                "dbt_invocations": 1,
                "selection": None,
                "options": {},
            }
        ],
        "schedules": [
            {
                "name": "shop_orders_schedule",
                "job": "shop_orders",
                "cron": "0 6 * * *",
                "timezone": "Europe/Berlin",
                "running": True,
                "select": None,
                "exclude": None,
                "dagster": None,
                "options": {},
            }
        ],
        "sensors": [],
        "automation": [],
        "pools": [],
        "runs": {
            "executor": "multiprocess",
            "max_concurrent": 1,
            "max_retries": 0,
            "delay_seconds": 0,
            "timeout_seconds": None,
        },
        "steps": [],
        "unused_sources": 0,
        "warnings": [
            {
                "file": str(path),
                "where": "",
                "what": "no dbt project, so assets can be seen but not run",
                "fix": "Set FLOE_DBT_PROJECT_DIR to the dbt project, or put the artifacts into it.",
            }
        ],
    }


# --- config-schema --------------------------------------------------------------------------------------------------


def test_config_schema_is_printed_as_json() -> None:
    result = CliRunner().invoke(main, ["config-schema"])
    whole = CliRunner().invoke(main, ["config-schema", "--manifest"])

    assert json.loads(result.output) == config_schema()
    assert json.loads(whole.output) == manifest_schema()
    assert (result.exit_code, whole.exit_code) == (0, 0)


# --- check ----------------------------------------------------------------------------------------------------------


def _healthy(version: str = "1.13.27") -> bytes:
    workspace = {"locationEntries": [{"name": "floe", "loadStatus": "LOADED", "locationOrLoadError": None}]}
    daemons = [{"daemonType": "SENSOR", "required": True, "healthy": True}]
    data = {"workspaceOrError": workspace, "instance": {"daemonHealth": {"allDaemonStatuses": daemons}}}
    return json.dumps({"data": {"version": version, **data}}).encode()


def test_check_describes_the_webserver() -> None:
    with serving(_healthy()) as server:
        result = invoke("check", server.url)

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"Dagster 1.13.27 with 1 code location answers at {server.url}/\nPatches of ")


def test_check_warns_and_succeeds() -> None:
    with serving(_healthy("1.9.0")) as server:
        result = invoke("check", server.url)

    assert result.exit_code == 0
    assert result.stdout.startswith("Dagster 1.9.0 ")
    assert result.stderr.startswith("warning: Dagster 1.9.0 is older than 1.10.21")


def test_check_without_a_webserver_exits_with_1_and_says_what_to_do() -> None:
    url = f"http://127.0.0.1:{free_port()}"

    result = invoke("check", url, FLOE_UPSTREAM_PATCHES="off")

    said = f"error: {url}/: connection refused. Start it (dagster dev), or correct the address (from the argument).\n"
    assert (result.exit_code, result.stderr) == (1, said)
    assert result.stdout.startswith("Patches of dagster, dagster-dbt and dbt (FLOE_UPSTREAM_PATCHES=off uses none):\n")


def test_check_lists_the_patches_that_are_used_and_those_that_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = {patch.name: patches.State("active") for patch in patches.PATCHES}
    gone = patches.State("gave up", "no _connect(shard)")
    monkeypatch.setattr(patches, "_states", {**fits, "event-log": gone})

    result = invoke("check", "ftp://dagster")
    answer = json.loads(invoke("check", "--json", "ftp://dagster").stdout)
    off = json.loads(invoke("check", "--json", "ftp://dagster", FLOE_UPSTREAM_PATCHES="off").stdout)

    lines = result.stdout.splitlines()[1:]
    assert lines[0] == "  dbt-import: active"
    place = patches.PATCHES.index(patches.EVENT_LOG)
    assert lines[place] == "  event-log: gave up (no _connect(shard); Dagster opens the database for each statement)"
    assert len(lines) == len(answer["patches"]) == len(patches.PATCHES)
    assert answer["patches"][place] == {**asdict(patches.EVENT_LOG), "status": "gave up", "reason": gone.reason}
    assert {patch["status"] for patch in off["patches"]} == {"off"}


@pytest.mark.parametrize("command", ["check", "validate", "plan", "prepare"])
def test_switch_of_the_patches_with_another_value_is_an_error(command: str) -> None:
    result = invoke(command, FLOE_UPSTREAM_PATCHES="false")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "FLOE_UPSTREAM_PATCHES: 'false' is neither 'on' nor 'off'\n" in result.stderr


def test_check_as_json_has_every_part() -> None:
    with serving(_healthy()) as server:
        result = invoke("check", "--json", server.url, FLOE_UPSTREAM_PATCHES="off")

    assert json.loads(result.stdout) == {
        "success": True,
        "url": f"{server.url}/",
        "version": "1.13.27",
        "locations": [{"name": "floe", "state": "loaded", "error": ""}],
        "daemons": [{"type": "SENSOR", "healthy": True}],
        "error": None,
        "warnings": [],
        "patches": [{**asdict(patch), "status": "off", "reason": ""} for patch in patches.PATCHES],
    }


def test_check_as_json_without_a_webserver_has_the_error() -> None:
    result = invoke("check", "--json", "ftp://dagster")

    answer = json.loads(result.stdout)
    assert (result.exit_code, result.stderr, answer["success"], answer["version"]) == (1, "", False, None)
    assert answer["error"].startswith("ftp://dagster/: it is not an http:// or https:// address. ")


def test_check_takes_address_and_headers_from_the_product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_LOGIN", "Bearer hunter2")
    with serving(_healthy()) as server:
        headers = [{"name": "Authorization", "variable": "SHOP_LOGIN"}]
        config = {"webserver_url": server.url, "webserver_headers": headers}
        path = write_json(tmp_path / "compiled_artifacts.json", contract(model("a"), config=config))
        named = invoke("check", "--artifacts", str(path))
        monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(path))
        found = invoke("check")

    assert (named.exit_code, found.exit_code) == (0, 0)
    assert [asked.headers["Authorization"] for asked in server.asked] == ["Bearer hunter2"] * 2


def test_check_of_a_product_that_cannot_be_read_exits_with_one(tmp_path: Path) -> None:
    result = invoke("check", "--artifacts", str(tmp_path / "missing.json"))

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {tmp_path}/missing.json: 1 problem\n")


@pytest.mark.parametrize("path", ["compiled_artifacts.json", "product/compiled_artifacts.json", "./product"])
def test_check_of_a_path_names_the_command_that_takes_one(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "product").mkdir()
    monkeypatch.chdir(tmp_path)

    result = invoke("check", path)

    assert result.exit_code == 2
    assert (
        f"URL: {path!r} is a path, not the address of a webserver. To check a product, run "
        f"`floe-dagster validate {path}`." in " ".join(result.stderr.split())
    )


@pytest.mark.parametrize("timeout", ["0", "-1", "soon", "nan"])
def test_check_with_an_invalid_timeout_is_wrong_usage(timeout: str) -> None:
    result = invoke("check", "--timeout", timeout)

    assert result.exit_code == 2
    assert "--timeout" in result.stderr


# --- progress -------------------------------------------------------------------------------------------------------


def test_progress_is_shown_on_a_terminal_only(tmp_path: Path) -> None:
    path = write_json(tmp_path / "compiled_artifacts.json", contract(model("a")))
    command = [sys.executable, "-m", "floe_orchestrator_dagster", "validate", str(path)]
    terminal, screen = pty.openpty()
    with subprocess.Popen(
        command, env=clean_environment(TERM="xterm"), stdout=subprocess.PIPE, stderr=screen, cwd=tmp_path
    ) as process:
        os.close(screen)
        # Read the terminal first: an unread progress bar would block the process.
        shown = _read_to_end(terminal)
        answer = process.communicate(timeout=300)[0]

    assert answer == b"shop-orders: valid (1 asset, 0 checks, 0 schedules)\n"
    assert b"Loading the product" in shown
    assert b"\x1b[33m\x1b[1mwarning\x1b[0m: " in shown
    assert "Loading" not in invoke("validate", str(path)).stderr


@pytest.mark.parametrize(
    ("command", "doing"),
    [
        (["demo", "shop"], "Writing the sample product"),
        (["prepare", "compiled_artifacts.json"], "Parsing the dbt project"),
        (["validate", "compiled_artifacts.json"], "Loading the product"),
        (["plan", "compiled_artifacts.json"], "Loading the product"),
        (["check", "http://127.0.0.1:1"], "Asking the webserver"),
        (["helm", "--artifacts", "compiled_artifacts.json", "--image", "shop:1"], "Reading the products"),
        (["lineage", "status", "compiled_artifacts.json"], "Counting lineage events"),
        (["lineage", "replay", "compiled_artifacts.json"], "Sending lineage events"),
    ],
)
def test_commands_that_read_a_product_or_query_a_server_show_progress_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], doing: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "compiled_artifacts.json", contract())

    on_a_terminal = invoke(*command, screen=Screen(), TERM="xterm", FLOE_STATE_DIR=str(tmp_path / "state"))

    assert doing in on_a_terminal.stderr
    assert doing not in on_a_terminal.stdout


def _read_to_end(terminal: int) -> bytes:
    shown = b""
    with suppress(OSError):  # Linux raises it when the other side is closed
        while piece := os.read(terminal, 4096):
            shown += piece
    os.close(terminal)
    return shown


# --- demo -----------------------------------------------------------------------------------------------------------


def test_demo_says_how_to_run_the_product(tmp_path: Path) -> None:
    directory = tmp_path / "my shop"

    result = invoke("demo", directory)

    assert result.exit_code == 0
    assert result.stdout == (
        f"The sample product retail-orders is in {directory}.\n\nTo start Dagster:\n\n"
        f"  export FLOE_ARTIFACTS_PATH='{directory}/compiled_artifacts.json'\n"
        "  dagster dev -m floe_orchestrator_dagster.definitions\n"
        "\nThe lineage is then at http://127.0.0.1:3000/asset-groups\n"
    )


def test_demo_says_the_same_as_json(tmp_path: Path) -> None:
    directory = tmp_path / "my shop"

    result = invoke("demo", "--json", directory)

    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {
        "product": "retail-orders",
        "directory": str(directory),
        "artifacts": f"{directory}/compiled_artifacts.json",
        "commands": [
            f"export FLOE_ARTIFACTS_PATH='{directory}/compiled_artifacts.json'",
            "dagster dev -m floe_orchestrator_dagster.definitions",
        ],
        "missing_packages": [],
    }


def test_demo_names_packages_that_it_needs_beside_its_two_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_command, "_WEBSERVER", {"dagster-webserver": "no_such_module_anywhere"})

    result = invoke("demo", tmp_path / "shop")

    assert result.stderr == (
        "warning: packages that the sample needs are not installed. Run `pip install dagster-webserver`.\n"
    )
    assert len(re.findall(r"^  ", result.stdout, re.MULTILINE)) == 2


def test_demo_does_not_change_a_directory_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")

    result = invoke("demo", str(tmp_path))

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"error: {tmp_path}: 1 problem\n"
        "  is not empty\n"
        "    fix: Choose a new or empty directory. No file was written.\n"
    )
    assert list(tmp_path.iterdir()) == [tmp_path / "mine.txt"]


def test_listed_names_are_whole_in_a_pipe_and_wrapped_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ", ".join(f"model-{row}-of-the-shop" for row in range(9))

    echo_listed(names)
    assert capsys.readouterr().out == f"    {names}\n"

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    echo_listed(names)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100
