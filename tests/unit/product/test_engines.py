"""dbt engines: which of the installed ones is used, and the messages where none can be used."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.config import examine_config
from floe_orchestrator_dagster.errors import EngineError
from floe_orchestrator_dagster.product.engines import DbtEngine, EngineChoice, find_engine

if TYPE_CHECKING:
    from pathlib import Path

_DBT_CORE = version("dbt-core")
_ENGINE = "plugins.orchestrator.config.dbt.engine: 1 problem\n  "
_EXECUTABLE = "plugins.orchestrator.config.dbt.executable: 1 problem\n  "
_NAME_IT = (
    "\n    fix: Set plugins.orchestrator.config.dbt.executable to the executable of dbt v2, or install it: "
    "`pip install dbt`."
)
_NAME_ANOTHER = (
    "\n    fix: Name an executable of dbt v2, or remove the key and write `engine: core` to use dbt-core 1.x."
)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only directory on the PATH."""
    directory = tmp_path / "on_path"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    return directory


def _command(directory: Path, script: str, name: str = "dbt", first: str = "#!/bin/sh") -> str:
    """Write an executable script; its first line names the interpreter."""
    file = directory / name
    file.write_text(f"{first}\n{script}\n", encoding="utf-8")
    file.chmod(0o755)
    return str(file)


def _printing(directory: Path, line: str, name: str = "dbt") -> str:
    return _command(directory, f"echo '{line}'", name)


def _refused(choice: EngineChoice) -> str:
    with pytest.raises(EngineError) as raised:
        find_engine(choice)
    return str(raised.value)


@pytest.mark.parametrize("choice", [EngineChoice(), EngineChoice("core"), EngineChoice("core", "dbt")])
def test_dbt_core_of_this_python_is_the_first_choice_whatever_is_on_the_path(path: Path, choice: EngineChoice) -> None:
    _command(path, "exit 3")

    engine = find_engine(choice)

    assert engine == DbtEngine("core", sys.executable, _DBT_CORE)
    assert str(engine) == f"dbt-core {_DBT_CORE}"


def test_dbt_core_is_found_without_importing_it_or_starting_a_process() -> None:
    code = """
import sys
from floe_orchestrator_dagster.product.engines import EngineChoice, find_engine
sys.addaudithook(lambda event, args: sys.exit(f"started {args}") if event == "subprocess.Popen" else None)
print(find_engine(EngineChoice()).kind, sorted(name for name in sys.modules if name.startswith("dbt")))
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert printed == "core ['dbt']\n"


def test_command_of_dbt_core_runs_it_although_another_module_is_called_alike(tmp_path: Path) -> None:
    (tmp_path / "yaml.py").write_text("raise SystemExit('a module of the project was imported')", encoding="utf-8")

    ended = subprocess.run(
        [*find_engine(EngineChoice("core")).command, "clean", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert ended.stdout.startswith("Usage: dbt clean [OPTIONS]")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("dbt-core 2.0.0-alpha.4", "2.0.0-alpha.4"),
        ("dbt-fusion 2.0.0-preview.76", "2.0.0-preview.76"),
        ("dbt 2.0.9", "2.0.9"),
        ("dbt 3.1", "3.1"),
    ],
)
def test_dbt_v2_is_what_prints_such_a_version(path: Path, line: str, found: str) -> None:
    executable = _printing(path, line)

    engine = find_engine(EngineChoice("v2"))

    assert engine == DbtEngine("v2", executable, found)
    assert engine.command == (executable,)
    assert str(engine) == f"dbt {found}"


def test_another_executable_is_named_by_its_path_or_by_its_name(path: Path, tmp_path: Path) -> None:
    _printing(path, "dbt 2.0.1")
    named = _printing(path, "dbt 2.0.2", name="dbt-canary")
    elsewhere = _printing(tmp_path, "dbt 2.0.3")

    assert find_engine(EngineChoice("auto", "dbt-canary")) == DbtEngine("v2", named, "2.0.2")
    assert find_engine(EngineChoice("v2", elsewhere)) == DbtEngine("v2", elsewhere, "2.0.3")


def test_command_of_dbt_core_before_it_on_the_path_is_passed_over(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tmp_path / "first"
    first.mkdir()
    _command(first, "import sys\nfrom dbt.cli.main import cli\nsys.exit(cli())", first="#!/usr/bin/python3")
    executable = _printing(path, "dbt 2.0.9")
    monkeypatch.setenv("PATH", f"{first}:{path}")

    assert find_engine(EngineChoice("v2")) == DbtEngine("v2", executable, "2.0.9")


def test_command_dbtf_is_found_where_dbt_is_that_of_dbt_core(path: Path) -> None:
    _command(path, "from dbt.cli.main import cli", first="#!/usr/bin/python3")
    executable = _printing(path, "dbt-fusion 2.0.0-preview.76", name="dbtf")

    assert find_engine(EngineChoice("v2")).executable == executable


def test_version_is_asked_for_once_until_the_file_changes(path: Path, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    _command(path, f"echo x >> {asked}; echo 'dbt 2.0.1'")
    find_engine(EngineChoice("v2"))
    assert find_engine(EngineChoice("v2")).version == "2.0.1"
    assert asked.read_text() == "x\n"

    _printing(path, "dbt 2.0.10")

    assert find_engine(EngineChoice("v2")).version == "2.0.10"


def test_no_dbt_v2_says_how_to_install_it(path: Path) -> None:
    _command(path, "from dbt.cli.main import cli", first="#!/usr/bin/python3")

    assert _refused(EngineChoice("v2")) == (
        f"{_ENGINE}'v2' needs an executable of dbt v2, and the PATH has none{_NAME_IT}"
    )


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo 'dbt 1.11.2'", "is not dbt v2: its version is printed as 'dbt 1.11.2'"),
        ("printf 'Core:\\n  - installed: 1.9.4\\n'", "is not dbt v2: its version is printed as '- installed: 1.9.4'"),
        ("echo 'dbt Cloud CLI - 0.40.7'", "is not dbt v2: its version is printed as 'dbt Cloud CLI - 0.40.7'"),
        ("echo 'debit 2.1'", "is not dbt v2: its version is printed as 'debit 2.1'"),
        ("true", "is not dbt v2: its version is printed as ''"),
        ("echo no library; exit 127", "ended with exit status 127 when asked for its version: no library"),
        ("kill -9 $$", "ended with exit status -9 when asked for its version"),
    ],
)
def test_executable_that_is_too_old_unknown_or_broken_is_reported(path: Path, script: str, problem: str) -> None:
    executable = _command(path, script)

    assert _refused(EngineChoice("v2")) == f"{_ENGINE}{executable!r} {problem}{_NAME_IT}"
    assert _refused(EngineChoice("v2", executable)) == f"{_EXECUTABLE}{executable!r} {problem}{_NAME_ANOTHER}"


def test_executable_of_dbt_core_is_not_one_of_dbt_v2(path: Path) -> None:
    executable = _command(path, "from dbt.cli.main import cli", first="#!/usr/bin/python3")

    assert _refused(EngineChoice("auto", executable)) == (
        f"{_EXECUTABLE}{executable!r} is the command of dbt-core 1.x{_NAME_ANOTHER}"
    )


def test_file_for_another_machine_cannot_be_started(path: Path) -> None:
    executable = _command(path, "", first="\x7fELF")

    assert _refused(EngineChoice("v2")) == (f"{_ENGINE}{executable!r} cannot be started (Exec format error){_NAME_IT}")


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(
    ("executable", "problem"),
    [("dbt-canary", "is not on the PATH"), ("/nowhere/dbt", "is not an executable file")],
)
def test_executable_that_is_not_there_is_reported(executable: str, problem: str) -> None:
    assert _refused(EngineChoice("v2", executable)) == (
        f"{_EXECUTABLE}{executable!r} {problem}\n    fix: Correct it, or install dbt v2 there: `pip install dbt`."
    )


_WITHOUT_DBT_CORE = """
import sys
from importlib.abc import MetaPathFinder

class NoDbt(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] == "dbt":
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, NoDbt())
from floe_orchestrator_dagster.errors import EngineError
from floe_orchestrator_dagster.product.engines import EngineChoice, find_engine

sys.executable = "/opt/python/bin/python"
try:
    print(find_engine(EngineChoice(sys.argv[1])))
except EngineError as error:
    print(error)
"""


def _found_without_dbt_core(engine: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", _WITHOUT_DBT_CORE, engine], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.usefixtures("path")
def test_no_engine_at_all_names_the_commands_that_install_one() -> None:
    assert _found_without_dbt_core("auto") == (
        f"{_ENGINE}no dbt engine is installed: /opt/python/bin/python cannot import dbt-core 1.x, and the PATH has "
        "no dbt v2\n"
        '    fix: `pip install "dbt-core>=1.9,<2"` with the adapter of your warehouse, such as dbt-duckdb, installs '
        "dbt-core. `pip install dbt` installs dbt v2.\n"
    )


def test_dbt_v2_on_the_path_is_taken_without_dbt_core(path: Path) -> None:
    _printing(path, "dbt 2.0.9")

    assert _found_without_dbt_core("auto") == "dbt 2.0.9\n"
    assert _found_without_dbt_core("core") == (
        f"{_ENGINE}'core' needs dbt-core 1.x, which /opt/python/bin/python cannot import\n"
        '    fix: `pip install "dbt-core>=1.9,<2"` with the adapter of your warehouse, or write `engine: v2`.\n'
    )


# --- Configuration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "problems"),
    [
        (
            {"dbt": {"engine": "fusion"}},
            ["plugins.orchestrator.config.dbt.engine: must be 'auto', 'core' or 'v2'"],
        ),
        (
            {"computes": {"pg": {"engine": "fusion", "host": "db"}}},
            ["plugins.orchestrator.config.computes.pg.engine: must be 'auto', 'core' or 'v2'"],
        ),
        (
            {"dbt": {"engine": "core", "executable": "dbt"}},
            [
                (
                    "plugins.orchestrator.config.dbt.executable: is for dbt v2 only, and the engine is core: "
                    "dbt-core runs in the Python of Dagster"
                )
            ],
        ),
        ({"dbt": {"engine": "core", "executable": "dbt"}, "computes": {"pg": {"engine": "v2"}}}, []),
    ],
)
def test_engines_of_the_configuration_are_checked(config: dict[str, object], problems: list[str]) -> None:
    found = examine_config(config).problems

    assert [f"{problem.where}: {problem.what}" for problem in found] == problems
