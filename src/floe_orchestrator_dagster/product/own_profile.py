"""The dbt profile that a user already has: ``profiles.yml`` beside the project or in ``~/.dbt``.

Only ``floe-dagster init`` reads it. Afterwards the compiled profile takes its place.

Search order: https://docs.getdbt.com/docs/core/connect-data-platform/connection-profiles
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.errors import Problem, ProfileError
from floe_orchestrator_dagster.product.files import user_path
from floe_orchestrator_dagster.product.templates import rendered
from floe_orchestrator_dagster.product.yaml_file import read_yaml
from floe_orchestrator_dagster.wording import closest, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROFILES_FILE = "profiles.yml"
PROFILES_DIR_VARIABLE = "DBT_PROFILES_DIR"

_DEFAULT_TARGET = "default"


@dataclass(frozen=True)
class OwnOutput:
    """An output of the user's dbt profile.

    Attributes:
        file: The ``profiles.yml``.
        place: Its place in the file.
        settings: The output, with its templates as they are.
    """

    file: Path
    place: str
    settings: Mapping[str, object]

    @property
    def adapter(self) -> str:
        """The dbt adapter, such as ``duckdb``."""
        return str(self.settings["type"])


def read_own_output(
    project: Path, profile: str, *, directory: Path | None = None, target: str | None = None
) -> OwnOutput:
    """Read the output that dbt would use for a project.

    Args:
        project: Directory of the dbt project.
        profile: Name of the profile in ``dbt_project.yml``.
        directory: Directory of ``profiles.yml``; None to search for it as dbt does.
        target: Name of the output; None for the profile's target.

    Raises:
        ProfileError: There is no ``profiles.yml``, or it has no valid output of that name.
    """
    file, content = _read_file(project, directory)
    found = content.get(profile)
    if not isinstance(found, Mapping):
        known = [str(name) for name in content if name != "config"]
        what = f"has no profile {profile!r}, which dbt_project.yml names (profiles: {_listed(known)})"
        likely = did_you_mean(closest(profile, known))
        fix = f"{likely}Add the profile, or set `profile:` in dbt_project.yml. {_ON_DUCKDB}"
        raise ProfileError(str(file), [Problem("", what, fix)])
    outputs = found.get("outputs")
    if not isinstance(outputs, Mapping) or not outputs:
        raise ProfileError(str(file), [Problem(f"{profile}.outputs", "has no output", "Add the output that dbt uses.")])
    name = target or _target(found, file, profile)
    settings = outputs.get(name)
    if not isinstance(settings, Mapping):
        what = f"has no output {name!r} (outputs: {_listed([str(output) for output in outputs])})"
        raise ProfileError(str(file), [Problem(profile, what, "Pass the name of one of them as --target.")])
    place = f"{profile}.outputs.{name}"
    if not isinstance(settings.get("type"), str):
        raise ProfileError(str(file), [Problem(f"{place}.type", "is missing", "Set it to the dbt adapter.")])
    return OwnOutput(file, place, settings)


_ON_DUCKDB = "To build on a DuckDB file instead, pass `--compute duckdb`."


def _read_file(project: Path, directory: Path | None) -> tuple[Path, Mapping[object, object]]:
    places = [directory] if directory else list(_places(project))
    file = next((path for place in places if (path := place / PROFILES_FILE).is_file()), None)
    if file is None:
        what = f"no {PROFILES_FILE} in {' and '.join(str(place) for place in places)}"
        fix = f"Pass its directory as --profiles-dir, or write it: `dbt init` creates one. {_ON_DUCKDB}"
        raise ProfileError(str(project), [Problem("", what, fix)])
    content = read_yaml(file, ProfileError)
    if not isinstance(content, Mapping):
        fix = "See https://docs.getdbt.com/docs/core/connect-data-platform/profiles.yml."
        raise ProfileError(str(file), [Problem("", "is not a YAML mapping", fix)])
    return file, content


def _places(project: Path) -> Iterator[Path]:
    named = os.environ.get(PROFILES_DIR_VARIABLE)
    if named:
        yield user_path(named, PROFILES_DIR_VARIABLE, ProfileError, "Write the path without `~`.")
        return
    yield project
    yield user_path("~/.dbt", "~/.dbt", ProfileError, "Pass the directory of profiles.yml as --profiles-dir.")


def _target(profile: Mapping[object, object], file: Path, name: str) -> str:
    target = rendered(str(profile.get("target") or _DEFAULT_TARGET))
    if target is None:
        what = "reads a variable that is not set"
        raise ProfileError(str(file), [Problem(f"{name}.target", what, "Set it, or pass the output as --target.")])
    return target


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
