"""Decision about the nodes of a run: those that are built, and earlier tables, views and test results to reuse.

A node is reused only if everything that its rows depend on is known and unchanged. Each decision has one reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.execution.reuse.graph import STORED
from floe_orchestrator_dagster.execution.reuse.knowledge import column_version
from floe_orchestrator_dagster.execution.reuse.records import BuildRecord, CheckRecord, Unknown
from floe_orchestrator_dagster.execution.reuse.waiting import NO_WAITING, NOT_ALL_CHANGED, WAITS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from floe_orchestrator_dagster.execution.reuse.graph import BuildGraph
    from floe_orchestrator_dagster.execution.reuse.knowledge import Known

UP_TO_DATE = "its code and its inputs have not changed since it was built"
NOT_AFFECTED = "neither it nor the tables that it reads have changed since it ran"
CODE_CHANGED = "its code, its settings or a macro has changed"
_NEVER_BUILT = Unknown("no run has recorded a build of it")
UNIT_TEST = "unit_test."
"""Prefix of the unique ids of unit tests."""


@dataclass(frozen=True)
class Decision:
    """The decision about a step's nodes and tests: reasons by unique id.

    Attributes:
        built: Nodes that are built.
        reused: Nodes that are not built.
        run: Tests that run.
        kept: Tests whose last result stands.
    """

    built: Mapping[str, str]
    reused: Mapping[str, str]
    run: Mapping[str, str]
    kept: Mapping[str, str]


@dataclass(frozen=True)
class _Decider:
    graph: BuildGraph
    known: Known
    nodes: AbstractSet[str]
    existing: Mapping[str, bool | None]
    held: dict[str, str] = field(default_factory=dict, init=False)
    _columns: dict[str, str | None] = field(default_factory=dict, init=False)
    _for_new_data: set[str] = field(default_factory=set, init=False)
    _doubtful: set[str] = field(default_factory=set, init=False)

    @cached_property
    def _failed_tests(self) -> Mapping[str, str]:
        """The first failed test of each node."""
        records = self.known.test_records
        failed = sorted(test for test, record in records.items() if not record.passed)
        return {node: test for test in reversed(failed) for node in self.known.tests.get(test, ())}

    @cached_property
    def reasons(self) -> dict[str, str | None]:
        """Why each node is built, by unique id; None for a node that is reused."""
        found: dict[str, str | None] = {**self.known.before}
        for unique_id in found:
            self._columns[unique_id] = column_version(self.graph, self.known, unique_id, self._columns)
        self._columns.update(dict.fromkeys(found))
        waiting = sorted(self.nodes, reverse=True)
        while waiting:  # without recursion, because a chain of models may be long
            unique_id = waiting[-1]
            missing = [parent for parent in self.graph.inputs(unique_id) & self.nodes if parent not in found]
            if unique_id in found:
                waiting.pop()
            elif missing:
                waiting.extend(missing)
            else:
                found[unique_id] = self._reason(unique_id, found)
                if found[unique_id]:
                    self._columns[unique_id] = column_version(self.graph, self.known, unique_id, self._columns)
        return found

    def _reason(self, unique_id: str, decided: Mapping[str, str | None]) -> str | None:
        always, state = self.known.always.get(unique_id), self.known.states.get(unique_id, _NEVER_BUILT)
        inputs = self.graph.inputs(unique_id)
        if always:
            if isinstance(state, Unknown) or any(self._is_in_doubt(one, state, decided) for one in inputs):
                self._doubtful.add(unique_id)
            return always
        if isinstance(state, Unknown):
            return state.reason
        if self.known.fingerprints.get(unique_id) != state.fingerprint:
            return CODE_CHANGED
        failed = self._failed_tests.get(unique_id)
        other = f"its test {short_name(failed)} failed" if failed else None
        other = other or self.known.unbuilt.get(unique_id) or self._missing(unique_id)
        if inputs != state.inputs.keys():
            return "it reads different tables than before"
        is_kept = self._is_kept_view(unique_id, state, decided)
        changed = None if is_kept else self._changed_input(inputs, state, decided)
        doubt = self._missing_input(inputs)
        # Only new data waits: not a parent that is built for another reason, or whose build is not known.
        if changed and not other and not doubt and not any(self._is_in_doubt(one, state, decided) for one in inputs):
            self._for_new_data.add(unique_id)
            held = self._held(unique_id, state, decided)
            if held:
                self.held[unique_id] = held
                return None
        return changed or other or doubt

    def _is_kept_view(self, unique_id: str, record: BuildRecord, decided: Mapping[str, str | None]) -> bool:
        """Return whether a view would be created again with the same columns: new rows of its inputs do not matter."""
        if self.graph.kinds.get(unique_id) != "view":
            return False
        inputs = self.graph.inputs(unique_id)
        if not self.graph.keeps_views and any(decided.get(one) or self._is_other_source(one, record) for one in inputs):
            return False
        columns = column_version(self.graph, self.known, unique_id, self._columns)
        return columns is not None and columns == record.columns

    def _is_other_source(self, unique_id: str, record: BuildRecord) -> bool:
        """Return whether a source has different data: views follow a table that a loader has renamed."""
        if self.graph.kinds.get(unique_id) != "source":
            return False
        value = self._value(unique_id)
        return value is None or value != record.inputs.get(unique_id)

    def _value(self, unique_id: str) -> str | None:
        return self.known.build_of(self.graph, unique_id)

    def _changed_input(
        self, inputs: AbstractSet[str], record: BuildRecord, decided: Mapping[str, str | None]
    ) -> str | None:
        for parent in sorted(inputs):
            if decided.get(parent):
                return f"{short_name(parent)} is built"
        for parent in sorted(inputs):
            value = self._value(parent)
            if value is None:
                return self._unknown_input(parent)
            if value != record.inputs[parent]:
                is_source = self.graph.kinds.get(parent) == "source"
                what = (
                    f"the data of {short_name(parent)} has changed" if is_source else f"{short_name(parent)} was built"
                )
                return f"{what} since then"
        return None

    def _held(self, unique_id: str, record: BuildRecord, decided: Mapping[str, str | None]) -> str | None:
        """Return why a node waits although an input has new data; None if it is built."""
        waiting = self.known.waiting.get(unique_id, NO_WAITING)
        if self.graph.kinds.get(unique_id) not in STORED:
            return None
        inputs = self.graph.inputs(unique_id)
        if waiting.needs_all:
            changed = {
                parent
                for parent in inputs
                if decided.get(parent) or (value := self._value(parent)) is None or value != record.inputs[parent]
            }
            if not all(changed & read for read in self.graph.read_by_parents(unique_id) if read):
                return NOT_ALL_CHANGED
        return WAITS if 0 <= self.known.now - record.time < waiting.seconds else None

    def _is_in_doubt(self, parent: str, reader: BuildRecord, decided: Mapping[str, str | None]) -> bool:
        """Return whether a parent may have more than new data since the last build of its reader."""
        if self.graph.kinds.get(parent) == "source":
            return False
        state, value = self.known.states.get(parent), self._value(parent)
        code = state.fingerprint if isinstance(state, BuildRecord) else None
        if not decided.get(parent):
            is_other = value != reader.inputs.get(parent)
            return value is None or (is_other and code != reader.codes.get(parent))
        if parent in self._for_new_data:
            return False
        has_same_code = code is not None and code == self.known.fingerprints.get(parent)
        return not (parent in self.known.always and has_same_code and parent not in self._doubtful)

    def _missing_input(self, inputs: AbstractSet[str]) -> str | None:
        """Return why a table that is read may not exist; None if all exist.

        Selected tables are not looked at, because the run builds them if they are missing.
        """
        others = [one for one in sorted(inputs - self.nodes) if self.graph.kinds.get(one) != "source"]
        return next(
            (f"it is not certain that {short_name(one)} exists" for one in others if not self.existing.get(one)), None
        )

    def _unknown_input(self, parent: str) -> str:
        state = self.known.states.get(parent)
        if self.graph.kinds.get(parent) == "source":
            return f"it is not known whether the data of {short_name(parent)} has changed"
        why = state.reason if isinstance(state, Unknown) else _NEVER_BUILT.reason
        return f"it is not known which build {short_name(parent)} has: {why}"

    def _missing(self, unique_id: str) -> str | None:
        exists = self.existing.get(unique_id, None)
        if exists is None:
            return "it is not known whether its table exists"
        return None if exists else "its table does not exist, or has another type or other columns"

    def test_reason(self, test: str) -> str | None:
        """Return why a test runs; None if its last result stands."""
        always, record = self.known.always.get(test), self.known.test_records.get(test)
        if always:
            return always
        if record is None:
            return "no run has recorded its result"
        if not record.is_clean:
            return "it warned" if record.passed else "it failed"
        if self.known.test_versions.get(test) != record.version:
            return "it has changed"
        if test.startswith(UNIT_TEST):
            # It reads no tables, and its version has the code of its model. dbt runs it before a build of the model.
            tested = next((parent for parent in sorted(self.graph.inputs(test)) if self.reasons.get(parent)), None)
            return f"{short_name(tested)} is built" if tested else None
        return self._other_tables(test, record)

    def _other_tables(self, test: str, record: CheckRecord) -> str | None:
        """Return why a test would read other rows than the last time; None if it would not."""
        inputs = self.graph.inputs(test)
        if not inputs or inputs != record.inputs.keys():
            return "it is not known which tables it reads"
        for parent in sorted(inputs):
            if self.reasons.get(parent):
                return f"{short_name(parent)} is built"
            value = self._value(parent)
            if value is None or value != record.inputs[parent]:
                return f"it has not run since {short_name(parent)} changed"
        return self._missing_input(inputs)


def decide(
    graph: BuildGraph,
    known: Known,
    nodes: AbstractSet[str],
    tests: AbstractSet[str],
    existing: Mapping[str, bool | None],
) -> Decision:
    """Decide which of a step's nodes are built, and which of its tests run.

    Args:
        graph: The project.
        known: What is known before the run.
        nodes: Unique ids of the selected nodes.
        tests: Unique ids of the selected tests.
        existing: Whether the table of each node, and of each table that they read, exists as its last build left it:
            type, columns and identity. None or a missing entry if that is not known.
    """
    decider = _Decider(graph, known, nodes, existing)
    built = {one: reason for one, reason in decider.reasons.items() if reason and one in nodes}
    run = {test: reason for test in sorted(tests) if (reason := decider.test_reason(test))}
    return Decision(
        built=built,
        reused={one: decider.held.get(one, UP_TO_DATE) for one in sorted(nodes - built.keys())},
        run=run,
        kept=dict.fromkeys(sorted(tests - run.keys()), NOT_AFFECTED),
    )


def short_name(unique_id: str) -> str:
    """Return the part of a unique id that a person reads: without resource type and package."""
    return ".".join(unique_id.split(".")[2:3]) if unique_id.startswith("test.") else ".".join(unique_id.split(".")[2:])
