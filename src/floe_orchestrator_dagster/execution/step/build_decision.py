"""Decision about the nodes of a step: what Dagster's instance, the project and the database show before dbt starts."""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.execution.reuse.decision import UNIT_TEST, UP_TO_DATE, Decision, decide
from floe_orchestrator_dagster.execution.reuse.knowledge import Known
from floe_orchestrator_dagster.execution.reuse.records import Unknown
from floe_orchestrator_dagster.execution.step.build_facts import (
    Places,
    build_graph,
    drops_views,
    is_assumed_unchanged,
    tests_with_values,
    waiting_times,
)
from floe_orchestrator_dagster.execution.step.build_history import BuildHistory, read_history
from floe_orchestrator_dagster.execution.step.database_epochs import database_epoch
from floe_orchestrator_dagster.execution.step.other_computes import OtherComputes
from floe_orchestrator_dagster.execution.step.partition_builds import (
    PartitionBuilds,
    always_built,
    read_partition_builds,
    variables_of_partitions,
)
from floe_orchestrator_dagster.execution.step.time_windows import NO_WINDOW
from floe_orchestrator_dagster.execution.step.warehouse import Warehouse
from floe_orchestrator_dagster.garbage import collection_paused
from floe_orchestrator_dagster.product.build_fingerprints import build_fingerprints
from floe_orchestrator_dagster.product.build_traits import OF_BATCHES
from floe_orchestrator_dagster.product.partition_variables import varying_nodes
from floe_orchestrator_dagster.product.trimming import ALWAYS_BUILT, TEST_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    import dagster as dg

    from floe_orchestrator_dagster.execution.reuse.graph import BuildGraph
    from floe_orchestrator_dagster.execution.step.build_plan import DbtStep
    from floe_orchestrator_dagster.execution.step.time_windows import Window
    from floe_orchestrator_dagster.product.build_fingerprints import BuildFingerprint

logger = logging.getLogger(__name__)
_HOOKED = {"view": 0, "table": 1, "seed": 2}  # kinds of nodes that are built for hooks, the best first
_FOR_HOOKS = "dbt runs its on-run hooks only with a node (on_run_hooks)"


@dataclass(frozen=True)
class StepDecision:
    """The decision about a step, with the knowledge that it follows from.

    Attributes:
        decision: The decision.
        graph: The product's graph.
        known: What the decision depends on.
        history: What Dagster's instance knows.
        places: Where the tables are.
        warehouse: The database before the run.
        others: The tables of other computes that the step reads.
        partitions: The partitions that the run builds, and their last builds.
    """

    decision: Decision
    graph: BuildGraph
    known: Known
    history: BuildHistory
    places: Places
    warehouse: Warehouse
    others: OtherComputes
    partitions: PartitionBuilds


@collection_paused()  # it creates a million objects, and almost none of them is garbage
def decide_step(  # noqa: PLR0913, PLR0917  # a decision depends on all of these
    instance: dg.DagsterInstance,
    run_id: str,
    step: DbtStep,
    expected: AbstractSet[str],
    build_all: str | None,
    before: Mapping[str, str] | None = None,
    log: logging.Logger = logger,
    window: Window = NO_WINDOW,
) -> StepDecision:
    """Decide what a step builds. Nothing is written.

    Args:
        instance: The Dagster instance.
        run_id: Id of the run.
        step: The step's definition.
        expected: Unique ids of the selected nodes and tests.
        build_all: Why all of them are built; None if only changed ones are.
        before: Why nodes of earlier steps are built in the same run; None if that is in the instance already.
        log: The run's log.
        window: The partitions that the run builds.
    """
    nodes = step.nodes
    built, tests = expected & frozenset(nodes.assets.values()), expected & frozenset(nodes.checks.values())
    graph = build_graph(step)
    read = _read_with(step, graph, built | tests)
    foreign = frozenset(one for one in read if step.compute_of(one) != step.compute)
    others = OtherComputes(instance, step, graph, foreign, log)
    warehouse = _warehouse(step, _read_there(step, graph, read, foreign, built | tests), built | tests, log)
    places = Places(step.connection, database_epoch(instance, warehouse.database))
    # The history of Dagster's instance is read while another process lists the tables. Queries of other computes could
    # not open the same file meanwhile.
    is_listed = build_all is None and bool(built) and not foreign
    with warehouse.listed_beside() if is_listed else nullcontext():
        varying = varying_nodes(step.manifest, step.connection, variables_of_partitions(step))
        known, history = _known(instance, run_id, step, read, places, built | tests, warehouse, others, varying)
        partitions = replace(read_partition_builds(instance, step, window, built, known), varying=frozenset(varying))
        known = replace(known, before=before or {}, unbuilt=partitions.unbuilt)
        if window.keys:
            # A waiting time begins with the last build of a table, whichever partitions it had.
            always, windowed = always_built(partitions, window, known.always), frozenset(partitions.windows)
            known = replace(known, always=always, windowed=windowed, waiting={})
        reason = build_all
        if not built:
            reason = reason or "the run selects only checks"
        if reason is not None:
            every = Decision(dict.fromkeys(sorted(built), reason), {}, dict.fromkeys(sorted(tests), reason), {})
            return StepDecision(every, graph, known, history, places, warehouse, others, partitions)
        assumed = dict.fromkeys(known.states, True)
        likely = decide(graph, known, built, tests, assumed)
        # Nothing is looked up if nothing can be reused. Otherwise a missing table also decides whether its readers
        # wait.
        kept = likely.reused.keys() | likely.kept.keys()
        looked_up = known.states.keys() if kept else frozenset[str]()
        shapes = {table: history.shapes[key] for table in looked_up if (key := step.key_of[table]) in history.shapes}
        existing = warehouse.existing(looked_up - foreign, known.states, shapes)
        existing |= others.existing(looked_up & foreign, known.states, shapes)
        decision = likely if existing == assumed else decide(graph, known, built, tests, existing)
        while tested := _tested_alone(step, decision):
            known = replace(known, always={**known.always, **tested})
            decision = decide(graph, known, built, tests, existing)
        if step.has_hooks and step.product.config.on_run_hooks == "always":
            decision = with_a_node(decision, graph)
        return StepDecision(decision, graph, known, history, places, warehouse, others, partitions)


def _read_there(
    step: DbtStep, graph: BuildGraph, read: AbstractSet[str], foreign: AbstractSet[str], selected: AbstractSet[str]
) -> AbstractSet[str]:
    """Return what is read in the step's own database. A view of another compute reads its sources there."""
    if not foreign:
        return read
    sources, assumed = step.manifest.content["sources"], frozenset(step.product.config.assume_unchanged)
    named = frozenset[str]().union(*map(graph.direct_inputs, (read - foreign) | selected))
    elsewhere = {one for one in read & sources.keys() - named if not is_assumed_unchanged(sources[one], assumed)}
    return read - foreign - elsewhere


def _warehouse(step: DbtStep, read: AbstractSet[str], selected: AbstractSet[str], log: logging.Logger) -> Warehouse:
    """Return the database of the selected nodes and tests, and of what they read there."""
    content, assets = step.manifest.content, {node["unique_id"]: node for node in step.manifest.asset_nodes}
    tables = [assets[table] for table in sorted((read | selected) & assets.keys())]
    sources = [
        {**content["sources"][source], "unique_id": source} for source in sorted(read & content["sources"].keys())
    ]
    return Warehouse(step, tables, sources, log)


def _tested_alone(step: DbtStep, decision: Decision) -> dict[str, str]:
    """Return the reused models of unit tests that run: dbt runs a unit test only with its model."""
    parents, unit_tests = step.manifest.content["parent_map"], step.manifest.content["unit_tests"]
    return {
        model: f"its unit test {unit_tests[test]['name']} runs"
        for test in decision.run
        if test in unit_tests
        for model in parents.get(test, ())
        if model in decision.reused
    }


def with_a_node(decision: Decision, graph: BuildGraph) -> Decision:
    """Return a decision to run a data test or, without one, to build a node, because dbt runs hooks only with nodes.

    A node that others read or that waits is not built: its readers would be built later. A view is preferred to a
    table, and a table to an incremental model or snapshot.
    """
    if decision.built or decision.run:
        return decision
    tests = sorted(test for test in decision.kept if not test.startswith(UNIT_TEST))
    if tests:
        kept = {test: reason for test, reason in decision.kept.items() if test != tests[0]}
        return replace(decision, run={tests[0]: _FOR_HOOKS}, kept=kept)
    read = frozenset[str]().union(*map(graph.inputs, graph.kinds))
    unread = (node for node, reason in decision.reused.items() if reason == UP_TO_DATE and node not in read)
    nodes = sorted(unread, key=lambda node: (_HOOKED.get(graph.kinds[node], len(_HOOKED)), node))
    reused = {node: reason for node, reason in decision.reused.items() if node not in nodes[:1]}
    return replace(decision, built=dict.fromkeys(nodes[:1], _FOR_HOOKS), reused=reused)


def _read_with(step: DbtStep, graph: BuildGraph, selected: AbstractSet[str]) -> frozenset[str]:
    """Return what nodes and tests read, and the views that a build of the nodes may drop."""
    dropped = graph.views_of(selected) if drops_views(step) else frozenset[str]()
    views = frozenset(view for view in dropped if step.compute_of(view) == step.compute)
    return views.union(*map(graph.inputs, [*selected, *views]))


def _known(  # noqa: PLR0913, PLR0917  # all that is known
    instance: dg.DagsterInstance,
    run_id: str,
    step: DbtStep,
    read: AbstractSet[str],
    places: Places,
    selected: AbstractSet[str],
    warehouse: Warehouse,
    others: OtherComputes,
    varying: Mapping[str, str],
) -> tuple[Known, BuildHistory]:
    content, assets = step.manifest.content, {node["unique_id"]: node for node in step.manifest.asset_nodes}
    tables = (read | selected) & assets.keys()
    checks = step.all_checks()
    maps = [content["parent_map"]]
    if step.product.dbt is not None and step.product.dbt.manifest is not step.manifest:
        maps.append(step.product.dbt.manifest.content["parent_map"])  # a test that ran on another compute
    parents = {test: frozenset(chain.from_iterable(found.get(test, ()) for found in maps)) for test in checks}
    tests = {test: found for test, found in parents.items() if test in selected or found & tables}
    now = time.time()
    # Sources are observed before the history is read, and so before dbt starts.
    versions = warehouse.versions
    own = tables - others.tables
    where = {table: (places.place(assets[table]), places.relation(assets[table])) for table in own} | others.places
    history = read_history(
        instance,
        run_id,
        {step.key_of[table]: place for table, (place, _) in where.items()},
        [checks[test] for test in tests],
        {step.key_of[table]: relation for table, (_, relation) in where.items()},
    )
    fingerprints = build_fingerprints(step.manifest, step.connection)
    doubts = {unique_id: found.doubt for unique_id, found in fingerprints.items() if found.doubt}
    declared = _values(content, ALWAYS_BUILT)
    batched = {node: declared.pop(node) for node in [*declared] if declared[node] == OF_BATCHES}
    # A window of partitions removes the reason of microbatch models, and leaves all others.
    always = {**batched, **varying, **doubts, **tests_with_values(step, tests), **declared}
    always = {one: reason for one, reason in always.items() if one not in others.tables} | others.always_built
    codes = {table: fingerprints[table] for table in own} | others.fingerprints
    states = {table: history.states[step.key_of[table]] for table in where}
    known = Known(
        fingerprints={table: found.value for table, found in codes.items() if found.value},
        always={**others.doubts(own | selected), **others.doubtful_views(states, selected), **always},
        states=states | {table: Unknown(reason) for table, reason in others.unknown.items()},
        versions=versions,
        test_versions=_test_versions(content, fingerprints),
        test_records={test: history.tests[checks[test]] for test in tests if checks[test] in history.tests},
        tests=tests,
        source_columns=warehouse.source_columns,
        waiting=waiting_times(step, own),
        now=now,
    )
    return known, history


def _test_versions(content: Mapping[str, Any], fingerprints: Mapping[str, BuildFingerprint]) -> dict[str, str]:
    """Return the version of each test; that of a unit test with the values that its model reads."""
    versions = _values(content, TEST_VERSION)
    for unique_id, unit_test in content["unit_tests"].items():
        tested = (unit_test.get("depends_on") or {}).get("nodes") or ()
        read = [fingerprints[model].value for model in tested if model in fingerprints]
        versions[unique_id] = "-".join([versions[unique_id], *read])
    return versions


def _values(content: Mapping[str, Any], field_name: str) -> dict[str, str]:
    """Return a field of the nodes and unit tests that have it, by unique id."""
    every = {**content["nodes"], **content["unit_tests"]}
    return {unique_id: node[field_name] for unique_id, node in every.items() if field_name in node}
