"""Build of what has changed: the nodes of a step that are built, and events for those that are reused.

See ``docs/how-to/build-only-what-changed.md``.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.execution.dbt.catalog import VIEW, table_name
from floe_orchestrator_dagster.execution.record.materializations import versioned_output
from floe_orchestrator_dagster.execution.reuse.records import BuildRecord
from floe_orchestrator_dagster.execution.step.build_decision import StepDecision, decide_step
from floe_orchestrator_dagster.execution.step.build_facts import drops_views
from floe_orchestrator_dagster.execution.step.build_history import BUILT_IN_RUN, RECORD, builder_of
from floe_orchestrator_dagster.execution.step.build_marks import mark_reused
from floe_orchestrator_dagster.execution.step.build_records import BuildRecords
from floe_orchestrator_dagster.execution.step.database_epochs import note_epoch
from floe_orchestrator_dagster.execution.step.partition_builds import variables_of_partitions
from floe_orchestrator_dagster.execution.step.retry import read_by_other_steps
from floe_orchestrator_dagster.product.partition_variables import reads_variables
from floe_orchestrator_dagster.upstream.dagster_check_evaluations import output_names
from floe_orchestrator_dagster.upstream.dagster_event_storage import open_storage
from floe_orchestrator_dagster.upstream.dagster_step_end import close_with_step

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from floe_orchestrator_dagster.execution.reuse.decision import Decision
    from floe_orchestrator_dagster.execution.reuse.records import CheckRecord
    from floe_orchestrator_dagster.execution.step.build_plan import DbtStep
    from floe_orchestrator_dagster.execution.step.build_request import BuildRequest
    from floe_orchestrator_dagster.execution.step.node_selection import Selection
    from floe_orchestrator_dagster.upstream.dagster_check_evaluations import Evaluations

_SHOWN_NAMES = 10
# Materializations that drop the table or view and create another. Incremental models and seeds do so if refreshed.
_REPLACED = frozenset({"table", "view"})
_REPLACED_IF_REFRESHED = frozenset({"incremental", "seed"})
_DROPPED = "the database drops them with the tables that they read"


@dataclass(frozen=True)
class ChangedBuild:
    """The decision about a step, with its selection and records.

    Attributes:
        decision: The decision.
        selection: The nodes that dbt runs.
        records: Records the results.
    """

    decision: Decision
    selection: Selection
    records: BuildRecords

    def start(self) -> None:
        """Log the decision, and mark what dbt is about to build."""
        decision, records = self.decision, self.records
        _log(records.context.log, "built", decision.built)
        _log(records.context.log, "not built", decision.reused)
        _log_increments(self)
        step = records.step
        note_epoch(records.context.instance, records.warehouse.database, records.places.epoch)
        if records.recreated:
            _log(records.context.log, "created again", dict.fromkeys(records.recreated, _DROPPED))
        expected = step.nodes.expected(self.selection) - records.recreated
        tests = expected & records.step.nodes.check_of.keys()
        records.start(expected & frozenset(step.nodes.assets.values()), tests)

    def reused(self, evaluations: Evaluations) -> Iterator[Any]:
        """Yield the events of reused tables and kept results of tests, and mark the tables as still valid.

        :meth:`reused_later` yields the outputs of the tables that read others that the step builds.
        """
        events = self._reused(evaluations)
        close_with_step(self.records.context, events)
        yield from events

    def _reused(self, evaluations: Evaluations) -> Generator[Any, None, None]:
        records = self.records
        context, step, history = records.context, records.step, records.history
        keys = {step.key_of[unique_id] for unique_id in self.decision.reused}
        mark_reused(context.instance, context.run_id, history, keys)
        read = read_by_other_steps(context)
        outputs, later = output_names(context), self._later
        with open_storage(context.instance):
            for key in step.nodes.in_order(keys):
                if outputs[key] not in read:
                    metadata = self._metadata(step.nodes.assets[key])
                    for partition in records.request.window.keys or [None]:
                        context.log_event(dg.AssetObservation(key, partition=partition, metadata=metadata))
                elif key not in later:
                    yield self._again(key, outputs[key])
            check_of = step.nodes.check_of
            for test, reason in self.decision.kept.items():
                check = check_of[test]
                result = self._result(check, records.known.test_records[test], reason)
                latest = history.materializations.get(check.asset_key)
                target = (latest.storage_id, latest.run_id, latest.timestamp) if latest else None
                yield from evaluations.kept(result, target, read)

    def reused_later(self) -> Iterator[dg.Output[None]]:
        """Yield the outputs of reused tables that read others that the step has built: Dagster wants parents first."""
        context = self.records.context
        read, outputs = read_by_other_steps(context), output_names(context)
        for key in self.records.step.nodes.in_order(self._later):
            if outputs[key] in read:
                yield self._again(key, outputs[key])

    @property
    def _later(self) -> AbstractSet[dg.AssetKey]:
        """The reused assets with an ancestor that the step builds, such as views."""
        nodes, key_of = self.records.step.nodes, self.records.step.key_of
        built = {key_of[unique_id] for unique_id in self.decision.built}
        return nodes.downstream(built) & {key_of[unique_id] for unique_id in self.decision.reused}

    def _metadata(self, unique_id: str) -> dict[str, Any]:
        records = self.records
        builds = records.partitions.builds.get(unique_id) or {
            "": records.history.materializations[records.step.key_of[unique_id]]
        }
        run_id = builder_of(max(builds.values(), key=lambda build: build.storage_id))
        return _reused_metadata(self.decision.reused[unique_id], run_id)

    def _again(self, key: dg.AssetKey, output: str) -> dg.Output[None]:
        """Materialize a reused asset, because Dagster skips steps that depend on an asset without an output."""
        unique_id = self.records.step.nodes.assets[key]
        state = self.records.known.states[unique_id]
        if not isinstance(state, BuildRecord):  # only known builds are reused
            raise TypeError(unique_id)
        window = self.records.partitions.windows.get(unique_id)
        record = replace(state, cursor=self.records.history.cursor, window=window)
        more = {**self._metadata(unique_id), RECORD: dg.JsonMetadataValue(record.as_json())}
        return versioned_output(output, more, record.build_id)

    def _result(self, key: dg.AssetCheckKey, record: CheckRecord, reason: str) -> dg.AssetCheckResult:
        """Return the last result of a test, as the result of this run."""
        usual = dg.AssetCheckSeverity.ERROR if record.is_clean else dg.AssetCheckSeverity.WARN
        return dg.AssetCheckResult(
            asset_key=key.asset_key,
            check_name=key.name,
            passed=record.is_clean,
            severity=self.records.step.nodes.severities.get(key) or usual,
            metadata=_reused_metadata(reason, record.run_id),
        )


def changed_build(
    context: dg.OpExecutionContext, step: DbtStep, request: BuildRequest, selection: Selection
) -> ChangedBuild:
    """Decide what a step builds.

    Args:
        context: The step's context.
        step: The step's definition.
        request: What the run asks for.
        selection: The selected nodes.
    """
    expected, build_all = step.nodes.expected(selection), request.build_all or request.no_records
    instance, run_id, log, window = context.instance, context.run_id, context.log, request.window
    found = decide_step(instance, run_id, step, expected, build_all, log=log, window=window)
    dropped = _dropped_views(step, found, request)
    foreign = frozenset(view for view in dropped if step.compute_of(view) != step.compute)
    if foreign:
        what = f"views of other computes that the database drops with their tables: {_names(foreign)}"
        context.log.warning("%s. Launch a run for them, unless a later step of this run builds them.", what)
        dropped -= foreign
    windowed = _with_other_window(step, found, request, dropped)
    if windowed:
        what = f"views of partitions that the database drops with their tables: {_names(sorted(windowed))}"
        context.log.warning("%s. Launch a run for them.", what)
        dropped -= windowed
    changed = frozenset(view for view in dropped if _has_other_code(step, found, view))
    if changed:
        what = f"views that the database drops with their tables, and whose code has changed: {_names(sorted(changed))}"
        context.log.warning("%s. Launch a run for them, unless a later step of this run builds them.", what)
        dropped -= changed
    records = BuildRecords(
        context,
        step,
        found.graph,
        found.known,
        found.history,
        found.places,
        request,
        found.warehouse,
        found.others,
        dropped,
        _changed_increments(step, found),
        found.partitions,
        _keeps_others(step, found, request),
    )
    remaining = _remaining(step, selection, found.decision)
    if dropped:
        remaining = replace(remaining, excluded=remaining.excluded - dropped).with_nodes(dropped)
    return ChangedBuild(found.decision, remaining, records)


def _changed_increments(step: DbtStep, found: StepDecision) -> frozenset[str]:
    """Return the incremental models that are built, and whose rows come from other code in the same place, too.

    The last recorded build need not be current: after a failed run, or one that does not count, rows still come from
    the code before it. A killed run may have left rows of its code without a record.
    """
    nodes, history = step.manifest.content["nodes"], found.history
    changed = set()
    for node in found.decision.built:
        if found.graph.kinds[node] != "incremental":
            continue
        key, code = step.key_of[node], found.known.fingerprints.get(node) or ""
        last = history.last_counted.get(key)
        is_other = last is not None and last.place == found.places.place(nodes[node]) and last.fingerprint != code
        if is_other or history.unfinished.get(key, code) != code:
            changed.add(node)
    return frozenset(changed)


def _keeps_others(step: DbtStep, found: StepDecision, request: BuildRequest) -> frozenset[str]:
    """Return the nodes whose build certainly leaves the rows of other partitions in their table."""
    nodes = found.partitions.keeps_others & found.decision.built.keys()
    if not nodes or request.full_refresh or request.no_records:
        return frozenset()
    shapes = {node: shape for node in nodes if (shape := found.history.shapes.get(step.key_of[node])) is not None}
    existing = found.warehouse.existing(nodes, found.known.states, shapes)
    return frozenset(node for node in nodes if existing[node])


def _dropped_views(step: DbtStep, found: StepDecision, request: BuildRequest) -> frozenset[str]:
    """Return the views that the run does not build, and that are dropped with the tables that it builds.

    Views of the step's compute that an earlier run has dropped without creating them again are among them.
    """
    built = found.decision.built.keys()
    if not built or not drops_views(step):
        return frozenset()
    may_refresh = request.full_refresh or (step.product.config.full_refresh_on_change and step.partitions is None)
    kinds = _REPLACED | (_REPLACED_IF_REFRESHED if may_refresh else frozenset())
    replaced = {unique_id for unique_id in built if found.graph.kinds.get(unique_id) in kinds}
    nodes, relations, states = step.manifest.content["nodes"], found.warehouse.catalog.relations, found.known.states
    views = found.graph.views_of(replaced) - built
    existing = {view: relations.get(table_name(nodes[view])) for view in views}
    own = frozenset(view for view in views if step.compute_of(view) == step.compute)
    return frozenset(
        view
        for view, relation in existing.items()
        if (relation is None and view in own and isinstance(states.get(view), BuildRecord))
        or (relation and relation.kind == VIEW)
    )


def _with_other_window(
    step: DbtStep, found: StepDecision, request: BuildRequest, views: AbstractSet[str]
) -> frozenset[str]:
    """Return the views that this run would create for other partitions than they have, and the views that read them."""
    nodes, names, history = step.manifest.content["nodes"], variables_of_partitions(step), found.history
    last = {view: history.materializations.get(step.key_of[view]) for view in views}
    windowed = {
        view
        for view, built in last.items()
        if (request.window.keys or (built is not None and built.partition is not None))
        and (view in found.partitions.varying or reads_variables(nodes[view], names))
    }
    return frozenset(view for view in views if view in windowed or found.graph.inputs(view) & windowed)


def _has_other_code(step: DbtStep, found: StepDecision, view: str) -> bool:
    """Return whether the last recorded build of a view had other code. It may need tables that do not exist yet."""
    last = found.history.last_records.get(step.key_of[view])
    return last is not None and last.fingerprint != found.known.fingerprints.get(view)


def _remaining(step: DbtStep, selection: Selection, decision: Decision) -> Selection:
    """Return the part of a selection that dbt runs."""
    left_out = decision.reused.keys() | decision.kept.keys()
    if not left_out:
        return selection
    nodes = step.nodes
    own = frozenset(nodes.assets.values()) | frozenset(nodes.checks.values())
    run = decision.built.keys() | decision.run.keys()
    called = frozenset[str]().union(*(nodes.functions.get(unique_id, ()) for unique_id in run))
    callable_ = frozenset[str]().union(*nodes.functions.values())
    if selection.unique_ids is None:
        others = (called | nodes.uncalled) - selection.excluded
    else:
        others = selection.unique_ids - own - (callable_ - called)
    return replace(selection, unique_ids=frozenset(run | others), excluded=frozenset())


def _log_increments(build: ChangedBuild) -> None:
    """Warn that incremental models with changed code keep their earlier rows, or log that they are built again.

    Runs that do not count warn once about a change of code.
    """
    records, request = build.records, build.records.request
    log, changed = records.context.log, records.changed_increments
    if not changed or request.full_refresh:
        return
    if not build.records.is_refreshed:
        warned, code_of = records.history.warned, records.known.fingerprints
        new = [node for node in changed if warned.get(records.step.key_of[node]) != (code_of.get(node) or "")]
        shown = sorted(new if request.no_records else changed)
        if shown:
            log.warning("incremental models whose code has changed: %s. %s", _names(shown), _fix(records))
        return
    log.info("dbt runs with --full-refresh, because the code of incremental models has changed: %s", _names(changed))
    kinds = records.graph.kinds
    others = [node for node in build.decision.built.keys() - {*changed} if kinds[node] == "incremental"]
    if others:
        log.warning("other incremental models that are built from scratch, too: %s", _names(others))


def _fix(records: BuildRecords) -> str:
    """Return how earlier rows of incremental models are built again."""
    kept, launch = "Their earlier rows are kept", "Launch a run with full_refresh to build them from scratch"
    if records.step.partitions is not None:
        return "The rows of other partitions are kept. Launch a backfill to build these again."
    if not records.step.product.config.full_refresh_on_change:
        return f"{kept}. {launch}, or set full_refresh_on_change in the configuration."
    return f"{kept} in spite of full_refresh_on_change, because {records.request.build_all}. {launch}."


def _log(log: dg.DagsterLogManager, what: str, reasons: Mapping[str, str]) -> None:
    """Log a line per reason."""
    groups = defaultdict(list)
    for unique_id, reason in reasons.items():
        groups[reason].append(unique_id)
    for reason, nodes in sorted(groups.items(), key=lambda group: -len(group[1])):
        log.info("%s, because %s: %s", what, reason, _names(nodes))


def _names(unique_ids: Collection[str]) -> str:
    names = ", ".join(".".join(unique_id.split(".")[2:]) for unique_id in sorted(unique_ids)[:_SHOWN_NAMES])
    more = len(unique_ids) - _SHOWN_NAMES
    return f"{names} and {more} more" if more > 0 else names


def _reused_metadata(reason: str, run_id: str) -> dict[str, Any]:
    return {
        "status": "reused",
        "reason": reason,
        BUILT_IN_RUN: dg.MetadataValue.dagster_run(run_id),
    }
