"""Import of dagster-dbt without dbt and sqlglot.

The import of dbt costs CPU and memory in each process that loads a product: code servers, run workers and steps. None
of them runs dbt in the same process. Since 0.29, dagster-dbt works without an installed dbt-core. This module imports
it as if dbt-core were not installed, and then sets the version of the installed dbt-core, so that a user's
``DbtCliResource`` works in the same process. Older versions of dagster-dbt are imported with dbt.

dagster-dbt imports sqlglot for the column lineage of ``with_column_lineage``. It gets stand-ins for the names that it
imports from there. The first use of one of them imports sqlglot.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
import threading
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from floe_orchestrator_dagster.upstream import patches

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PACKAGE = "dagster_dbt"
# The file and names in which dagster-dbt stores the version of dbt-core, and its value without dbt-core.
_COMPAT_FILE = "compat.py"
_DBT_VERSION = "DBT_PYTHON_VERSION"
_NONE_SAID = f"{_DBT_VERSION} = None"
# The module from which dagster-dbt imports this version.
_PROBED = "dbt.version"
# dbt v2 is an executable without Python modules.
_FIRST_WITHOUT_MODULES = 2
# The library that dagster-dbt lists when it finds no dbt-core.
_NO_DBT_CORE = "dbt-fusion"
_SQLGLOT = "sqlglot"
_SQLGLOT_MODULES = (_SQLGLOT, "sqlglot.expressions", "sqlglot.lineage", "sqlglot.optimizer")


def import_dagster_dbt() -> None:
    """Import dagster-dbt without dbt, if its version supports that.

    Without effect when either of them is already imported.
    """
    if _PACKAGE in sys.modules or _PROBED in sys.modules or not patches.is_active(patches.DBT_IMPORT):
        return
    try:
        with _dbt_hidden(), _sqlglot_postponed():
            importlib.import_module(_PACKAGE)
    except ImportError as error:
        patches.give_up(patches.DBT_IMPORT, str(error))
        # Python removes modules whose import failed, so that they can be imported again.
        importlib.import_module(_PACKAGE)
    installed = _installed_core()
    if installed is not None:
        _set_version(installed)


def find_problem() -> str | None:
    """Return the reason why dagster-dbt cannot be imported without dbt; None when it can."""
    version = importlib.metadata.version(patches.DBT_IMPORT.package)
    if Version(version) < Version(patches.DBT_IMPORT.since):
        return f"dagster-dbt {version} always imports dbt"
    found = importlib.util.find_spec(_PACKAGE)
    compat = Path(found.origin).with_name(_COMPAT_FILE) if found and found.origin else None
    if compat and compat.is_file() and _NONE_SAID in compat.read_text(encoding="utf-8"):
        return None
    return f"dagster-dbt has no {_NONE_SAID!r} in {_COMPAT_FILE}"


def _installed_core() -> Version | None:
    """Return the version of the dbt-core 1.x that can be imported. dbt v2 is published as dbt-core too."""
    try:
        found = importlib.util.find_spec(_PROBED)
        version = Version(importlib.metadata.version("dbt-core"))
    except ModuleNotFoundError:  # also importlib.metadata.PackageNotFoundError
        return None
    return version if found and version.major < _FIRST_WITHOUT_MODULES else None


class _HidingDbt(MetaPathFinder):
    """Import hook that hides dbt-core in the thread that created it."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None) -> None:
        if name == _PROBED and threading.get_ident() == self._thread:
            message = f"{name} is hidden while dagster-dbt is imported"
            raise ModuleNotFoundError(message, name=name)


@contextmanager
def _dbt_hidden() -> Iterator[None]:
    finder = _HidingDbt()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _PostponedModule(ModuleType):
    """Stand-in for a module of sqlglot while dagster-dbt is imported."""

    def __getattr__(self, name: str) -> _PostponedName:
        if name.startswith("__"):
            raise AttributeError(name)
        return _PostponedName(self.__name__, name)


class _PostponedName:
    """Stand-in for a function, class or module of sqlglot, which is imported by its first use."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # as in sqlglot
        return getattr(self._imported(), name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401  # as in sqlglot
        return self._imported()(*arguments, **options)

    def _imported(self) -> Any:  # noqa: ANN401  # as in sqlglot
        module = importlib.import_module(self._module)
        if isinstance(module, _PostponedModule):
            message = f"dagster-dbt uses {self._module}.{self._name} while it is imported"
            raise ImportError(message)  # noqa: TRY004  # as for a module that cannot be imported
        return getattr(module, self._name)


@contextmanager
def _sqlglot_postponed() -> Iterator[None]:
    """Import stand-ins for sqlglot, unless it is already imported."""
    if _SQLGLOT in sys.modules:
        yield
        return
    postponed = {name: _PostponedModule(name) for name in _SQLGLOT_MODULES}
    sys.modules.update(postponed)
    try:
        yield
    finally:
        for name in postponed:
            sys.modules.pop(name, None)


def _set_version(version: Version) -> None:
    """Set the version of dbt-core in the imported modules of dagster-dbt, and in Dagster's list of libraries."""
    from dagster_shared.libraries import DagsterLibraryRegistry

    for name, module in [*sys.modules.items()]:
        if name.startswith(_PACKAGE) and vars(module).get(_DBT_VERSION, version) is None:
            vars(module)[_DBT_VERSION] = version
    libraries: Any = getattr(DagsterLibraryRegistry, "_libraries", {})
    libraries.pop(_NO_DBT_CORE, None)
    DagsterLibraryRegistry.register("dbt-core", version.base_version, is_dagster_package=False)
