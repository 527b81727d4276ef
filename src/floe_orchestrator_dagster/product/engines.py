"""dbt engines: the dbt-core 1.x of this Python environment, and executables of dbt v2.

Distributions do not identify an engine: both engines are published as ``dbt-core``, and both install a command
``dbt``. dbt-core 1.x is what Python can import as ``dbt.cli.main``. dbt v2 is an executable that prints a version from
2.0 on.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from packaging.version import Version

from floe_orchestrator_dagster.config.models import EngineName, config_path
from floe_orchestrator_dagster.errors import EngineError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

OLDEST_CORE = "1.9"
_V2 = 2
# dbt-core 1.x also installs a `dbt`. The installer of dbt v2 adds `dbtf`, for environments that have both.
_COMMANDS = ("dbt", "dbtf")
_CORE_ENTRY_POINT = b"dbt.cli.main"
_SCRIPT_BYTES = 4096
# `dbt-core 2.0.0`, `dbt-fusion 2.0.0-preview.76`, `dbt 2.0.9`; dbt-core 1.x prints `- installed: 1.11.2`.
_VERSION = re.compile(r"^(?:dbt\b|.*\binstalled:).*?(?<![\w.])(?P<version>\d+\.\d+[\w.+-]*)")
_VERSION_SECONDS = 60
# dbt-core's own script may have been replaced by that of dbt v2. Modules of the project must not shadow those of dbt.
_RUN_CORE = (
    "import sys; sys.path = [entry for entry in sys.path if entry]; sys.argv[0] = 'dbt'; "
    "from dbt.cli.main import cli; cli()"
)
_INSTALL = (
    f'`pip install "dbt-core>={OLDEST_CORE},<2"` with the adapter of your warehouse, such as dbt-duckdb, installs '
    "dbt-core. `pip install dbt` installs dbt v2."
)
_NAME_IT = f"Set {config_path('dbt', 'executable')} to the executable of dbt v2, or install it: `pip install dbt`."


@dataclass(frozen=True)
class EngineChoice:
    """The dbt engine that the configuration asks for.

    Attributes:
        engine: ``auto`` selects dbt v2 if ``executable`` is set; else dbt-core if it is installed, else dbt v2.
        executable: The executable of dbt v2, as a name on the PATH or a path; None for the first that is found.
    """

    engine: EngineName = "auto"
    executable: str | None = None


DEFAULT_CHOICE = EngineChoice()


@dataclass(frozen=True)
class DbtEngine:
    """A dbt that is installed.

    Attributes:
        kind: ``core`` is dbt-core 1.x, ``v2`` is dbt v2.
        executable: The Python that imports dbt-core, or the executable of dbt v2.
        version: Its version, as it prints it.
    """

    kind: Literal["core", "v2"]
    executable: str
    version: str

    @property
    def command(self) -> tuple[str, ...]:
        """Words of a command line before dbt's own arguments."""
        return (self.executable, "-c", _RUN_CORE) if self.kind == "core" else (self.executable,)

    def __str__(self) -> str:
        """Name the engine with its version."""
        return f"dbt-core {self.version}" if self.kind == "core" else f"dbt {self.version}"


def find_engine(choice: EngineChoice) -> DbtEngine:
    """Find the dbt engine that the configuration asks for. dbt-core is found without starting a process.

    Raises:
        EngineError: There is none, or it is too old, unknown or broken.
    """
    if choice.executable is not None and choice.engine != "core":
        return _named_v2(choice.executable)
    if choice.engine == "v2":
        return _first_v2(choice)
    core = _installed_core()
    if core is not None:
        return DbtEngine("core", sys.executable, core)
    if choice.engine == "core":
        what = f"'core' needs dbt-core 1.x, which {sys.executable} cannot import"
        fix = f'`pip install "dbt-core>={OLDEST_CORE},<2"` with the adapter of your warehouse, or write `engine: v2`.'
        raise EngineError(config_path("dbt", "engine"), [Problem("", what, fix)])
    return _first_v2(choice)


def _installed_core() -> str | None:
    """Return the version of the dbt-core 1.x that this Python can import, without the import; None without one.

    Raises:
        EngineError: It is too old.
    """
    try:
        spec = find_spec("dbt.cli")
        installed = version("dbt-core")
    except (ModuleNotFoundError, PackageNotFoundError):
        return None
    directories = (spec.submodule_search_locations if spec else None) or ()
    if not any(Path(directory, "main.py").is_file() for directory in directories):
        return None
    if Version(installed).major >= _V2:
        return None
    if Version(installed) < Version(OLDEST_CORE):
        fix = f'`pip install "dbt-core>={OLDEST_CORE},<2"` with a newer adapter.'
        raise EngineError(sys.executable, [Problem("", f"dbt-core {installed} is too old", fix)])
    return installed


def _named_v2(executable: str) -> DbtEngine:
    where = config_path("dbt", "executable")
    found = shutil.which(str(Path(executable).expanduser()))
    if found is None:
        fix = "Correct it, or install dbt v2 there: `pip install dbt`."
        is_path = os.sep in executable
        what = f"{executable!r} is not {'an executable file' if is_path else 'on the PATH'}"
        raise EngineError(where, [Problem("", what, fix)])
    examined = _examined(Path(found))
    if examined.problem:
        fix = "Name an executable of dbt v2, or remove the key and write `engine: core` to use dbt-core 1.x."
        raise EngineError(where, [Problem("", f"{found!r} {examined.problem}", fix)])
    return DbtEngine("v2", str(Path(found).absolute()), examined.version)


def _first_v2(choice: EngineChoice) -> DbtEngine:
    """Return the first dbt v2 beside this Python or on the PATH."""
    unusable: list[Problem] = []
    for path in _candidates():
        examined = _examined(path)
        if examined.version:
            return DbtEngine("v2", str(path), examined.version)
        unusable.append(Problem("", f"{str(path)!r} {examined.problem}", _NAME_IT))
    where = config_path("dbt", "engine")
    if unusable:
        raise EngineError(where, unusable)
    if choice.engine == "v2":
        raise EngineError(where, [Problem("", "'v2' needs an executable of dbt v2, and the PATH has none", _NAME_IT)])
    what = f"no dbt engine is installed: {sys.executable} cannot import dbt-core 1.x, and the PATH has no dbt v2"
    raise EngineError(where, [Problem("", what, _INSTALL)])


def _candidates() -> Iterator[Path]:
    """List the commands called ``dbt`` beside this Python and on the PATH, without dbt-core's own scripts."""
    directories = [str(Path(sys.executable).parent), *os.environ.get("PATH", os.defpath).split(os.pathsep)]
    seen: set[str] = set()
    for directory in filter(None, directories):
        for name in _COMMANDS:
            found = shutil.which(name, path=directory)
            if found is not None and os.path.realpath(found) not in seen:
                seen.add(os.path.realpath(found))
                if not _is_core_script(Path(found)):
                    yield Path(found).absolute()


def _is_core_script(path: Path) -> bool:
    """Return whether an executable is dbt-core's own script. Its ``--version`` takes seconds and asks PyPI."""
    try:
        with path.open("rb") as file:
            start = file.read(_SCRIPT_BYTES)
    except OSError:
        return False
    return start.startswith(b"#!") and _CORE_ENTRY_POINT in start


def run_captured(
    command: Sequence[str], environment: Mapping[str, str], directory: Path | None = None, seconds: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run dbt without its telemetry, and capture standard output and standard error together.

    Args:
        command: The command line.
        environment: Environment variables.
        directory: Working directory; None for that of this process.
        seconds: Time limit; None for no limit.

    Raises:
        OSError: The command cannot be started.
        subprocess.TimeoutExpired: It did not end in time.
    """
    return subprocess.run(
        command,
        env={**environment, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"},
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=seconds,
        check=False,
    )


@dataclass(frozen=True)
class _Examined:
    """An executable: its version if it is dbt v2, else the reason why it is not."""

    version: str = ""
    problem: str = ""


def _examined(path: Path) -> _Examined:
    """Ask an executable for its version, once per process and file."""
    if _is_core_script(path):
        return _Examined(problem="is the command of dbt-core 1.x")
    status = path.stat()
    return _asked(str(path), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=16)
def _asked(executable: str, _modified: int, _size: int) -> _Examined:
    try:
        ended = run_captured([executable, "--version"], os.environ, seconds=_VERSION_SECONDS)
    except OSError as error:
        return _Examined(problem=f"cannot be started ({error.strerror})")
    except subprocess.TimeoutExpired:
        return _Examined(problem=f"did not print its version within {_VERSION_SECONDS} s")
    lines = [line.strip() for line in ended.stdout.splitlines() if line.strip()]
    if ended.returncode:
        printed = f": {lines[0]}" if lines else ""
        return _Examined(problem=f"ended with exit status {ended.returncode} when asked for its version{printed}")
    found = next((match for line in lines if (match := _VERSION.search(line))), None)
    if found is None or int(found["version"].partition(".")[0]) < _V2:
        printed = repr((found.string if found else lines[0]) if lines else "")
        return _Examined(problem=f"is not dbt v2: its version is printed as {printed}")
    return _Examined(version=found["version"])
