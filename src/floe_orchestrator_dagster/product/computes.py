"""dbt targets of the computes that a product's models use."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.errors import Problem, ProfileError
from floe_orchestrator_dagster.product.engines import EngineChoice
from floe_orchestrator_dagster.product.profiles import Place, resolve_paths
from floe_orchestrator_dagster.wording import validation_message

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from floe_core.schemas.compiled_artifacts import CompiledArtifacts

    from floe_orchestrator_dagster.config import DagsterConfig
    from floe_orchestrator_dagster.product.profiles import Profile
    from floe_orchestrator_dagster.product.project import ProjectDirectory

# Settings of floe-core's ComputeConfig that are not part of a connection.
_COMPUTE_SETTINGS = ("threads", "timeout_seconds")
# Keys that floe's compiler removes from a configuration, whatever their value. `password_env` is written instead.
_REMOVED_KEYS = frozenset({
    "accesskey", "apikey", "apitoken", "bearertoken", "clientsecret", "clienttoken", "password", "privatekey",
    "refreshtoken", "secret", "secretaccesskey", "secretkey", "token"
})  # fmt: skip
_VARIABLE_SUFFIX = "_env"
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def compute_profiles(
    artifacts: CompiledArtifacts, profile: Profile, config: DagsterConfig, project: ProjectDirectory, origin: str
) -> dict[str, Profile]:
    """Return the dbt profile of each compute, with the compute's target selected.

    The default compute uses the profile's selected target. For any other compute, the first of these that exists:

    1. the output of the same name,
    2. the only output of its type,
    3. an output from ``computes`` in the configuration. If floe has a compute plugin of that name, the plugin builds
       it. Otherwise it is the configured mapping.

    Raises:
        ProfileError: Some computes have no output, or an output that is not valid. The message lists all computes
            without one, each with its models.
    """
    transforms = artifacts.transforms
    if transforms is None:
        return {}
    found: dict[str, Profile] = {transforms.default_compute: profile}
    problems: list[Problem] = []
    for compute in dict.fromkeys(model.compute for model in transforms.models):
        if compute in found:
            continue
        target = _target_for(compute, profile)
        configured = config.computes.get(compute)
        connection = configured.connection if configured else None
        if target is not None:
            found[compute] = profile.on_target(target)
        elif connection is not None:
            place = Place(origin, config_path("computes", compute))
            output = resolve_paths(
                _built_output(compute, with_secrets(connection, place), artifacts, origin), project, place
            )
            outputs = {**profile.outputs, compute: output}
            found[compute] = replace(profile, outputs=outputs).on_target(compute)
        else:
            problems.extend(_without_output(artifacts, compute, profile))
    if problems:
        raise ProfileError(origin, problems)
    return found


def engine_choice(config: DagsterConfig, compute: str) -> EngineChoice:
    """Return the dbt engine that the configuration asks for, for the models of a compute."""
    of_compute = config.computes.get(compute)
    engine = of_compute.engine if of_compute else None
    return EngineChoice(engine or config.dbt.engine, config.dbt.executable)


def _target_for(compute: str, profile: Profile) -> str | None:
    if compute in profile.outputs:
        return compute
    of_type = [name for name, output in profile.outputs.items() if output["type"] == compute]
    return of_type[0] if len(of_type) == 1 else None


def with_secrets(settings: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """Return settings with an ``env_var()`` for each variable that has a secret, such as ``password_env: PG_PASSWORD``.

    Raises:
        ProfileError: The value is not the name of a variable.
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        inner = replace(place, where=f"{place.where}.{key}")
        name = str(key).removesuffix(_VARIABLE_SUFFIX)
        if name != key and re.sub(r"[^a-z0-9]", "", name.lower()) in _REMOVED_KEYS:
            found[name] = f"{{{{ env_var('{_variable_name(value, inner)}') }}}}"
        elif isinstance(value, dict):
            found[key] = with_secrets(value, inner)
        elif isinstance(value, list):
            places = (replace(inner, where=f"{inner.where}[{number}]") for number in range(len(value)))
            entries = zip(value, places, strict=True)
            found[key] = [with_secrets(entry, at) if isinstance(entry, dict) else entry for entry, at in entries]
        else:
            found[key] = value
    return found


def _variable_name(value: object, place: Place) -> str:
    if isinstance(value, str) and _VARIABLE_NAME.fullmatch(value):
        return value
    fix = "Write the name of the environment variable that has the secret, like `WAREHOUSE_PASSWORD`."
    raise ProfileError(place.file, [Problem(place.where, "must be the name of an environment variable", fix)])


def _built_output(
    compute: str, connection: Mapping[str, Any], artifacts: CompiledArtifacts, origin: str
) -> dict[str, object]:
    """Build a dbt output with floe's compute plugin; a refused connection is reported with the plugin's message."""
    from floe_core.compute_config import ComputeConfig
    from floe_core.plugin_errors import PluginError
    from floe_core.plugin_registry import get_registry
    from floe_core.plugin_types import PluginType
    from floe_core.plugins.compute import ComputePlugin

    # Checked first, because floe's registry logs an error for a missing plugin.
    if not entry_points(group=PluginType.COMPUTE.entry_point_group, name=compute):
        return {"type": compute, **connection}
    where = config_path("computes", compute)
    try:
        plugin = get_registry().get(PluginType.COMPUTE, compute)
        settings = {name: connection[name] for name in _COMPUTE_SETTINGS if name in connection}
        details = {name: value for name, value in connection.items() if name not in _COMPUTE_SETTINGS}
        if not isinstance(plugin, ComputePlugin):
            raise ProfileError(
                origin, [Problem(where, f"{compute!r} is not a floe compute plugin", "Correct its package.")]
            )
        output = plugin.generate_dbt_profile(ComputeConfig(plugin=compute, connection=details, **settings))
        return dict(plugin.augment_dbt_profile(output, artifacts.deployment))
    except (PluginError, ValueError, KeyError, TypeError) as error:
        what = f"the compute plugin {compute!r} refuses it: {_without_values(error)}"
        raise ProfileError(origin, [Problem(where, what, "Correct it in manifest.yaml.")]) from None


def _without_values(error: Exception) -> str:
    """Return the plugin's message without the value that pydantic repeats, which may be a password."""
    if isinstance(error, ValidationError):
        details = error.errors(include_url=False, include_input=False)
        return "; ".join(f"{'.'.join(map(str, detail['loc']))}: {validation_message(detail)}" for detail in details)
    return f"{type(error).__name__}: {error}"


def _without_output(artifacts: CompiledArtifacts, compute: str, profile: Profile) -> Iterator[Problem]:
    outputs = ", ".join(f"{name!r} ({output['type']})" for name, output in profile.outputs.items())
    for row, model in enumerate(artifacts.transforms.models if artifacts.transforms else []):
        if model.compute == compute:
            what = f"{model.name!r} needs compute {compute!r}, for which profile {profile.name!r} has no output"
            fix = (
                f"Set {config_path('computes', compute)} in manifest.yaml to its connection, or remove `compute:` "
                f"from the transform in floe.yaml, and compile again. Outputs: {outputs}."
            )
            yield Problem(f"transforms.models[{row}].compute", what, fix)
