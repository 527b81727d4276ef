"""Options of one run for dbt, set in the launchpad or as run configuration.

This module does not postpone the evaluation of annotations, because Dagster reads those of configuration classes.
"""

import json
from collections.abc import Mapping
from typing import Any

import dagster as dg
from pydantic import Field

from floe_orchestrator_dagster.errors import DbtSetupError
from floe_orchestrator_dagster.product import DbtConnection

_FLAGS = (
    "--empty",
    "--no-empty",
    "--no-partial-parse",
    "--no-populate-cache",
    "--no-store-failures",
    "--no-version-check",
    "--no-warn-error",
    "--show-all-deprecations",
    "--store-failures",
    "--use-fast-test-edges",
    "--warn-error",
)
PREFIXES = ("DBT_ENGINE_", "DBT_")
"""Prefixes of dbt's environment variables: since dbt-core 1.11, and in all versions."""
# Names of variables, after the prefix, with which dbt reads or writes other rows, and from which tables it reads them.
_OTHER_ROWS = ("EMPTY", "SAMPLE", "FULL_REFRESH", "EVENT_TIME_START", "EVENT_TIME_END")
_OTHER_TABLES = ("DEFER", "DEFER_STATE", "FAVOR_STATE")
_NO = {"", "0", "false", "f", "no", "n", "off"}
CHANGED = "changed"
BUILD_TAG = "floe/build"
"""Tag of runs whose job or schedule chooses what they build."""
BUILDS = ("all", CHANGED)
OPTION_TAG = "floe/dbt_"
"""Prefix of the tags with options of dbt that a run's job or schedule sets."""
_OF_YES_OR_NO = ("empty", "defer", "favor_state")
_TAGGED = (*_OF_YES_OR_NO, "sample", "state")
_EMPTY = ("--empty", "--no-empty")
_KNOWN_FLAGS = f"known flags are {', '.join(_FLAGS)}"
_INSTEAD = {
    "--select": "launch the run for the assets that you want",
    "-s": "launch the run for the assets that you want",
    "--models": "launch the run for the assets that you want",
    "-m": "launch the run for the assets that you want",
    "--selector": "launch the run for the assets that you want",
    "--exclude": "set `exclude`",
    "--vars": "set `vars`",
    "--threads": "set `threads`",
    "--target": "set `target`",
    "-t": "set `target`",
    "--full-refresh": "set `full_refresh`",
    "-f": "set `full_refresh`",
    "--fail-fast": "set `fail_fast`",
    "-x": "set `fail_fast`",
    "--profile": "choose another `target`: the profile is the compiled one",
    "--profiles-dir": "choose another `target`: the profile is the compiled one",
    "--project-dir": "set the environment variable FLOE_DBT_PROJECT_DIR of the code location",
    "--target-path": "set the environment variable FLOE_STATE_DIR of the code location",
    "--log-path": "see the step's captured output",
    "--log-format": "see the step's captured output",
    "--log-level": "see the step's captured output, which has all of dbt's log",
    "--sample": "set `sample`",
    "--event-time-start": "launch the run for a partition",
    "--event-time-end": "launch the run for a partition",
}


class SourceOptions(dg.Config):
    """dbt's options for one run of source freshness."""

    vars: dict[str, Any] = Field(default_factory=dict, description="dbt variables; they override the project's.")
    threads: int | None = Field(default=None, description="Threads, 1 or more. The default is the profile's.")
    target: str | None = Field(default=None, description="Output of the compiled profile to run on.")
    exclude: str | None = Field(default=None, description="dbt selection to leave out, such as tag:slow.")

    def arguments(self) -> list[str]:
        """Return dbt's arguments, without selection and variables.

        Raises:
            DbtSetupError: A flag or the number of threads is not valid. The message has the alternative to the flag.
        """
        if self.threads is None:
            return []
        if self.threads < 1:
            raise DbtSetupError(
                f"run configuration, threads: {self.threads} is too few. Give 1 or more, or leave it out."
            )
        return ["--threads", str(self.threads)]

    def connection(self, dbt: DbtConnection) -> DbtConnection:
        """Return the connection with the run's target.

        Raises:
            DbtSetupError: The profile does not have this output.
        """
        if self.target is None:
            return dbt
        outputs = dbt.profile.outputs
        if self.target not in outputs:
            raise DbtSetupError(
                f"run configuration, target: {self.target!r} is not an output of the dbt profile {dbt.profile.name!r}. "
                f"Choose one of {', '.join(map(repr, outputs))}."
            )
        return DbtConnection(dbt.directory, dbt.profile.on_target(self.target), choice=dbt.choice)


class DbtOptions(SourceOptions):
    """dbt's options for one run of ``dbt build``."""

    full_refresh: bool = Field(default=False, description="Rebuild incremental models and seeds from scratch.")
    fail_fast: bool = Field(default=False, description="Stop at the first failure.")
    build: str | None = Field(
        default=None, description="all, or changed to reuse tables whose code and inputs have not changed."
    )
    sample: str | None = Field(
        default=None, description="Window of event times to read, such as 3 days, or a mapping with start and end."
    )
    empty: bool | None = Field(default=None, description="Build tables without rows.")
    defer: bool | None = Field(
        default=None, description="Read tables that this run does not build from those of the state."
    )
    state: str | None = Field(
        default=None,
        description="Directory with a manifest.json to defer to, or URL of published states.",
    )
    favor_state: bool | None = Field(
        default=None, description="With defer, read them from the state also if they exist here."
    )
    flags: list[str] = Field(default_factory=list, description=f"Further flags of dbt build: {', '.join(_FLAGS)}.")

    @property
    def builds_changed(self) -> bool | None:
        """Whether only changed nodes are built; None if the run does not choose.

        Raises:
            DbtSetupError: The choice is not valid.
        """
        if self.build not in {None, *BUILDS}:
            known = ", ".join(map(repr, BUILDS))
            raise DbtSetupError(f"run configuration, build: {self.build!r} is not valid. Choose one of {known}.")
        return None if self.build is None else self.build == CHANGED

    def of_run(self, tags: Mapping[str, str]) -> "DbtOptions":
        """Return the options, completed with those that the job or schedule of the run sets.

        Args:
            tags: The run's tags.

        Raises:
            DbtSetupError: A tag is not valid.
        """
        open_options = {name for name in _TAGGED if getattr(self, name) is None}
        if any(flag in self.flags for flag in _EMPTY):
            open_options.discard("empty")
        given = {name: tags[f"{OPTION_TAG}{name}"] for name in open_options if f"{OPTION_TAG}{name}" in tags}
        return self.model_copy(update={name: _tagged(name, value) for name, value in given.items()})

    @property
    def other_rows(self) -> str | None:
        """The option with which dbt reads or writes other rows than in the product's usual runs; None without one."""
        asked = {
            "vars": self.vars,
            "target": self.target,
            "sample": self.sample,
            "empty": self.empty,
            "--empty": "--empty" in self.flags,
            "defer": self.defer,
        }
        return next((name for name, value in asked.items() if value), None)

    def difference(self, environment: Mapping[str, str]) -> str | None:
        """Return why the tables of this run are not those of the product's usual runs; None if they are.

        Args:
            environment: The environment variables that dbt reads.
        """
        chosen = self.other_rows
        return f"the run sets {chosen}" if chosen else _environment_difference(environment)

    def arguments(self) -> list[str]:
        """Return dbt's arguments, as :meth:`SourceOptions.arguments` does."""
        refused = [_refusal(flag) for flag in self.flags if flag not in _FLAGS]
        if refused:
            raise DbtSetupError(f"run configuration, flags: {'; '.join(refused)}")
        twice = [flag for flag in _EMPTY if self.empty is not None and flag in self.flags]
        if twice:
            raise DbtSetupError(f"run configuration, flags: {twice[0]} and `empty` are both set. Keep `empty`.")
        return [
            *(["--full-refresh"] if self.full_refresh else []),
            *super().arguments(),
            *(["--fail-fast"] if self.fail_fast else []),
            *([_EMPTY[not self.empty]] if self.empty is not None else []),
            *self.flags,
        ]


def rows_chosen(run: dg.DagsterRun, step: str) -> Mapping[str, Any]:
    """Return the options with which dbt reads or writes other rows in a step of a run, as they take effect.

    Args:
        run: The run.
        step: Name of the step's op.
    """
    ops = run.run_config.get("ops")
    entry = ops.get(step) if isinstance(ops, Mapping) else None
    config = (entry.get("config") if isinstance(entry, Mapping) else None) or {}
    flags = config.get("flags") or ()
    own = {name: config.get(name) for name in _TAGGED}
    if own["empty"] is None:
        own["empty"] = next((flag == "--empty" for flag in _EMPTY if flag in flags), None)
    tagged = {name: run.tags.get(f"{OPTION_TAG}{name}") for name in _TAGGED}
    values = {name: tagged[name] if value is None else value for name, value in own.items()}
    chosen = {name: {"true": True, "false": False}.get(str(value), value) for name, value in values.items()}
    return {
        "vars": config.get("vars") or {},
        "target": config.get("target"),
        **chosen,
        "sample": chosen["sample"] or None,
    }


def _tagged(name: str, value: str) -> str | bool:
    if name not in _OF_YES_OR_NO:
        return value
    if value not in {"true", "false"}:
        raise DbtSetupError(f"run tag {OPTION_TAG}{name}: {value!r} is not valid. Write true or false.")
    return value == "true"


def variable_of_other_rows(environment: Mapping[str, str], *further: str) -> str | None:
    """Return the environment variable with which dbt reads or writes other rows of the same tables; None without one.

    Args:
        environment: The environment variables.
        further: Names of further variables, after the prefix.
    """
    return chosen_variable(environment, *_OTHER_ROWS, *further)


def chosen_variable(environment: Mapping[str, str], *names: str) -> str | None:
    """Return the first of dbt's environment variables with a value other than no, by names without a prefix."""
    full = (f"{prefix}{name}" for prefix in PREFIXES for name in names)
    return next((name for name in full if environment.get(name, "").lower() not in _NO), None)


def _environment_difference(environment: Mapping[str, str]) -> str | None:
    """Return why a run differs by its environment variables; None if it does not."""
    chosen = variable_of_other_rows(environment, *_OTHER_TABLES)
    return f"the environment variable {chosen} is set" if chosen else None


def variables(*several: dict[str, Any]) -> list[str]:
    """Return dbt's argument for variables; later ones override earlier ones. Empty without variables."""
    merged = {name: value for values in several for name, value in values.items()}
    return ["--vars", json.dumps(merged)] if merged else []


def _refusal(flag: str) -> str:
    name = flag.split("=", maxsplit=1)[0].split(" ", maxsplit=1)[0]
    instead = _INSTEAD.get(name)
    return f"{flag!r} is not passed to dbt: {instead or _KNOWN_FLAGS}"
