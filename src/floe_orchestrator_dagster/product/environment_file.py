"""The file ``.env`` of a dbt project: environment variables that dbt reads since dbt-core 1.12.

https://docs.getdbt.com/reference/dbt-jinja-functions/env_var
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.version import Version

from floe_orchestrator_dagster.errors import EngineError, Problem, ProjectError
from floe_orchestrator_dagster.product.engines import find_engine

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from floe_orchestrator_dagster.product.engines import EngineChoice

ENVIRONMENT_FILE = ".env"
_FIRST_DBT_THAT_READS_IT = Version("1.12")


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
    return engine.kind == "v2" or Version(engine.version) >= _FIRST_DBT_THAT_READS_IT
