"""One dbt target per compute: found in the compiled profile, else built from ``computes`` of the configuration."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.errors import Problem, ProfileError
from floe_orchestrator_dagster.product.profiles import Place, settle_paths
from floe_orchestrator_dagster.wording import refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from floe_core.schemas.compiled_artifacts import CompiledArtifacts

    from floe_orchestrator_dagster.config import DagsterConfig
    from floe_orchestrator_dagster.product.profiles import Profile
    from floe_orchestrator_dagster.product.project import ProjectDirectory

# Settings of floe-core's ComputeConfig that are not part of a connection.
_COMPUTE_SETTINGS = ("threads", "timeout_seconds")


def compute_profiles(
    artifacts: CompiledArtifacts, profile: Profile, config: DagsterConfig, project: ProjectDirectory, origin: str
) -> dict[str, Profile]:
    """Give each compute that a model asks for the profile with its own target.

    The default compute runs on the profile's target in use. Another one runs on the output of its name, else on the
    only output of its type, else on an output made from ``computes`` in the configuration: by floe's compute plugin
    of that name, or, where none is installed, taken as a dbt output as it stands.

    Raises:
        ProfileError: Computes without an output, all of them at once, each with its models.
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
        connection = config.computes.get(compute)
        if target is not None:
            found[compute] = profile.on_target(target)
        elif connection is not None:
            output = settle_paths(
                _built_output(compute, connection, artifacts, origin),
                project,
                Place(origin, config_path("computes", compute)),
            )
            outputs = {**profile.outputs, compute: output}
            found[compute] = replace(profile, outputs=outputs).on_target(compute)
        else:
            problems.extend(_without_output(artifacts, compute, profile))
    if problems:
        raise ProfileError(origin, problems)
    return found


def _target_for(compute: str, profile: Profile) -> str | None:
    if compute in profile.outputs:
        return compute
    of_type = [name for name, output in profile.outputs.items() if output["type"] == compute]
    return of_type[0] if len(of_type) == 1 else None


def _built_output(
    compute: str, connection: Mapping[str, Any], artifacts: CompiledArtifacts, origin: str
) -> dict[str, object]:
    """Let floe's compute plugin write the output; its own words explain a connection that it refuses."""
    from floe_core.compute_config import ComputeConfig
    from floe_core.plugin_errors import PluginError
    from floe_core.plugin_registry import get_registry
    from floe_core.plugin_types import PluginType
    from floe_core.plugins.compute import ComputePlugin

    # Asked here, because floe's registry logs a plugin that is not there as if something were wrong.
    if not entry_points(group=PluginType.COMPUTE.entry_point_group, name=compute):
        return {"type": compute, **connection}
    where = config_path("computes", compute)
    try:
        plugin = get_registry().get(PluginType.COMPUTE, compute)
        settings = {name: connection[name] for name in _COMPUTE_SETTINGS if name in connection}
        details = {name: value for name, value in connection.items() if name not in _COMPUTE_SETTINGS}
        if not isinstance(plugin, ComputePlugin):
            raise ProfileError(
                origin, [Problem(where, f"{compute!r} is no floe compute plugin", "Correct its package.")]
            )
        output = plugin.generate_dbt_profile(ComputeConfig(plugin=compute, connection=details, **settings))
        return dict(plugin.augment_dbt_profile(output, artifacts.deployment))
    except (PluginError, ValueError, KeyError, TypeError) as error:
        what = f"the compute plugin {compute!r} refuses it: {_without_values(error)}"
        raise ProfileError(origin, [Problem(where, what, "Correct it in manifest.yaml.")]) from None


def _without_values(error: Exception) -> str:
    """Say what a plugin said, but not the value that pydantic repeats: it may be a password."""
    if isinstance(error, ValidationError):
        details = error.errors(include_url=False, include_input=False)
        return "; ".join(f"{'.'.join(map(str, detail['loc']))}: {refusal(detail)}" for detail in details)
    return f"{type(error).__name__}: {error}"


def _without_output(artifacts: CompiledArtifacts, compute: str, profile: Profile) -> Iterator[Problem]:
    outputs = ", ".join(f"{name!r} ({output['type']})" for name, output in profile.outputs.items())
    for row, model in enumerate(artifacts.transforms.models if artifacts.transforms else []):
        if model.compute == compute:
            what = f"{model.name!r} asks for compute {compute!r}, and no output of profile {profile.name!r} is its own"
            fix = (
                f"Set {config_path('computes', compute)} in manifest.yaml to its connection, or remove `compute:` "
                f"from the transform in floe.yaml, and compile again. Outputs: {outputs}."
            )
            yield Problem(f"transforms.models[{row}].compute", what, fix)
