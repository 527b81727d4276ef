"""A product's dbt project directory: its location, its settings and ``.env`` file, and the paths that runs write to.

Variables in ``.env``: https://docs.getdbt.com/reference/dbt-jinja-functions/env_var
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from packaging.version import Version

from floe_orchestrator_dagster.errors import EngineError, Problem, ProjectError
from floe_orchestrator_dagster.product.engines import find_engine
from floe_orchestrator_dagster.product.files import user_path
from floe_orchestrator_dagster.product.yaml_file import read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from floe_orchestrator_dagster.product.engines import EngineChoice


PROJECT_FILE = "dbt_project.yml"
PROJECT_DIR_VARIABLE = "FLOE_DBT_PROJECT_DIR"
STATE_DIR_VARIABLE = "FLOE_STATE_DIR"
ENVIRONMENT_FILE = ".env"
PACKAGE_FILES = ("packages.yml", "dependencies.yml")
PACKAGE_LOCK = "package-lock.yml"

_FIRST_DBT_WITH_ENVIRONMENT_FILE = Version("1.12")
_SETTINGS_FILES = (
    PROJECT_FILE,
    *PACKAGE_FILES,
    PACKAGE_LOCK,
    "selectors.yml",
    ".dbtignore",
    # Since dbt-core 1.12.
    "vars.yml",
    ENVIRONMENT_FILE,
)
# dbt's default for `docs-paths` is all the other directories.
_SOURCE_PATHS: Mapping[str, Sequence[str]] = {
    "model-paths": ["models"],
    "seed-paths": ["seeds"],
    "snapshot-paths": ["snapshots"],
    "macro-paths": ["macros"],
    "test-paths": ["tests"],
    "analysis-paths": ["analyses"],
    "function-paths": ["functions"],
    # Since dbt-core 1.12: definitions of the semantic layer.
    "osi-paths": ["osi", "OSI"],
    "docs-paths": [],
}


@dataclass(frozen=True)
class ProjectDirectory:
    """A directory with a ``dbt_project.yml``, and the settings that are read from it.

    Attributes:
        path: Absolute path of the directory.
        profile_name: The profile name in ``dbt_project.yml``; None when it has none.
        state_path: Directory for relative DuckDB files and, by default, target and logs:
            ``$FLOE_STATE_DIR/<product>`` when that is set, else the project directory when it is writable, else
            ``~/.local/state/floe/<product>``.
        written_target: Directory for dbt's artifacts; ``DBT_TARGET_PATH`` takes precedence, as in dbt.
        read_targets: Directories to search for a manifest, in order.
        source_paths: Files and directories that dbt parses; a manifest that is older than one of them is outdated.
        packages_path: Directory into which ``dbt deps`` installs packages.
    """

    path: Path
    profile_name: str | None
    state_path: Path
    written_target: Path
    read_targets: tuple[Path, ...]
    source_paths: tuple[Path, ...]
    packages_path: Path

    def of_compute(self, compute: str) -> ProjectDirectory:
        """Return the project with the directories for the manifest of one of its computes."""
        below = Path("computes", quote(compute, safe="").replace(".", "%2E"))
        targets = tuple(target / below for target in self.read_targets)
        return replace(self, written_target=self.written_target / below, read_targets=targets)


def find_project_path(artifacts_path: Path | None, chosen: Path | None = None) -> Path | None:
    """Find the dbt project: ``FLOE_DBT_PROJECT_DIR``, else the nearest directory at or above the artifacts.

    Args:
        artifacts_path: The artifacts' file.
        chosen: The directory of the project, if the caller knows it; takes precedence over all others.

    Returns:
        The directory with ``dbt_project.yml``, or None without one.

    Raises:
        ProjectError: The chosen directory, or that of ``FLOE_DBT_PROJECT_DIR``, has no ``dbt_project.yml``.
    """
    if chosen is not None:
        if not (chosen / PROJECT_FILE).is_file():
            fix = f"Set `project_dir` to the directory with {PROJECT_FILE}."
            raise ProjectError(str(chosen), [Problem("", f"has no {PROJECT_FILE} in it", fix)])
        return chosen
    named = os.environ.get(PROJECT_DIR_VARIABLE)
    if named:
        path = user_path(named, PROJECT_DIR_VARIABLE, ProjectError, "Write the path without `~`.")
        if not (path / PROJECT_FILE).is_file():
            fix = f"Set {PROJECT_DIR_VARIABLE} to the directory with {PROJECT_FILE}, or unset it."
            raise ProjectError(str(path), [Problem("", f"{PROJECT_DIR_VARIABLE} has no {PROJECT_FILE} in it", fix)])
        return path
    if artifacts_path is None:
        return None
    parents = artifacts_path.absolute().parents
    return next((parent for parent in parents if (parent / PROJECT_FILE).is_file()), None)


def read_project_directory(path: Path, product_name: str) -> ProjectDirectory:
    """Read ``dbt_project.yml`` in ``path`` and resolve the paths that depend on it.

    Raises:
        ProjectError: ``dbt_project.yml`` is unreadable or not a YAML mapping.
    """
    settings = _read_settings(path / PROJECT_FILE)
    own_target = path / _text(settings, "target-path", "target")
    state_path = _state_path(path, product_name)
    moved_target = os.environ.get("DBT_TARGET_PATH")
    if moved_target:
        written_target = path / moved_target
    else:
        written_target = own_target if state_path == path else state_path / "target"
    return ProjectDirectory(
        path=path,
        profile_name=_text(settings, "profile", "") or None,
        state_path=state_path,
        written_target=written_target,
        read_targets=tuple(dict.fromkeys([written_target, own_target])),
        source_paths=tuple(parsed_paths(path, settings)),
        packages_path=path / _text(settings, "packages-install-path", "dbt_packages"),
    )


def state_directory(product_name: str) -> Path:
    """Return the state directory of a product: in ``FLOE_STATE_DIR``, else in the user's state directory.

    Raises:
        ProjectError: The home directory is unknown, as is common for users of containers.
    """
    named = os.environ.get(STATE_DIR_VARIABLE)
    if named:
        return user_path(named, STATE_DIR_VARIABLE, ProjectError, "Write the path without `~`.") / product_name
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    fix = f"Set {STATE_DIR_VARIABLE} to a directory that this user can write."
    return user_path(base, STATE_DIR_VARIABLE, ProjectError, fix) / "floe" / product_name


def parsed_paths(directory: Path, settings: Mapping[str, object]) -> Iterator[Path]:
    """List the files and directories that dbt parses in a project or package; ``settings`` is its project file."""
    for name in _SETTINGS_FILES:
        yield directory / name
    for key, default in _SOURCE_PATHS.items():
        declared = settings.get(key)
        yield from (directory / str(entry) for entry in (declared if isinstance(declared, list) else default))


def newest_change(paths: Iterable[Path]) -> float:
    """Return the latest change, in seconds since the epoch, in files and directories; deletions count as changes."""
    return max(_change_times(paths), default=0.0)


def files_below(paths: Iterable[Path]) -> set[Path]:
    """List files, and all files in directories and below them."""
    return {Path(name) for name in file_names_below(paths)}


def file_names_below(paths: Iterable[Path]) -> set[str]:
    """Return the paths of :func:`files_below` as text, which is faster for thousands of files."""
    found: set[str] = set()
    walked: set[tuple[int, int]] = set()
    for path in paths:
        if path.is_file():
            found.add(str(path))
        found.update(f"{directory}{os.sep}{name}" for directory, names in _walk(path, walked) for name in names)
    return {name for name in found if os.path.isfile(name)}  # noqa: PTH113  # see above


def _change_times(paths: Iterable[Path]) -> Iterator[float]:
    walked: set[tuple[int, int]] = set()
    for path in paths:
        if path.exists():
            yield path.stat().st_mtime
            yield from _change_times_below(path, walked)


def _change_times_below(path: Path, walked: set[tuple[int, int]]) -> Iterator[float]:
    for directory, files in _walk(path, walked):
        yield Path(directory).stat().st_mtime
        yield from (entry.stat().st_mtime for name in files if (entry := Path(directory, name)).exists())


def _walk(path: Path, walked: set[tuple[int, int]]) -> Iterator[tuple[str, list[str]]]:
    """List directories with their files, through links as dbt does, each once: links can form a cycle."""
    for directory, folders, files in os.walk(path, followlinks=True):
        status = Path(directory).stat()
        if (status.st_dev, status.st_ino) in walked:
            folders.clear()
            continue
        walked.add((status.st_dev, status.st_ino))
        yield directory, files


def _read_settings(path: Path) -> Mapping[str, object]:
    settings = read_yaml(path, ProjectError)
    if not isinstance(settings, dict):
        problem = Problem("", "is not a YAML mapping", "See https://docs.getdbt.com/reference/dbt_project.yml.")
        raise ProjectError(str(path), [problem])
    return settings


def _text(settings: Mapping[str, object], key: str, default: str) -> str:
    value = settings.get(key)
    # Only dbt can render a template. Use the default of the setting instead.
    return value if isinstance(value, str) and "{{" not in value else default


def _state_path(path: Path, product_name: str) -> Path:
    if not os.environ.get(STATE_DIR_VARIABLE) and os.access(path, os.W_OK):
        return path
    return state_directory(product_name)


def file_variables(project: Path, choice: EngineChoice) -> Mapping[str, str]:
    """Return the variables of the nearest ``.env`` at or above a project; none if dbt does not read it.

    Variables of the process take precedence over them.

    Args:
        project: Directory of the dbt project.
        choice: The configured dbt engine.

    Raises:
        ProjectError: The file is unreadable. dbt would not start.
    """
    directories = (project, *project.parents)
    path = next((file for directory in directories if (file := directory / ENVIRONMENT_FILE).is_file()), None)
    if path is None or not _is_read_by(choice):
        return {}
    from dotenv import dotenv_values

    try:
        values = dotenv_values(path, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        what = f"cannot be read: {error}"
        fix = f"Write it as UTF-8 and let the user that runs Dagster read it, or remove it: dbt reads {path.name} too."
        raise ProjectError(str(path), [Problem("", what, fix)]) from None
    return {name: value for name, value in values.items() if value is not None}


def _is_read_by(choice: EngineChoice) -> bool:
    try:
        engine = find_engine(choice)
    except EngineError:
        return False  # reported when dbt is needed
    return engine.kind == "v2" or Version(engine.version) >= _FIRST_DBT_WITH_ENVIRONMENT_FILE
