"""A first ``floe.yaml`` and ``manifest.yaml`` for a dbt project, compiled and prepared: ``floe-dagster init``."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from floe_core.schemas.floe_spec import DBT_MODEL_NAME_PATTERN, FLOE_NAME_PATTERN, SEMVER_PATTERN

from floe_orchestrator_dagster.config.crons import check_cron, check_timezone
from floe_orchestrator_dagster.deploy.entrypoint import write_entry_point
from floe_orchestrator_dagster.errors import EntryPointError, Problem, ProfileError, ProjectError, SpecError
from floe_orchestrator_dagster.inspect.validation import examine_product
from floe_orchestrator_dagster.product import orchestrator_config
from floe_orchestrator_dagster.product.compilation import (
    ARTIFACTS_FILE,
    MANIFEST_FILE,
    compile_command,
    compile_product,
)
from floe_orchestrator_dagster.product.compute_settings import DUCKDB, NEW_FILE, check_plugin, compute_settings
from floe_orchestrator_dagster.product.computes import engine_choice
from floe_orchestrator_dagster.product.own_profile import read_own_output
from floe_orchestrator_dagster.product.prepare import parse_project, prepare_manifest
from floe_orchestrator_dagster.product.profiles import select_profile
from floe_orchestrator_dagster.product.project import (
    PROJECT_DIR_VARIABLE,
    PROJECT_FILE,
    find_project_path,
    read_project_directory,
)
from floe_orchestrator_dagster.product.spec import SPEC_FILE
from floe_orchestrator_dagster.product.values import DbtConnection
from floe_orchestrator_dagster.product.yaml_file import read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from floe_orchestrator_dagster.inspect.validation import Findings
    from floe_orchestrator_dagster.product.manifest import Manifest

_LONGEST_NAME = 63
_FIRST_VERSION = "1.0.0"
_PLATFORM_OWNER = "data-platform"
_REFERENCE = "https://github.com/Obsidian-Owl/floe/tree/main/docs"
_SPEC_HEAD = f"# The data product: its name, its models and its schedule.\n# Reference: {_REFERENCE}\n"
_MANIFEST_HEAD = (
    "# The platform: where dbt builds (compute), and the configuration of Dagster (orchestrator).\n"
    f"# Reference: {_REFERENCE}\n"
)
_DRAFT_MODEL = "draft"


@dataclass(frozen=True)
class InitialOptions:
    """Options of ``floe-dagster init``.

    Attributes:
        name: Name of the product; None for one that is derived from the dbt project's.
        compute: floe's compute; None for the adapter of the dbt profile.
        target: Output of the dbt profile; None for the profile's target.
        profiles_dir: Directory of ``profiles.yml``; None to search for it as dbt does.
        schedule: A cron; None for no schedule.
        timezone: The schedule's IANA timezone.
        key_prefix: First parts of every asset key.
        overwrite: Whether existing files are replaced.
        no_deps: Whether the installed dbt packages are used, without ``dbt deps``.
    """

    name: str | None = None
    compute: str | None = None
    target: str | None = None
    profiles_dir: Path | None = None
    schedule: str | None = None
    timezone: str = "UTC"
    key_prefix: Sequence[str] = ()
    overwrite: bool = False
    no_deps: bool = False


@dataclass(frozen=True)
class InitialProduct:
    """The written product.

    Attributes:
        name: Name of the product.
        directory: Directory of the dbt project.
        files: The written files.
        models: Number of models in ``floe.yaml``.
        notes: Notes for the user, one sentence each.
        findings: Result of the validation.
        command: The command line that starts Dagster in the directory.
    """

    name: str
    directory: Path
    files: tuple[Path, ...]
    models: int
    notes: tuple[str, ...]
    findings: Findings
    command: str


def existing_files(directory: Path) -> list[Path]:
    """Return the existing ``floe.yaml``, which is replaced only with ``--overwrite``."""
    return [path for path in (directory / SPEC_FILE,) if path.exists()]


def suggested_name(directory: Path) -> str:
    """Derive a name that floe accepts from that of the dbt project, such as ``jaffle-shop`` from ``jaffle_shop``.

    Raises:
        ProjectError: ``dbt_project.yml`` is missing or not valid.
    """
    return _accepted_name(str(_settings(directory).get("name") or directory.name))


def write_initial_product(directory: Path, options: InitialOptions) -> InitialProduct:
    """Write ``floe.yaml``, ``manifest.yaml``, artifacts and ``definitions.py`` into a dbt project, and prepare it.

    An existing ``manifest.yaml`` belongs to the platform team and is used as it is, unless it may be overwritten. No
    file of floe is written before dbt has parsed the project.

    Raises:
        FloeDagsterError: The dbt project or its profile is missing, the compute has no plugin, floe refuses the name, a
            file may not be overwritten, or dbt cannot parse the project.
    """
    directory = directory.absolute()
    name = _checked_name(options.name or suggested_name(directory))
    _check_environment(directory)
    _check_schedule(options)
    if existing_files(directory) and not options.overwrite:
        fix = f"Compile it: `{compile_command()}`. Or pass --overwrite to write a new one."
        raise ProjectError(str(directory / SPEC_FILE), [Problem("", "exists and is not overwritten", fix)])
    manifest_file = directory / MANIFEST_FILE
    notes: list[str] = []
    keeps_manifest = manifest_file.exists() and not options.overwrite
    if keeps_manifest:
        _check_unused(options, manifest_file)
        notes.append(f"{MANIFEST_FILE} exists and is used as it is.")
    platform = None if keeps_manifest else _platform(directory, name, options, notes)
    manifest = _parsed(directory, name, options, platform)
    models = _declarable(manifest, notes)
    written = [] if platform is None else [_write(manifest_file, _MANIFEST_HEAD, platform)]
    written.append(_write(directory / SPEC_FILE, _SPEC_HEAD, _spec(directory, name, options, models)))
    artifacts = directory / ARTIFACTS_FILE
    compile_product(directory / SPEC_FILE, manifest_file).to_json_file(artifacts)
    # dbt has parsed the project with this profile, so `dagster dev` need not parse it again for newer artifacts.
    os.utime(artifacts, (parsed := manifest.path.stat().st_mtime, parsed))
    findings = examine_product(artifacts)
    entry_point = _entry_point(name, directory)
    written += [artifacts, *([entry_point] if entry_point else [])]
    command = "dagster dev -f definitions.py" if entry_point else _ENVIRONMENT_COMMAND
    return InitialProduct(name, directory, tuple(written), len(models), tuple(notes), findings, command)


_ENVIRONMENT_COMMAND = f"FLOE_ARTIFACTS_PATH={ARTIFACTS_FILE} dagster dev -m floe_orchestrator_dagster.definitions"


def _settings(directory: Path) -> Mapping[str, object]:
    path = directory / PROJECT_FILE
    if not path.is_file():
        fix = "Pass the directory of a dbt project. `floe-dagster demo DIRECTORY` writes a project."
        raise ProjectError(str(directory), [Problem("", f"has no {PROJECT_FILE}", fix)])
    settings = read_yaml(path, ProjectError)
    if not isinstance(settings, dict):
        problem = Problem("", "is not a YAML mapping", "See https://docs.getdbt.com/reference/dbt_project.yml.")
        raise ProjectError(str(path), [problem])
    return settings


def _accepted_name(text: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    name = words if re.match("[a-z]", words) else f"product-{words}"
    return name[:_LONGEST_NAME].rstrip("-")


def _checked_name(name: str) -> str:
    if re.fullmatch(FLOE_NAME_PATTERN.strip("^$"), name) and len(name) <= _LONGEST_NAME:
        return name
    what = f"{name!r} is not a name of a product: lowercase letters, digits and hyphens, {_LONGEST_NAME} at most"
    fix = f"Pass another one, such as `--name {_accepted_name(name)}`."
    raise SpecError("--name", [Problem("", what, fix)])


def _check_environment(directory: Path) -> None:
    """Check that a variable does not name another dbt project, which would be prepared instead of this one."""
    if os.environ.get(PROJECT_DIR_VARIABLE) and find_project_path(None) != directory:
        raise ProjectError(
            PROJECT_DIR_VARIABLE, [Problem("", f"is set to another dbt project than {directory}", "Unset it.")]
        )


def _check_schedule(options: InitialOptions) -> None:
    """Check the schedule before a file is written, so that a corrected command can follow.

    Raises:
        ScheduleError: The cron or the timezone is not valid.
    """
    if options.schedule:
        check_cron(options.schedule)
    check_timezone(options.timezone)


def _check_unused(options: InitialOptions, manifest_file: Path) -> None:
    """Check that no option is given that would only change a new ``manifest.yaml``."""
    given = {
        "--key-prefix": options.key_prefix,
        "--compute": options.compute,
        "--target": options.target,
        "--profiles-dir": options.profiles_dir,
    }
    unused = [option for option, value in given.items() if value]
    if unused:
        what = f"exists and is used as it is, so {', '.join(unused)} would have no effect"
        fix = "Leave the options out, and set their values in this file. Or pass --overwrite to write a new one."
        raise ProjectError(str(manifest_file), [Problem("", what, fix)])


def _platform(directory: Path, name: str, options: InitialOptions, notes: list[str]) -> Mapping[str, object]:
    """Build the content of ``manifest.yaml``."""
    compute, config = _compute(directory, options, notes)
    orchestrator = {"key_prefix": list(options.key_prefix)} if options.key_prefix else {}
    return {
        "apiVersion": "floe.dev/v1",
        "kind": "Manifest",
        "metadata": {
            "name": f"{name[: _LONGEST_NAME - 9]}-platform",
            "version": _FIRST_VERSION,
            "owner": _PLATFORM_OWNER,
        },
        "plugins": {
            "compute": {"type": compute, "config": config},
            "orchestrator": {"type": "dagster", "config": orchestrator},
        },
        "observability": {"lineage": {"enabled": False}},
    }


def _compute(directory: Path, options: InitialOptions, notes: list[str]) -> tuple[str, Mapping[str, object]]:
    if options.compute is not None:
        check_plugin(options.compute, "--compute")
        return options.compute, {"path": NEW_FILE, "threads": 4} if options.compute == DUCKDB else {}
    profile = _settings(directory).get("profile")
    if not isinstance(profile, str) or "{{" in profile:
        fix = f"Set `profile:` to the profile in profiles.yml. To build on a DuckDB file, pass `--compute {DUCKDB}`."
        what = "is missing" if profile is None else "is a template, which only dbt can render"
        raise ProfileError(str(directory / PROJECT_FILE), [Problem("profile", what, fix)])
    output = read_own_output(directory, profile, directory=options.profiles_dir, target=options.target)
    config, left_out = compute_settings(output)
    notes += [f"The compute is that of {output.file} ({output.place}).", *left_out]
    return output.adapter, config


def _parsed(directory: Path, name: str, options: InitialOptions, platform: Mapping[str, object] | None) -> Manifest:
    """Parse the dbt project with the profile that floe compiles, from drafts of both files."""
    with tempfile.TemporaryDirectory(prefix="floe-init-") as scratch:
        manifest_file = directory / MANIFEST_FILE
        if platform is not None:
            manifest_file = _write(Path(scratch) / MANIFEST_FILE, "", platform)
        spec_file = _write(Path(scratch) / SPEC_FILE, "", _spec(directory, name, options, [_DRAFT_MODEL]))
        try:
            artifacts = compile_product(spec_file, manifest_file)
        except SpecError as error:  # the drafts are gone when the message is read
            problems = [replace(one, what=one.what.replace(scratch, str(directory))) for one in error.problems]
            raise SpecError(error.origin.replace(scratch, str(directory)), problems) from None
    project, origin = read_project_directory(directory, name), str(directory / MANIFEST_FILE)
    compute = artifacts.transforms.default_compute if artifacts.transforms else ""
    choice = engine_choice(orchestrator_config(artifacts, origin), compute)
    connection = DbtConnection(project, select_profile(artifacts, project, origin, choice), choice=choice)
    return parse_project(connection) if options.no_deps else prepare_manifest(connection)


def _declarable(manifest: Manifest, notes: list[str]) -> list[str]:
    """List the project's models that floe can declare, by file.

    Raises:
        ProjectError: There is none, and floe does not accept a product without models.
    """
    names = [*dict.fromkeys(_own_models(manifest))]
    accepted = [name for name in names if re.fullmatch(DBT_MODEL_NAME_PATTERN.strip("^$"), name)]
    refused = [name for name in names if name not in accepted]
    if refused:
        notes.append(
            f"floe does not accept the name {', '.join(refused)}. dbt builds it, but floe.yaml does not list it."
        )
    if not accepted:
        fix = "Add a model. A name is letters, digits and `_`."
        raise ProjectError(str(manifest.path), [Problem("", "the project has no model that floe can declare", fix)])
    return accepted


def _own_models(manifest: Manifest) -> Iterator[str]:
    project = (manifest.content.get("metadata") or {}).get("project_name")
    nodes = [node for node in manifest.content["nodes"].values() if node["resource_type"] == "model"]
    for node in sorted(nodes, key=lambda node: str(node.get("original_file_path"))):
        if node.get("package_name") == project and node["config"].get("materialized") != "ephemeral":
            yield str(node["name"])


def _spec(directory: Path, name: str, options: InitialOptions, models: Sequence[str]) -> Mapping[str, object]:
    """Build the content of ``floe.yaml``."""
    written = str(_settings(directory).get("version") or "")
    version = written if re.fullmatch(SEMVER_PATTERN.strip("^$"), written) else _FIRST_VERSION
    schedule = {"schedule": {"cron": options.schedule, "timezone": options.timezone}} if options.schedule else {}
    return {
        "apiVersion": "floe.dev/v1",
        "kind": "FloeSpec",
        "metadata": {"name": name, "version": version},
        "platform": {"manifest": MANIFEST_FILE},
        "transforms": [{"name": model} for model in models],
        **schedule,
    }


def _write(path: Path, head: str, content: Mapping[str, object]) -> Path:
    text = head + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        problem = Problem("", f"cannot be written ({error.strerror})", "Use a directory that you can write.")
        raise ProjectError(str(path), [problem]) from None
    return path


def _entry_point(name: str, directory: Path) -> Path | None:
    """Write ``definitions.py``; None if the directory has one that floe did not generate."""
    try:
        return write_entry_point(name, directory)
    except EntryPointError:
        return None
