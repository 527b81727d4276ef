"""dbt selections on a product: dbt's own engine, on one graph however many selections are asked for.

dagster-dbt resolves a selection on a graph that it builds for it; ten schedules would build ten.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.assets.dbt_graph import DbtGraph
from floe_orchestrator_dagster.assets.suggestions import suggestion
from floe_orchestrator_dagster.config.models import CONFIG_PATH
from floe_orchestrator_dagster.errors import ConfigError, DbtSetupError, Problem
from floe_orchestrator_dagster.product.project import PROJECT_DIR_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from floe_orchestrator_dagster.product import Product

EVERYTHING = "fqn:*"
_TESTS = ("test.", "unit_test.")

_RUN_EXCLUDE = "run configuration, exclude"
_FIX = "Correct it in manifest.yaml."
_SYNTAX = "See https://docs.getdbt.com/reference/node-selection/syntax."


class NodeSelection:
    """The selections of one product, on one graph; each is made once, however often it is asked for."""

    def __init__(self, product: Product) -> None:
        """Select among the nodes of ``product``; making this costs nothing."""
        self._product = product
        self._graph = DbtGraph(product.dbt) if product.dbt else None
        self._kept: dict[tuple[str, str | None], frozenset[str]] = {}

    def unique_ids(self, select: str, exclude: str | None, where: str) -> frozenset[str]:
        """Return the unique ids of the selected assets: models (not ephemeral ones), seeds and snapshots.

        Of a product without a dbt project everything can be selected, and nothing less: its declared models, by name.

        Args:
            select: dbt selection (https://docs.getdbt.com/reference/node-selection/syntax).
            exclude: dbt selection of what is left out.
            where: What has both: the place of a section in the configuration, as ``config_path`` writes it, or a name
                such as ``run configuration`` for what comes from elsewhere.

        Raises:
            ConfigError: Selections that dbt cannot read, that match nothing or no asset, or that need a dbt project
                which the product does not have; all that is wrong with both.
        """
        if (select, exclude) not in self._kept:
            problems: list[Problem] = []
            kept = self._resolved(select, exclude, problems)
            if problems:
                raise self._error(list(dict.fromkeys(problems)), where)
            self._kept[select, exclude] = kept
        return self._kept[select, exclude]

    def _resolved(self, select: str, exclude: str | None, problems: list[Problem]) -> frozenset[str]:
        if self._product.dbt is None:
            if select != EVERYTHING or exclude:
                problems.append(self._needs_project(select, exclude))
            return frozenset(model.name for model in self._product.models)
        selected = self._assets if select == EVERYTHING else self._assets & self._selected(select, problems)
        if not selected and not problems:
            problems.append(Problem("select", f"{select!r} selects no model, seed or snapshot", _look(select)))
        left_out = self._excluded(exclude, problems) if exclude else frozenset()
        if not problems and not selected - left_out:
            what = f"{exclude!r} leaves nothing of what {select!r} selects"
            problems.append(Problem("exclude", what, _look(exclude or "")))
        return selected - left_out

    def excluded(self, selection: str | None, warn: Callable[[str], None]) -> frozenset[str]:
        """Find what a run leaves out: what a selection matches and, as with dbt's ``--exclude``, the tests on it.

        Args:
            selection: The selection; None leaves nothing out.
            warn: Receives each part that matches nothing.

        Raises:
            DbtSetupError: A selection that dbt cannot read.
        """
        problems: list[Problem] = []
        parts = self._matches(selection, "exclude", problems) if selection else []
        if problems:
            raise DbtSetupError(f"{_RUN_EXCLUDE}: {problems[0].what}. {problems[0].fix}")
        for part in (part for part, found in parts if not found):
            warn(f"{_RUN_EXCLUDE}: {part!r} matches nothing, so it leaves nothing out. {_look(part)}")
        matched = frozenset(unique_id for _, found in parts for unique_id in found)
        children = self._product.dbt.manifest.content["child_map"] if self._product.dbt else {}
        on_them = (child for unique_id in matched for child in children.get(unique_id, ()))
        return matched | {child for child in on_them if child.startswith(_TESTS)}

    @cached_property
    def _assets(self) -> frozenset[str]:
        nodes = self._product.dbt.manifest.asset_nodes if self._product.dbt else []
        return frozenset(node["unique_id"] for node in nodes)

    def _needs_project(self, select: str, exclude: str | None) -> Problem:
        key, text = ("exclude", exclude) if select == EVERYTHING and exclude else ("select", select)
        what = f"{text!r} cannot be resolved: product {self._product.name!r} has no dbt project here"
        fix = f"Set {PROJECT_DIR_VARIABLE} to the directory that holds dbt_project.yml, or leave the selection out."
        return Problem(key, what, fix)

    def _selected(self, selection: str, problems: list[Problem]) -> frozenset[str]:
        """Find everything that a selection matches, tests and sources too; each part of its union must match."""
        found: set[str] = set()
        for part, matched in self._matches(selection, "select", problems):
            if not matched:
                among = "" if part == selection.strip() else f" (in {selection!r})"
                hint = suggestion(part, self._product.dbt.manifest.content) if self._product.dbt else ""
                problems.append(Problem("select", f"{part!r} matches nothing{among}", f"{hint}{_look(part)}"))
            found |= matched
        return frozenset(found)

    def _excluded(self, selection: str, problems: list[Problem]) -> frozenset[str]:
        parts = self._matches(selection, "exclude", problems)
        return frozenset(unique_id for _, matched in parts for unique_id in matched)

    def _matches(self, selection: str, key: str, problems: list[Problem]) -> list[tuple[str, set[str]]]:
        from dbt_common.exceptions import DbtBaseException

        try:
            return self._graph.matches(selection) if self._graph else []
        except (DbtBaseException, ValueError, NotImplementedError, IndexError, OSError) as error:
            # Besides dbt's own: what pathlib and fnmatch say to a path or a pattern that they cannot read.
            reason = " ".join(str(getattr(error, "msg", error)).split())
            problems.append(Problem(key, f"{selection!r} is no dbt selection: {reason}", _SYNTAX))
            return []

    def _error(self, problems: list[Problem], where: str) -> ConfigError:
        """Say where the selections are: in the configuration, or elsewhere and then not to be corrected there."""
        if not where.startswith(CONFIG_PATH):
            return ConfigError(where, problems)
        needs_project = self._product.dbt is None
        in_manifest = "" if needs_project else f" {_FIX}"
        placed = [
            replace(problem, where=f"{where}.{problem.where}", fix=f"{problem.fix}{in_manifest}")
            for problem in problems
        ]
        return ConfigError(self._product.origin, placed)


def _look(selection: str) -> str:
    return f"`dbt ls --select {selection!r}` shows what it matches."
