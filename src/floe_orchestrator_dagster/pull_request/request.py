"""A pull request of a product: comparison with production's state, build, and report."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import uuid
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.errors import Problem, PullRequestError
from floe_orchestrator_dagster.execution.step.build_facts import built_sources
from floe_orchestrator_dagster.execution.step.run_options import variable_of_other_rows
from floe_orchestrator_dagster.product.manifest import read_manifest
from floe_orchestrator_dagster.product.templates import rendered
from floe_orchestrator_dagster.pull_request.build import Build, warehouse_of
from floe_orchestrator_dagster.pull_request.changes import Changes, find_changes
from floe_orchestrator_dagster.pull_request.destination import Destination, checked_name
from floe_orchestrator_dagster.pull_request.duckdb_file import DuckdbFile
from floe_orchestrator_dagster.pull_request.production import Production
from floe_orchestrator_dagster.pull_request.report import BuildReport
from floe_orchestrator_dagster.pull_request.schemas import Schemas
from floe_orchestrator_dagster.pull_request.warehouse import TableName
from floe_orchestrator_dagster.redaction import redact_urls
from floe_orchestrator_dagster.state.changes import changes_since
from floe_orchestrator_dagster.state.location import production as production_environment
from floe_orchestrator_dagster.state.location import required_url
from floe_orchestrator_dagster.state.sets import read_state
from floe_orchestrator_dagster.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from floe_orchestrator_dagster.execution.step.build_plan import DbtStep
    from floe_orchestrator_dagster.product import DbtConnection, DbtProject, Product
    from floe_orchestrator_dagster.product.profiles import Profile
    from floe_orchestrator_dagster.pull_request.warehouse import Warehouse

logger = logging.getLogger(__name__)

Say = Callable[[str], None]
# Settings of an output on PostgreSQL that name the database.
_DATABASE = ("type", "host", "port", "dbname")
_OTHER_NAMES = {"dbname": ("database",)}


@dataclass(frozen=True)
class PullRequest:
    """A pull request of a product.

    Attributes:
        product: The product as the pull request has it.
        dbt: Its dbt project.
        builds: Its steps that run dbt.
        schema: Name of the schema or DuckDB file of its tables.
        say: Called with lines about the progress.
    """

    product: Product
    dbt: DbtProject
    builds: Sequence[DbtStep]
    schema: str
    say: Say

    @classmethod
    def of(cls, product: Product, builds: Sequence[DbtStep], schema: str, say: Say) -> PullRequest:
        """Return the pull request of a loaded product.

        Raises:
            PullRequestError: The product has no dbt project, or the name is not valid.
        """
        if product.dbt is None:
            fix = "Set FLOE_DBT_PROJECT_DIR to the dbt project."
            raise PullRequestError(product.origin, [Problem("", "the product has no dbt project here", fix)])
        return cls(product, product.dbt, builds, checked_name(schema), say)

    def build(self, named: str | None, environment: str | None, *, keep: bool) -> BuildReport:
        """Build what differs from production, and everything downstream.

        Args:
            named: Location of production's published states; None for that of the configuration.
            environment: The environment of the state; None for production's.
            keep: Whether to keep the tables.

        Raises:
            FloeDagsterError: It cannot be decided what to build, or there is no destination for the tables.
        """
        _check_environment()
        url = required_url(self.product, named)
        with tempfile.TemporaryDirectory(prefix="floe-ci-") as directory:
            scratch = Path(directory)
            name = production_environment(self.product, environment)
            state = read_state(url, self.product.name, name, scratch / "published")
            before = read_manifest(state.manifest)
            builders = built_sources(self.builds)
            since = changes_since(self.product, state, builders, self._disabled)
            changes = find_changes(since, self.dbt.manifest.content, before.content)
            report = partial(
                BuildReport,
                self.product.name,
                redact_urls(url),
                removed=changes.removed,
            )
            if not changes.selected:
                return report(notes=since.notes)
            self._check_computes(changes)
            self._check_readers(changes, builders)
            self._check_database(name)
            production = Production(state.manifest, before.content)
            destination = self._destination(production, name)
            tables, tests = counted(len(changes.built), "table"), counted(len(changes.tests), "test")
            self.say(f"building {tables} and {tests} in the {destination.description}")
            build = Build(
                changes, destination, production, self.product.config.dbt, scratch, logger, self.say, keep=keep
            )
            with self.log_file.open("w", encoding="utf-8") as file, redirect_stdout(file):
                nodes = build.run()
            return report(
                destination=destination.description,
                nodes=nodes,
                notes=[*since.notes, *build.notes],
                errors=build.errors,
                seconds=build.seconds,
                saved_seconds=_saved_seconds(state.run_results, changes.selected),
            )

    @property
    def log_file(self) -> Path:
        """The file of dbt's log."""
        directory = self.dbt.directory.written_target
        directory.mkdir(parents=True, exist_ok=True)
        return directory / f"ci-{self.schema}.log"

    def clean(self) -> None:
        """Remove the tables of killed and kept builds.

        Raises:
            PullRequestError: Another build uses them, or some were not removed.
        """
        nothing = Production(Path(), {"nodes": {}, "sources": {}, "metadata": {}})
        destination = self._destination(nothing, str(self.dbt.profile.target))
        with self.log_file.open("w", encoding="utf-8") as file, redirect_stdout(file):
            destination.remove_leftovers()

    @property
    def _disabled(self) -> frozenset[str]:
        return frozenset[str]().union(*(step.nodes.disabled for step in self.builds))

    def _check_readers(self, changes: Changes, builders: Mapping[str, str]) -> None:
        """Check that no selected node reads a built table as a source, which dbt would read from production.

        Raises:
            PullRequestError: Some do.
        """
        content = self.dbt.manifest.content
        fix = "Read it with ref(), so that dbt builds it first and reads the table of the pull request."
        problems = [
            Problem(one, f"it reads the table of {builders[parent]}, which is built here, as {parent}", fix)
            for one in sorted(changes.selected)
            for parent in content["parent_map"].get(one) or ()
            if builders.get(parent) in changes.built
        ]
        if problems:
            raise PullRequestError(self.product.origin, problems)

    def _check_database(self, environment: str) -> None:
        """Check that the profile's output reads the database of the environment.

        Raises:
            PullRequestError: It does not, or this is not known.
        """
        profile = self.dbt.profile
        own = profile.outputs[str(profile.target)]
        production = own if environment == profile.target else profile.outputs.get(environment)
        if production is None:
            what = f"{environment!r} is not an output of the dbt profile, so that the place of its tables is not known"
            fix = f"Use the state of an output ({', '.join(profile.outputs)}), or add the output and compile again."
            raise PullRequestError("--environment", [Problem("", what, fix)])
        keys = ("type",) if own["type"] == "duckdb" else _DATABASE
        if differing := [key for key in keys if self._value(production, key) != self._value(own, key)]:
            what = f"the output {profile.target!r} is not in the database of {environment!r}: {', '.join(differing)}"
            raise PullRequestError("dbt profile", [Problem("", what, f"Set FLOE_ENV={environment}.")])

    def _value(self, output: Mapping[str, object], key: str) -> str:
        """Return a setting of an output. Templates with variables that are not set are not rendered."""
        value = next((str(output[name]) for name in (key, *_OTHER_NAMES.get(key, ())) if name in output), "")
        return rendered(value, self.dbt.profile.environment) or value

    def _check_computes(self, changes: Changes) -> None:
        """Check that one output of the profile builds everything.

        Raises:
            PullRequestError: Some nodes are built on another compute.
        """
        own = self.dbt.profile.target
        others = sorted(
            node
            for step in self.builds
            if step.connection.profile.target != own
            for node in {*step.nodes.assets.values(), *step.nodes.checks.values()} & changes.selected
        )
        if others:
            fix = "Build the pull request without these nodes, or on the default compute."
            problems = [
                Problem(node, "it is built on another compute than the product's default", fix) for node in others
            ]
            raise PullRequestError(self.product.origin, problems)

    def _destination(self, production: Production, environment: str) -> Destination:
        profile = self.dbt.profile
        if profile.adapter == "duckdb":
            outputs = profile.outputs
            of_production = profile.on_target(environment) if environment in outputs else profile
            return DuckdbFile(self.schema, self.dbt, of_production, _catalog(production, of_production), self.say)
        if profile.adapter == "postgres":
            sources = map(TableName.of, production.content["sources"].values())
            used = frozenset(table.schema.lower() for table in (*production.tables.values(), *sources))
            own = str(profile.outputs[profile.target or ""].get("schema") or "").lower()
            return Schemas(
                self.schema,
                self.product.name,
                uuid.uuid4().hex[:14],
                self.dbt,
                used | {own},
                self._warehouse,
            )
        what = f"the adapter {profile.adapter!r} is not supported here"
        raise PullRequestError("dbt profile", [Problem("type", what, "Use an output on DuckDB or PostgreSQL.")])

    def _warehouse(self, dbt: DbtConnection) -> Warehouse:
        return warehouse_of(dbt, self.product.config.dbt, logger)


def _check_environment() -> None:
    """Check that no environment variable makes dbt read or write other rows: tests without rows pass.

    Raises:
        PullRequestError: One does.
    """
    name = variable_of_other_rows(os.environ)
    if name is not None:
        what = "is set, so that dbt would not read and write the rows of a usual build"
        raise PullRequestError("environment", [Problem(name, what, "Unset it.")])


def _catalog(production: Production, profile: Profile) -> str:
    """Return the name under which production's manifest knows the tables of its DuckDB file: that of most tables."""
    path = Path(str(profile.outputs[profile.target or ""].get("path")))
    names = [table.database for table in production.tables.values()]
    return max(sorted({*names} - {""}), key=names.count, default=path.stem)


def _saved_seconds(run_results: Path, selected: frozenset[str]) -> float | None:
    """Return the time that production needed for other nodes; None if its results are not known."""
    try:
        results = json.loads(run_results.read_bytes())["results"]
        return float(sum(one["execution_time"] for one in results if one["unique_id"] not in selected))
    except (OSError, ValueError, KeyError, TypeError):
        return None
