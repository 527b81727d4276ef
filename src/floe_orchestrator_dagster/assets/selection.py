"""dbt selections on a product, resolved on one shared graph, with suggestions for those that match nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.assets.dagster_selection import (
    AssetSelectionError,
    DagsterSelection,
    parsed_selection,
)
from floe_orchestrator_dagster.config.automation import EVERYTHING
from floe_orchestrator_dagster.config.models import CONFIG_PATH, CORRECT_IT, config_path
from floe_orchestrator_dagster.errors import ConfigError, DbtSetupError, Problem
from floe_orchestrator_dagster.product.project import PROJECT_DIR_VARIABLE
from floe_orchestrator_dagster.product.selection import NodeGraph
from floe_orchestrator_dagster.product.selection.criteria import UnreadableSelectionError
from floe_orchestrator_dagster.wording import closest, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from floe_orchestrator_dagster.assets.dagster_selection import Assets
    from floe_orchestrator_dagster.config.automation import SelectedAssets
    from floe_orchestrator_dagster.product import Product


# dbt's form of one criterion: graph operators around a method and its value.
_CRITERION = re.compile(r"^(?P<before>@|\d*\+)?((?P<method>[\w.]+):)?(?P<value>.*?)(?P<after>\+\d*)?$")
_TESTS = ("test.", "unit_test.")
_RUN_EXCLUDE = "run configuration, exclude"
_DAGSTER_SYNTAX = "See https://docs.dagster.io/guides/build/assets/asset-selection-syntax/reference."
_SYNTAX = "See https://docs.getdbt.com/reference/node-selection/syntax."


class NodeSelection:
    """Resolves dbt selections on one product's graph; results are cached."""

    def __init__(self, product: Product, assets: Callable[[], Assets] | None = None) -> None:
        """Select nodes of a product; the graph is built at the first selection.

        Args:
            product: The product.
            assets: Returns its assets, for Dagster's selections. None if they do not exist yet: such selections are
                then parsed, and match nothing.
        """
        self._product = product
        self._by_dagster = DagsterSelection(assets) if assets else None
        dbt = product.dbt
        self._graph = NodeGraph(dbt.manifest.content, dbt.directory.path) if dbt else None
        self._cache: dict[tuple[str, str | None, str | None], frozenset[str]] = {}

    def chosen(self, entry: SelectedAssets, where: str) -> frozenset[str]:
        """Return the unique ids of the assets that an entry of the configuration selects, as :meth:`unique_ids`."""
        if entry.dagster is not None:
            return self._chosen_by_dagster(entry.dagster, where)
        try:
            return self.unique_ids(entry.dbt_selection, entry.exclude, where, entry.selector)
        except ConfigError as error:
            if entry.selector is None:
                raise
            place = f"{where}.select"
            problems = [
                replace(problem, where=f"{where}.selector") if problem.where == place else problem
                for problem in error.problems
            ]
            raise ConfigError(error.origin, problems) from None

    def _chosen_by_dagster(self, text: str, where: str) -> frozenset[str]:
        try:
            if self._by_dagster is None:
                parsed_selection(text)
                return frozenset()
            found = self._by_dagster.unique_ids(text)
        except AssetSelectionError as error:
            problem = Problem("dagster", f"{text!r} is not a valid asset selection: {error}", _DAGSTER_SYNTAX)
            raise self._error([problem], where) from None
        if not found:
            fix = "Enter it in the asset catalog of Dagster to see what it matches."
            raise self._error([Problem("dagster", f"{text!r} selects no asset that the product builds", fix)], where)
        return found

    def unique_ids(self, select: str, exclude: str | None, where: str, selector: str | None = None) -> frozenset[str]:
        """Return the unique ids of the selected assets: models except ephemeral ones, seeds and snapshots.

        Without a dbt project, only ``fqn:*`` can be resolved. It returns the names of the declared models.

        Args:
            select: dbt selection (https://docs.getdbt.com/reference/node-selection/syntax).
            exclude: dbt selection of excluded nodes.
            where: Place of the selections, for errors: a path that ``config_path`` returns, or a name such as
                ``run configuration`` for a place outside of the configuration.
            selector: Name of the YAML selector that ``select`` contains, if any.

        Raises:
            ConfigError: A selection is not valid, matches no asset, or requires a dbt project that the product does not
                have. The message lists all problems.
        """
        asked = select, exclude, selector
        if asked not in self._cache:
            problems: list[Problem] = []
            unique_ids = self._resolved(select, exclude, selector, problems)
            if problems:
                raise self._error(list(dict.fromkeys(problems)), where)
            self._cache[asked] = unique_ids
        return self._cache[asked]

    def rows(self, selections: Sequence[tuple[str, str | None]], section: str) -> dict[str, int]:
        """Return the index of the entry that selects each node, by unique id.

        Args:
            selections: dbt selections of a section's entries: selected and excluded nodes.
            section: Name of the section in the configuration, whose entries may not select the same node.

        Raises:
            ConfigError: A selection is not valid or matches nothing, or several entries select the same node. The
                message lists all problems.
        """
        rows: dict[str, int] = {}
        problems: list[Problem] = []
        for row, (select, exclude) in enumerate(selections):
            try:
                found = self.unique_ids(select, exclude, config_path(section, row))
            except ConfigError as error:
                problems.extend(error.problems)
                continue
            taken = sorted(found & rows.keys())
            if taken:
                names = ", ".join(unique_id.split(".")[-1] for unique_id in taken)
                what = f"{select!r} selects {names}, which {section}[{rows[taken[0]]}] selects already"
                fix = f"Exclude it from one of them (`exclude`). {CORRECT_IT}"
                problems.append(Problem(config_path(section, row, "select"), what, fix))
            rows = {**dict.fromkeys(found, row), **rows}
        if problems:
            raise ConfigError(self._product.origin, problems)
        return rows

    def _resolved(
        self, select: str, exclude: str | None, selector: str | None, problems: list[Problem]
    ) -> frozenset[str]:
        if self._product.dbt is None:
            if select != EVERYTHING or exclude:
                problems.append(self._needs_project(select, exclude))
            return frozenset(model.name for model in self._product.models)
        selected = self._assets if select == EVERYTHING else self._assets & self._selected(select, selector, problems)
        if not selected and not problems:
            problems.append(Problem("select", f"{select!r} selects no model, seed or snapshot", _ls_hint(select)))
        excluded = self._excluded(exclude, problems) if exclude else frozenset()
        if not problems and not selected - excluded:
            what = f"{exclude!r} excludes everything that {select!r} selects"
            problems.append(Problem("exclude", what, _ls_hint(exclude or "")))
        return selected - excluded

    def excluded(self, selection: str | None, warn: Callable[[str], None]) -> frozenset[str]:
        """Return the nodes that a run excludes: those that a selection matches and, as in dbt, the tests on them.

        Args:
            selection: The selection; None excludes nothing.
            warn: Logs a warning for each part that matches nothing.

        Raises:
            DbtSetupError: The selection is not valid.
        """
        problems: list[Problem] = []
        parts = self._matches(selection, "exclude", problems) if selection else []
        if problems:
            raise DbtSetupError(f"{_RUN_EXCLUDE}: {problems[0].what}. {problems[0].fix}")
        for part in (part for part, found in parts if not found):
            warn(f"{_RUN_EXCLUDE}: {part!r} matches nothing, so nothing is excluded. {_ls_hint(part)}")
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
        fix = f"Set {PROJECT_DIR_VARIABLE} to the directory with dbt_project.yml, or leave the selection out."
        return Problem(key, what, fix)

    def _selected(self, selection: str, selector: str | None, problems: list[Problem]) -> frozenset[str]:
        """Return all nodes that a selection matches, including tests and sources. Each part of a union must match."""
        found: set[str] = set()
        for part, matched in self._matches(selection, "select", problems, selector):
            if not matched:
                among = "" if part == selection.strip() else f" (in {selection!r})"
                hint = suggestion(part, self._product.dbt.manifest.content) if self._product.dbt else ""
                problems.append(Problem("select", f"{part!r} matches nothing{among}", f"{hint}{_ls_hint(part)}"))
            found |= matched
        return frozenset(found)

    def _excluded(self, selection: str, problems: list[Problem]) -> frozenset[str]:
        parts = self._matches(selection, "exclude", problems)
        return frozenset(unique_id for _, matched in parts for unique_id in matched)

    def _matches(
        self, selection: str, key: str, problems: list[Problem], selector: str | None = None
    ) -> list[tuple[str, set[str]]]:
        if self._graph is None:
            return []
        try:
            if selector is not None:
                return [(selection, self._graph.of_selector(selector))]
            return self._graph.matches(selection)
        except UnreadableSelectionError as error:
            problems.append(Problem(key, f"{selection!r} is not a valid dbt selection: {error}", _SYNTAX))
            return []

    def _error(self, problems: list[Problem], where: str) -> ConfigError:
        """Add the place to each problem, and the fix in manifest.yaml when the place is in the configuration."""
        if not where.startswith(CONFIG_PATH):
            return ConfigError(where, problems)
        needs_project = self._product.dbt is None
        in_manifest = "" if needs_project else f" {CORRECT_IT}"
        placed = [
            replace(problem, where=f"{where}.{problem.where}", fix=f"{problem.fix}{in_manifest}")
            for problem in problems
        ]
        return ConfigError(self._product.origin, placed)


def _ls_hint(selection: str) -> str:
    return f"`dbt ls --select {selection!r}` shows what it matches."


def suggestion(selection: str, manifest: Mapping[str, Any]) -> str:
    """Return a suggestion such as ``Did you mean 'tag:daily+'? ``; empty when there is none.

    Args:
        selection: A selection without spaces. If it has several criteria (``tag:a,tag:b``), the suggestion corrects the
            first of them that is similar to a value in the project.
        manifest: The content of a dbt manifest.
    """
    criteria = selection.split(",")
    for place, criterion in enumerate(criteria):
        close = _close(criterion, manifest)
        if close is not None:
            corrected = ",".join([*criteria[:place], close, *criteria[place + 1 :]])
            return did_you_mean(corrected)
    return ""


def _close(criterion: str, manifest: Mapping[str, Any]) -> str | None:
    found = _CRITERION.match(criterion)
    if found is None:
        return None
    known = set(_values(found["method"] or "fqn", manifest))
    close = None if found["value"] in known else closest(found["value"], known)
    method = f"{found['method']}:" if found["method"] else ""
    return f"{found['before'] or ''}{method}{close}{found['after'] or ''}" if close else None


def _values(method: str, manifest: Mapping[str, Any]) -> Iterator[str]:
    """Yield the values that exist in the project for a selection method, such as all tags for ``tag``."""
    nodes = list(manifest["nodes"].values())
    sources = list(manifest["sources"].values())
    if method == "fqn":
        built = [node for node in nodes if node["resource_type"] != "test"]
        yield from (name for node in built for name in (node["name"], *node["fqn"]))
    elif method == "tag":
        yield from (tag for node in [*nodes, *sources] for tag in node.get("tags") or ())
    elif method == "source":
        yield from (f"{source['source_name']}.{source['name']}" for source in sources)
        yield from (source["source_name"] for source in sources)
    elif method == "group":
        yield from (str(node["group"]) for node in nodes if node.get("group"))
    elif method in {"path", "file"}:
        paths = [str(node["original_file_path"]) for node in nodes]
        parts = [path.split("/") for path in paths]
        if method == "file":
            yield from (names[-1] for names in parts)
        else:
            yield from ("/".join(names[: place + 1]) for names in parts for place in range(len(names)))
    elif method == "selector":
        yield from manifest.get("selectors") or ()
    elif method == "resource_type":
        yield from {str(node["resource_type"]) for node in nodes}
    elif method == "package":
        yield from {str(node["package_name"]) for node in nodes}
