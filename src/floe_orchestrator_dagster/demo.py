"""The sample data product in the package, and its copy in a user's directory."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import Version

from floe_orchestrator_dagster.errors import Problem, ProjectError
from floe_orchestrator_dagster.product.files import user_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from floe_orchestrator_dagster.product.engines import DbtEngine

_PACKAGED = Path(__file__).parent / "_demo"
_CHECKOUT = Path(__file__).parents[2] / "dbt_project"
_FIRST_WITH_ARGUMENTS = Version("1.10.5")
_ARGUMENTS_FLAG = re.compile(r"(?: *#.*\n)*( *require_generic_test_arguments_property:) true\n")
# Files that dbt, Python and runs generate in a checkout.
_GENERATED = frozenset({"target", "logs", "warehouse", "dbt_packages", "__pycache__", ".user.yml", "profiles.yml"})


def write_demo(directory: Path, engine: DbtEngine | None = None) -> Path:
    """Write the sample product to ``directory``, which is created when it is missing.

    Args:
        directory: Where to write it.
        engine: The dbt that will build it. For dbt-core before 1.10.5, the YAML files are written in their older form.

    Returns:
        Absolute path of its ``compiled_artifacts.json``.

    Raises:
        ProjectError: The directory is not empty or cannot be written. Existing files are never overwritten.
    """
    directory = user_path(directory, "DIRECTORY", ProjectError, "Write the path without `~`.")
    source = sample_path()
    try:
        _check_is_free(directory)
        for file in _files(source):
            target = directory / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        if engine is not None and engine.kind == "core" and Version(engine.version) < _FIRST_WITH_ARGUMENTS:
            _rewrite_for_older_dbt(directory)
    except OSError as error:
        what = f"cannot be written ({error.strerror})"
        raise ProjectError(str(directory), [Problem("", what, "Choose a directory that you can write.")]) from None
    return directory / "compiled_artifacts.json"


def _rewrite_for_older_dbt(directory: Path) -> None:
    """Move arguments of generic tests, and settings of sources, out of the sections that an older dbt does not know."""
    for file in [directory / "dbt_project.yml", *directory.glob("*/**/*.yml")]:
        text = _ARGUMENTS_FLAG.sub(r"\1 false\n", file.read_text(encoding="utf-8"))
        older = _without_section("arguments", text)
        file.write_text(_without_section("config", older) if "\nsources:" in older else older, encoding="utf-8")


def _without_section(name: str, text: str) -> str:
    """Move the content of each section of that name to the section around it."""
    pattern = rf"^(?P<indent> *){name}:\n(?P<content>(?:(?P=indent)  .*\n)+)"
    return re.sub(
        pattern, lambda found: re.sub(r"^  ", "", found["content"], flags=re.MULTILINE), text, flags=re.MULTILINE
    )


def sample_path() -> Path:
    """Find the sample product: in the installed package, or beside the source of an editable install.

    Raises:
        ProjectError: This installation has no sample product.
    """
    found = next((path for path in (_PACKAGED, _CHECKOUT) if (path / "floe.yaml").is_file()), None)
    if found is None:
        problem = Problem("", "this installation has no sample product", "Install the package from its wheel.")
        raise ProjectError(str(_PACKAGED), [problem])
    return found


def _check_is_free(directory: Path) -> None:
    if directory.is_dir():
        what = "is not empty" if any(directory.iterdir()) else ""
    else:
        what = "is a file" if directory.exists() or directory.is_symlink() else ""
    if what:
        fix = "Choose a new or empty directory. No file was written."
        raise ProjectError(str(directory), [Problem("", what, fix)])


def _files(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.iterdir()):
        if path.name in _GENERATED:
            continue
        if path.is_dir():
            yield from _files(path)
        else:
            yield path
