"""Settings of floe's compute plugin, taken from the user's own dbt profile."""

from __future__ import annotations

import re
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from floe_core.plugin_types import PluginType

from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.errors import Problem, ProfileError
from floe_orchestrator_dagster.product.templates import read_from_environment, rendered
from floe_orchestrator_dagster.redaction import is_secret_name, secrets_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from floe_orchestrator_dagster.product.own_profile import OwnOutput

DUCKDB = "duckdb"
NEW_FILE = "warehouse/{product_slug}.duckdb"

_MEMORY = ":memory:"
# Settings of a DuckDB output that floe's compute plugin passes on.
_PASSED_ON = frozenset({"attach", "extensions", "path", "settings", "threads", "timeout_seconds"})
_NUMBERS = frozenset({"threads", "timeout_seconds"})
_TEMPLATE = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_ATTACH_KEYS = frozenset({"path", "alias", "type"})


def compute_settings(output: OwnOutput) -> tuple[Mapping[str, object], list[str]]:
    """Return the settings of floe's compute plugin for an output of a dbt profile, and notes on what is left out.

    Raises:
        ProfileError: floe has no plugin for the adapter, or a credential would be copied.
    """
    check_plugin(output.adapter, f"{output.file}: {output.place}.type")
    _check_credentials(output)
    notes: list[str] = []
    config = _duckdb_config(output, notes) if output.adapter == DUCKDB else _config(output, notes)
    return config, notes


def check_plugin(compute: str, origin: str) -> None:
    """Check that floe has a plugin for a compute.

    Raises:
        ProfileError: It has none in this environment.
    """
    installed = sorted(point.name for point in entry_points(group=PluginType.COMPUTE.entry_point_group))
    if compute in installed:
        return
    what = (
        f"floe has no compute plugin for {compute!r} in this environment (installed: {', '.join(installed) or 'none'})"
    )
    of_duckdb = f"pip install floe-compute-{DUCKDB}"
    fix = (
        f"Install floe's plugin for it: {of_duckdb}."
        if compute == DUCKDB
        else f"Install floe's plugin for it. Or build on a DuckDB file with `--compute {DUCKDB}`"
        f"{'' if DUCKDB in installed else f' ({of_duckdb})'}, and add the connection in {config_path('computes')}."
    )
    raise ProfileError(origin, [Problem("", what, fix)])


def _check_credentials(output: OwnOutput) -> None:
    """Check that no credential would be copied from the profile, which may be private, into ``manifest.yaml``."""
    copied = {key: value for key, value in output.settings.items() if not is_secret_name(str(key))}
    if output.adapter == DUCKDB:
        copied = {key: value for key, value in copied.items() if key in _PASSED_ON}
    # Defaults of `env_var` count, because they are copied, too.
    found = secrets_of(
        copied,
        variables=partial(read_from_environment, environment={}),
        render=partial(rendered, environment={}),
    )
    if any("{{" not in secret for secret in found) or any(_has_literal(value) for value in _secret_values(copied)):
        what = "contains a credential, which is not copied to manifest.yaml"
        fix = "Write it as `{{ env_var('NAME') }}` in the profile, set the variable, and run the command again."
        raise ProfileError(str(output.file), [Problem(output.place, what, fix)])


def _secret_values(content: object, *, is_secret: bool = False) -> Iterator[str]:
    """Yield the strings below keys that name a secret."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _secret_values(value, is_secret=is_secret or is_secret_name(str(key)))
    elif isinstance(content, list):
        for value in content:
            yield from _secret_values(value, is_secret=is_secret)
    elif is_secret and isinstance(content, str):
        yield content


def _has_literal(template: str) -> bool:
    """Return whether a string has text outside of its templates."""
    return bool(_TEMPLATE.sub("", template).strip())


def _duckdb_config(output: OwnOutput, notes: list[str]) -> Mapping[str, object]:
    settings = {str(key): value for key, value in output.settings.items()}
    config = {key: value for key, value in settings.items() if key in _PASSED_ON}
    for key in _NUMBERS & config.keys():
        text = rendered(str(config[key]))
        if text is not None and text.isdigit():
            config[key] = int(text)
        else:
            del config[key]
            notes.append(f"{key} of the profile is not a number. It was left out.")
    path = str(settings.get("path") or _MEMORY)
    if path.startswith(_MEMORY):
        config["path"] = NEW_FILE
        notes.append(
            "The profile's database is in memory, so its tables would not last. The product uses a file in warehouse/."
        )
    elif path.startswith("/") and "{{" not in path and not Path(path).parent.is_dir():
        notes.append(
            f"This machine has no directory for the profile's {path}. For a new DuckDB file in warehouse/, run the "
            f"command again with `--overwrite --compute {DUCKDB}`."
        )
    attached = config.get("attach")
    if isinstance(attached, list):
        config["attach"] = [_attachment(entry) if isinstance(entry, dict) else entry for entry in attached]
    left = sorted(set(settings) - _PASSED_ON - {"type"})
    if left:
        notes.append(f"floe's DuckDB plugin has no setting {', '.join(left)}. The profile's values are left out.")
    return config


def _attachment(entry: Mapping[str, object]) -> Mapping[str, object]:
    """Return an entry of ``attach`` as floe's plugin reads it: settings other than the common ones are options."""
    others = {key: value for key, value in entry.items() if key not in _ATTACH_KEYS}
    common = {key: value for key, value in entry.items() if key in _ATTACH_KEYS}
    return {**common, "options": others} if others else common


def _config(output: OwnOutput, notes: list[str]) -> Mapping[str, object]:
    secret = sorted(str(key) for key in output.settings if is_secret_name(str(key)))
    if secret:
        notes.append(f"{', '.join(secret)} of the profile: left out. The compute plugin reads credentials elsewhere.")
    return {str(key): value for key, value in output.settings.items() if key != "type" and str(key) not in secret}
