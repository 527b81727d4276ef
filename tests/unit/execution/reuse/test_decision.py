"""Decisions about single nodes."""

from __future__ import annotations

from floe_orchestrator_dagster.execution.reuse.decision import decide
from floe_orchestrator_dagster.execution.reuse.graph import BuildGraph
from floe_orchestrator_dagster.execution.reuse.knowledge import Known, column_version, read_inputs
from floe_orchestrator_dagster.execution.reuse.records import BuildRecord, CheckRecord

VIEW, MART = "model.shop.clock", "model.shop.mart"
GRAPH = BuildGraph({MART: (VIEW,), VIEW: ()}, {MART: "table", VIEW: "view"})


def known(always: dict[str, str], inputs: dict[str, str | None]) -> Known:
    states = {VIEW: BuildRecord("v", "f", "p", {}, 0), MART: BuildRecord("m", "f", "p", inputs, 0)}
    return Known({VIEW: "f", MART: "f"}, always, states, {}, {}, {}, {})


def test_table_is_built_whose_view_is_not_selected_and_has_varying_rows() -> None:
    existing = {MART: True, VIEW: True}

    plain = decide(GRAPH, known({}, {VIEW: "v"}), {MART}, set(), existing)
    varying = decide(GRAPH, known({VIEW: "its code uses now"}, {VIEW: "v"}), {MART}, set(), existing)

    assert plain.reused.keys() == {MART}
    assert varying.built.keys() == {MART}
    assert read_inputs(GRAPH, known({VIEW: "its code uses now"}, {}), MART, {}) == {VIEW: None}


def test_table_whose_existence_is_not_known_is_built() -> None:
    decision = decide(GRAPH, known({}, {VIEW: "v"}), {MART, VIEW}, set(), {VIEW: None, MART: True})

    assert decision.built == {VIEW: "it is not known whether its table exists", MART: "clock is built"}


def test_reader_of_a_source_that_the_same_run_builds_has_no_record_of_it() -> None:
    source = "source.shop.landing.orders"
    graph = BuildGraph({MART: (source,), VIEW: ()}, {MART: "table", VIEW: "table"}, built_sources={source: VIEW})

    assert read_inputs(graph, known({}, {}), MART, {VIEW: "new"}) == {VIEW: None}
    assert read_inputs(graph, known({}, {}), MART, {VIEW: "new"}, {VIEW}) == {VIEW: "new"}
    assert read_inputs(graph, known({}, {}), MART, {}) == {VIEW: "v"}


def test_reader_of_a_source_that_the_product_builds_reads_the_source_too_if_others_can_load_it() -> None:
    source = "source.shop.landing.orders"
    parents, kinds = {MART: (source, VIEW), VIEW: ()}, {MART: "table", VIEW: "table", source: "source"}

    assert BuildGraph(parents, kinds, {source: VIEW}).inputs(MART) == {VIEW}
    assert BuildGraph(parents, kinds, {source: VIEW}, {source}).inputs(MART) == {VIEW, source}


def test_a_test_that_warned_runs_again() -> None:
    test = "test.shop.unique"
    graph = BuildGraph({**GRAPH.parents, test: (MART,)}, GRAPH.kinds)

    def run(*, is_clean: bool) -> dict[str, str]:
        last = CheckRecord(passed=True, is_clean=is_clean, version="1", inputs={MART: "m"}, run_id="r")
        plain = known({}, {VIEW: "v"})
        facts = Known(plain.fingerprints, {}, plain.states, {}, {test: "1"}, {test: last}, {test: {MART}})
        return dict(decide(graph, facts, {MART, VIEW}, {test}, {MART: True, VIEW: True}).run)

    assert run(is_clean=True) == {}
    assert run(is_clean=False) == {test: "it warned"}


def test_failed_test_on_two_models_builds_both() -> None:
    test, other = "test.shop.matches", "model.shop.other"
    graph = BuildGraph({MART: (), other: (), test: (MART, other)}, {MART: "table", other: "table"})
    states = {one: BuildRecord(one, "f", "p", {}, 0) for one in (MART, other)}

    def built(*, passed: bool, selected: set[str]) -> set[str]:
        last = CheckRecord(passed, passed, version="1", inputs={MART: MART, other: other}, run_id="r")
        facts = Known(dict.fromkeys(states, "f"), {}, states, {}, {test: "1"}, {test: last}, {test: {MART, other}})
        return {*decide(graph, facts, selected, set(), dict.fromkeys(states, True)).built}

    assert built(passed=True, selected={MART, other}) == set()
    assert built(passed=False, selected={MART, other}) == {MART, other}
    assert built(passed=False, selected={other}) == {other}


def test_unit_test_runs_with_its_model_or_when_it_has_changed() -> None:
    test = "unit_test.shop.mart.u"
    graph = BuildGraph({**GRAPH.parents, test: (MART,)}, GRAPH.kinds)

    def run(version: str, always: dict[str, str]) -> dict[str, str]:
        # dbt runs it before the build of its model, whose earlier build may be unknown.
        last = CheckRecord(passed=True, is_clean=True, version="1", inputs={MART: None}, run_id="r")
        plain = known({}, {VIEW: "v"})
        facts = Known(plain.fingerprints, always, plain.states, {}, {test: version}, {test: last}, {test: {MART}})
        return dict(decide(graph, facts, {MART, VIEW}, {test}, {MART: True, VIEW: True}).run)

    assert run("1", {}) == {}
    assert run("2", {}) == {test: "it has changed"}
    assert run("1", {MART: "it has hooks"}) == {test: "mart is built"}


SOURCE = "source.shop.landing.orders"
STAGING, STG_VIEW, READER = "model.shop.staging", "model.shop.stg_view", "model.shop.reader"


class Views:
    """A view of a table of a source, and a table of the view."""

    def __init__(self, *, keeps_views: bool = True, staging: str = "table") -> None:
        parents = {STAGING: (SOURCE,), STG_VIEW: (STAGING,), READER: (STG_VIEW,)}
        kinds = {SOURCE: "source", STAGING: staging, STG_VIEW: "view", READER: "table"}
        self.graph = BuildGraph(parents, kinds, keeps_views=keeps_views)
        self.code = dict.fromkeys((STAGING, STG_VIEW, READER), "code")
        self.rows, self.columns, self.builds = "1", "a", 0
        self.states: dict[str, BuildRecord] = {}

    def run(self, *nodes: str) -> set[str]:
        """Decide, and record the builds; returns the built nodes."""
        known = Known(
            self.code, {}, self.states, {SOURCE: self.rows + self.columns}, {}, {}, {}, {SOURCE: self.columns}
        )
        built = decide(self.graph, known, set(nodes or self.code), set(), dict.fromkeys(self.code, True)).built
        build_ids, columns, found = dict[str, str](), dict[str, str | None](), dict(self.states)
        for node in [node for node in self.code if node in built]:
            self.builds += 1
            build_ids[node] = str(self.builds)
            is_incremental = self.graph.kinds[node] == "incremental"
            columns[node] = build_ids[node] if is_incremental else column_version(self.graph, known, node, columns)
            inputs = read_inputs(self.graph, known, node, build_ids)
            found[node] = BuildRecord(build_ids[node], self.code[node], "", inputs, 0, 0.0, columns[node])
        self.states = found
        return set(built)


def test_new_rows_of_a_table_build_no_view_but_the_tables_behind_it() -> None:
    views = Views()
    assert views.run() == {STAGING, STG_VIEW, READER}
    assert views.run() == set()

    views.rows = "2"
    assert views.run() == {STAGING, READER}
    assert views.run() == set()

    views.rows = "3"
    assert views.run(STAGING) == {STAGING}
    assert views.run() == {READER}


def test_new_data_of_a_source_builds_a_view_of_it_where_views_follow_renamed_tables() -> None:
    plain, following = Views(staging="view"), Views(staging="view", keeps_views=False)
    for views in (plain, following):
        views.run()
        views.rows = "2"

    assert plain.run() == {READER}
    assert following.run() == {STAGING, STG_VIEW, READER}


def test_other_columns_of_a_table_build_the_views_that_read_it() -> None:
    views = Views()
    views.run()

    views.columns = "b"
    assert views.run() == {STAGING, STG_VIEW, READER}

    views.code[STAGING] = "other"
    assert views.run(STAGING) == {STAGING}
    assert views.run(STG_VIEW, READER) == {STG_VIEW, READER}


def test_view_is_built_with_its_table_where_the_database_drops_it() -> None:
    views = Views(keeps_views=False)
    views.run()

    views.rows = "2"
    assert views.run() == {STAGING, STG_VIEW, READER}


def test_view_of_an_incremental_model_is_built_with_it() -> None:
    views = Views(staging="incremental")
    views.run()

    views.rows = "2"
    assert views.run() == {STAGING, STG_VIEW, READER}
    assert views.run() == set()
