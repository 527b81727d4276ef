"""Changes of a product since a published state: changed nodes, those downstream, tests to run, and removed nodes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.errors import ManifestError, Problem, StateError
from floe_orchestrator_dagster.product.build_fingerprints import portable_fingerprints, variables_version
from floe_orchestrator_dagster.product.files import read_json
from floe_orchestrator_dagster.product.fingerprints import DESCRIBING, FINGERPRINT_FORMAT
from floe_orchestrator_dagster.product.macros import ProjectMacros
from floe_orchestrator_dagster.product.places import without_places
from floe_orchestrator_dagster.product.prepare import is_current
from floe_orchestrator_dagster.product.sql_text import significant_sql
from floe_orchestrator_dagster.product.trimming import ALWAYS_BUILT, TEST_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from floe_orchestrator_dagster.product import DbtProject, Product
    from floe_orchestrator_dagster.state.published import PublishedState

_BUILT = frozenset({"model", "seed", "snapshot"})
_PASSED_THROUGH = _BUILT | {"function"}
_NEW = "is new"
_NOT_BUILT = "production has not recorded a build of its deployed code"
_SHOWN = 3


@dataclass(frozen=True)
class StateChanges:
    """Changes of a product since a published state; reasons by unique id.

    Attributes:
        changed: Models, seeds and snapshots that production has not built with this code, and models whose unit tests
            are new or have changed: dbt runs a unit test only together with its model.
        downstream: Unchanged ones that read one with changed code, also through others.
        unchanged: All others, which production has.
        removed: Those of production that the project no longer has.
        tests: Data tests and unit tests that are new, have changed, or read what is changed or downstream.
        notes: Limits of the comparison, and reasons that apply to all nodes.
    """

    changed: Mapping[str, str]
    downstream: Mapping[str, str]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]
    tests: Mapping[str, str]
    notes: tuple[str, ...]


def state_fingerprints(dbt: DbtProject) -> dict[str, str]:
    """Return what a state records of the project's code: fingerprints of tables and views, and versions of tests."""
    manifest = dbt.manifest
    built = {node["unique_id"] for node in manifest.asset_nodes}
    fingerprints = portable_fingerprints(manifest, dbt)
    tests = _test_versions(manifest.content, variables_version(manifest, dbt))
    return {node: fingerprint for node, fingerprint in fingerprints.items() if node in built} | tests


def _test_versions(content: Mapping[str, Any], variables: str) -> dict[str, str]:
    """Return the version of each test, without the code of the tested model.

    A test that may read variables has another version after a change of any of them.
    """
    nodes = {**content["nodes"], **content["unit_tests"]}
    return {
        unique_id: f"{node[TEST_VERSION].partition('-')[0]}{f' {variables}' if ALWAYS_BUILT in node else ''}"
        for unique_id, node in nodes.items()
        if TEST_VERSION in node
    }


def changes_since(
    product: Product,
    state: PublishedState,
    built_sources: Mapping[str, str] = MappingProxyType({}),
    disabled: AbstractSet[str] = frozenset(),
) -> StateChanges:
    """Compare a product with a published state. Nothing is run, and no database is read.

    Args:
        product: The product, whose manifest is that of the project's files.
        state: The state.
        built_sources: The node that builds the table of a source, by the source's unique id.
        disabled: Tests that the product does not run.

    Raises:
        ManifestError: The product's manifest is older than the files of the project.
        StateError: The product has no dbt project, or the state has no valid manifest.
    """
    dbt = product.dbt
    if dbt is None:
        fix = "Set FLOE_DBT_PROJECT_DIR to it."
        raise StateError(product.origin, [Problem("", "the product has no dbt project here to compare", fix)])
    path = dbt.manifest.path
    if not is_current(path, dbt):
        what = "is older than files of the dbt project, or was parsed from other files"
        raise ManifestError(str(path), [Problem("", what, "Run `floe-dagster prepare`.")])
    comparison = _Comparison(dbt, state)
    own_tests = {test: reason for test, reason in comparison.changed_tests().items() if test not in disabled}
    assets = {node["unique_id"] for node in dbt.manifest.asset_nodes}
    with_other_code = comparison.changed()
    tested = {model: reason for model, reason in comparison.tested(own_tests).items() if model in assets}
    changed = dict(sorted((tested | with_other_code).items()))
    downstream = _downstream(dbt.manifest.content, with_other_code.keys(), built_sources)
    downstream = {node: reason for node, reason in downstream.items() if node in assets - changed.keys()}
    return StateChanges(
        changed=changed,
        downstream=downstream,
        unchanged=tuple(sorted(assets - changed.keys() - downstream.keys())),
        removed=comparison.removed(assets),
        tests=own_tests | comparison.tests_of(changed.keys() | downstream.keys(), own_tests.keys() | disabled),
        notes=tuple(comparison.notes(changed.keys())),
    )


class _Comparison:
    def __init__(self, dbt: DbtProject, state: PublishedState) -> None:
        self._dbt, self._state = dbt, state
        self._now = _manifest(dbt.manifest.path, ManifestError, "Run `floe-dagster prepare`.")
        self._before = _manifest(state.manifest, StateError, "Publish the state again.")
        self._macros = ProjectMacros(self._now)
        old = ProjectMacros(self._before).code
        self._changed_macros = {key for key, code in self._macros.code.items() if old.get(key) != code}
        self._fingerprints = state_fingerprints(dbt)

    @property
    def _general(self) -> str:
        """Why all nodes count as changed; empty if they do not."""
        if self._state.fingerprint_format != FINGERPRINT_FORMAT:
            return "production has another version of floe-orchestrator-dagster, whose fingerprints differ"
        before, now = (str(one["metadata"].get("dbt_version")) for one in (self._before, self._now))
        if before.split(".")[:2] != now.split(".")[:2]:
            return f"production runs dbt {before}, this project dbt {now}"
        adapters = [one["metadata"].get("adapter_type") for one in (self._before, self._now)]
        return f"production has the adapter {adapters[0]}, this project {adapters[1]}" if len(set(adapters)) > 1 else ""

    def changed(self) -> dict[str, str]:
        """Return the changed nodes, with reasons."""
        before = self._state.fingerprints
        nodes = [node["unique_id"] for node in self._dbt.manifest.asset_nodes]
        return {
            node: self._reason(node)
            for node in sorted(nodes)
            if node not in self._fingerprints or before.get(node) != self._fingerprints[node]
        }

    def removed(self, assets: AbstractSet[str]) -> tuple[str, ...]:
        """Return the nodes of production that are not in the project, or that are disabled or ephemeral there."""
        found = (
            unique_id
            for unique_id, node in self._before["nodes"].items()
            if node["resource_type"] in _BUILT and node["config"].get("materialized") != "ephemeral"
        )
        return tuple(sorted(set(found) - assets))

    def changed_tests(self) -> dict[str, str]:
        """Return the tests that are new or have changed themselves, with reasons."""
        found = {}
        for test in sorted(self._dbt.manifest.tests):
            version, before = self._fingerprints.get(test), self._state.fingerprints.get(test)
            if before is None:
                found[test] = _NEW
            elif version is None or version != before:
                found[test] = "has changed"
        return found

    def tested(self, tests: Mapping[str, str]) -> dict[str, str]:
        """Return the models of unit tests, with reasons."""
        content = self._dbt.manifest.content
        return {
            model: f"its unit test {_named([test])} {reason}"
            for test, reason in tests.items()
            if test in content["unit_tests"]
            for model in content["parent_map"].get(test, ())
            if model in content["nodes"]
        }

    def tests_of(self, affected: AbstractSet[str], known: AbstractSet[str]) -> dict[str, str]:
        """Return the other tests than the known ones that read affected nodes, with reasons."""
        found = {}
        manifest, parents = self._dbt.manifest, self._dbt.manifest.content["parent_map"]
        for test in sorted({*manifest.tests} - known):
            read = affected & (manifest.relations_read_by(test) | set(parents.get(test, ())))
            if read:
                found[test] = f"reads {_named(read)}"
        return found

    def notes(self, changed: AbstractSet[str]) -> Iterator[str]:
        """Return what concerns all nodes, and which other nodes dbt's ``state:modified`` selects for their code."""
        if self._general:
            yield f"Everything counts as changed: {self._general}."
        if self._state.engine != self._engine:
            names = {"core": "dbt-core 1.x", "v2": "dbt v2"}
            here = names.get(self._engine, "no dbt")
            yield f"{names.get(self._state.engine, self._state.engine)} built production, and {here} is installed here."
        environment = sorted(
            node
            for node in self._fingerprints
            if (self._dbt.manifest.content["nodes"].get(node) or {}).get("floe_reads")
            and "environment" in self._dbt.manifest.content["nodes"][node]["floe_reads"]
        )
        if environment:
            yield f"Values of environment variables are not compared. These nodes read some: {_named(environment)}."
        written = sorted(
            one
            for one, old in self._before["nodes"].items()
            if one not in changed
            and one in self._fingerprints
            and _is_written_differently(old, self._now["nodes"][one])
        )
        if written and self._state.engine == self._engine:
            yield f"dbt's `state:modified` also selects nodes whose comments or whitespace differ: {_named(written)}."

    @property
    def _engine(self) -> str:
        engine = self._dbt.installed_engine
        return engine.kind if engine else ""

    def _reason(self, unique_id: str) -> str:
        old, new = self._before["nodes"].get(unique_id), self._now["nodes"][unique_id]
        if old is None:
            return _NEW
        if unique_id not in self._fingerprints:
            return "its file cannot be read"
        if self._general:
            return self._general
        return next(self._differences(old, new), None) or (
            _NOT_BUILT
            if unique_id not in self._state.fingerprints
            else "a variable, a hook, a source or a setting that it reads has changed"
        )

    def _differences(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
        if new["resource_type"] == "seed" and old.get("checksum") != new.get("checksum"):
            yield "its data has changed"
        if _code(old) != _code(new):
            yield "its code has changed"
        settings = sorted(
            name for name in new["config"].keys() - DESCRIBING if new["config"][name] != old["config"].get(name)
        )
        if settings:
            yield f"its settings have changed: {_listed(settings)}"
        listed = (new.get("depends_on") or {}).get("macros") or ()
        macros = self._changed_macros & {*self._macros.reached([new.get("raw_code") or ""], listed)}
        if macros:
            yield f"macros that it can call have changed: {_named(macros)}"
        parents = (new.get("depends_on") or {}).get("nodes") or ()
        ephemeral = [one for one in parents if self._is_changed_ephemeral(one)]
        if ephemeral:
            yield f"ephemeral models that it reads have changed: {_named(ephemeral)}"

    def _is_changed_ephemeral(self, unique_id: str) -> bool:
        old, new = self._before["nodes"].get(unique_id) or {}, self._now["nodes"].get(unique_id) or {}
        is_ephemeral = (new.get("config") or {}).get("materialized") == "ephemeral"
        return is_ephemeral and old.get("raw_code") != new.get("raw_code")


def _is_written_differently(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Return whether dbt's ``state:modified.body`` selects a model or snapshot."""
    return new["resource_type"] in {"model", "snapshot"} and old.get("raw_code") != new.get("raw_code")


def _manifest(path: Path, error: type[ManifestError | StateError], fix: str) -> Mapping[str, Any]:
    """Read a manifest without the places of tables."""
    content = read_json(path, error, fix)
    if not isinstance(content, dict) or not isinstance(content.get("nodes"), dict):
        raise error(str(path), [Problem("", "is not a dbt manifest", fix)])
    return without_places(content)


def _code(node: Mapping[str, Any]) -> str:
    code = str(node.get("raw_code") or "")
    return significant_sql(code) if (node.get("language") or "sql") == "sql" else code


def _downstream(
    content: Mapping[str, Any], changed: AbstractSet[str], built_sources: Mapping[str, str]
) -> dict[str, str]:
    """Return the nodes downstream of changed ones, each with the node through which it was reached first."""
    found: dict[str, str] = {}
    children = content["child_map"]
    sources: dict[str, list[str]] = {}
    for source, node in built_sources.items():
        sources.setdefault(node, []).append(source)
    waiting = deque(sorted(changed))
    while waiting:
        parent = waiting.popleft()
        read = [child for one in (parent, *sources.get(parent, ())) for child in children.get(one, ())]
        for child in sorted(read):
            node = content["nodes"].get(child) or content["functions"].get(child)
            if node is None or node["resource_type"] not in _PASSED_THROUGH or child in changed or child in found:
                continue
            found[child] = f"reads {_named([parent])}"
            waiting.append(child)
    return found


def _named(unique_ids: Iterable[str]) -> str:
    return _listed(sorted(".".join(unique_id.split(".")[2:]) for unique_id in unique_ids))


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
