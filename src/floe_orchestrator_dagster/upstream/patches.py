"""Registry of the patches: functions of dagster, dagster-dbt and dbt that this package replaces, for speed.

None of these functions is public. A patch is active if the function ``find_problem()`` of its module returns None, and
``FLOE_UPSTREAM_PATCHES`` is not ``off``. Otherwise its fallback is used, with the same results.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from importlib import import_module

from floe_orchestrator_dagster.errors import ConfigError, Problem

logger = logging.getLogger(__name__)

SWITCH = "FLOE_UPSTREAM_PATCHES"
"""Environment variable: ``off`` uses the fallback of all patches; ``on``, the default, uses the patches."""
ACTIVE = "active"
NOT_TRIED = "not tried yet"
OFF = "off"
GAVE_UP = "gave up"

_ON = "on"


@dataclass(frozen=True)
class Patch:
    """A replacement of functions that are not public.

    Attributes:
        name: Name in the log and in ``floe-dagster check``.
        module: Module of this package with the patch and its ``find_problem()``.
        package: Distribution whose functions it replaces.
        since: First tested version of that distribution.
        replaces: The replaced functions, and when they are replaced.
        buys: The measured saving.
        without: The behaviour without it.
    """

    name: str
    module: str
    package: str
    since: str
    replaces: str
    buys: str
    without: str


@dataclass(frozen=True)
class State:
    """State of a patch in this process.

    Attributes:
        status: ``active``, ``not tried yet``, ``off`` or ``gave up``.
        reason: Why it gave up; else empty.
    """

    status: str
    reason: str = ""


DBT_IMPORT = Patch(
    name="dbt-import",
    module="dagster_dbt_import",
    package="dagster-dbt",
    since="0.29",
    replaces="the imports of dbt and sqlglot by dagster-dbt, while a product is loaded",
    buys="2.9 of 7.4 s of CPU in each process that loads a product of 250 models, and 28 + 31 MB",
    without="dagster-dbt imports dbt and sqlglot",
)
DBT_SELECTION = Patch(
    name="dbt-selection",
    module="dagster_dbt_selection",
    package="dagster-dbt",
    since="0.26.21",
    replaces="`select_unique_ids` (up to 0.26 `select_unique_ids_from_manifest`), while `@dbt_assets` is applied",
    buys="3.0 of 7.6 s of CPU and 42 of 183 MB of a load of 250 models",
    without="dbt selects the nodes of each stage, so that dbt-core must be installed",
)
ASSET_KEYS = Patch(
    name="asset-keys",
    module="dagster_asset_keys",
    package="dagster",
    since="1.10.21",
    replaces="`AssetsDefinition.asset_and_check_keys`, `StepExecutionContext.get_output_asset_keys`, of dbt's steps",
    buys="0.1 s of CPU for each output of a step with 1,000 assets (8 ms with 250)",
    without="Dagster computes both sets of keys again for each output",
)
NODE_DEPENDENCIES = Patch(
    name="node-dependencies",
    module="dagster_node_deps",
    package="dagster",
    since="1.10.21",
    replaces="`build_node_deps`, which connects the steps of a job, while jobs are resolved",
    buys="a third of the CPU of a load of 2,300 models in a graph like that of a real project",
    without="Dagster collects the assets of all checks of a step again for each input of the step",
)
METADATA_SETS = Patch(
    name="metadata-sets",
    module="dagster_metadata_sets",
    package="dagster",
    since="1.10.21",
    replaces="the constructor of `NamespacedMetadataSet` and the `model_fields` that it calls, for each asset",
    buys="0.4 of 4.7 s of CPU in which a run worker loads 2,300 models in a graph like that of a real project",
    without="Dagster checks the annotations of the class again for each object that it creates from metadata",
)
ASSET_SPECS = Patch(
    name="asset-specs",
    module="dagster_asset_specs",
    package="dagster",
    since="1.10.21",
    replaces="`AssetSpec.merge_attributes` of metadata, and `replace_attributes` without an automation condition",
    buys="0.4 of 4.3 s of CPU in which a run worker loads 2,300 models in a graph like that of a real project",
    without="Dagster checks all attributes of a spec again when one of them changes",
)
OUTPUT_TYPES = Patch(
    name="output-types",
    module="dagster_output_types",
    package="dagster",
    since="1.10.21",
    replaces="`resolve_dagster_type`, which the constructors of inputs and outputs of steps call",
    buys="0.3 of 1.3 s of CPU of a load of 500 models with three tests each, and 0.2 of 0.8 s in each run worker",
    without="Dagster looks through all kinds of type annotations for each input and output of a step",
)
SERIALIZATION = Patch(
    name="serialization",
    module="dagster_serialization",
    package="dagster",
    since="1.10.21",
    replaces="`_LazySerializationWrapper.items` and `_pack_object`, which convert Dagster's objects to JSON",
    buys="0.13 of 1.2 s of CPU of a load of 500 models with three tests each: half of the time of the serialization",
    without="Dagster looks up how a field is stored for each field of each object",
)
SNAPSHOT = Patch(
    name="snapshot",
    module="dagster_snapshot",
    package="dagster",
    since="1.10.21",
    replaces="which fields the serializers of assets, checks and dependencies omit, and `serialize_value`, "
    "in code servers",
    buys="0.67 of 1.85 MB that the webserver fetches of 500 models with three tests each, and a quarter of the time in "
    "which it reads them",
    without="the code server also sends all fields that are None or empty, and spaces",
)
CHECK_EVALUATIONS = Patch(
    name="check-evaluations",
    module="dagster_check_evaluations",
    package="dagster",
    since="1.10.21",
    replaces="the evaluation and output that Dagster creates for a check result, for tables that the step has built",
    buys="4 ms of CPU for each check result of a step with 1,000 assets (3 ms with 250)",
    without="Dagster looks through all checks of the step for each result",
)
EVENT_LOG = Patch(
    name="event-log",
    module="dagster_event_log",
    package="dagster",
    since="1.10.21",
    replaces="`SqliteEventLogStorage._connect`, and its lookups of tables, columns and migrations, while dbt runs, "
    "and while the events of reused tables are stored",
    buys="37 of 54 s of CPU of a step with 250 models and 750 checks on SQLite",
    without="Dagster opens the database for each statement",
)
POSTGRES_LOG = Patch(
    name="postgres-log",
    module="dagster_postgres_log",
    package="dagster-postgres",
    since="0.26.21",
    replaces="the engine of `PostgresEventLogStorage`, while dbt runs",
    buys="1.4 of 9.3 s of CPU and half of the time of a run with 100 models and 300 checks",
    without="Dagster opens a connection for each statement",
)
POSTGRES_BATCHES = Patch(
    name="postgres-batches",
    module="dagster_postgres_batches",
    package="dagster-postgres",
    since="0.26.21",
    replaces="`PostgresEventLogStorage.store_event`, `_connect` and lookups of tables and columns, while dbt runs",
    buys="9.4 of 19.6 s of CPU of a step with 250 models and 750 checks",
    without="Dagster writes each event with two to five statements",
)
DBT_FILES = Patch(
    name="dbt-files",
    module="dbt_files",
    package="dbt-core",
    since="1.9",
    replaces="the first `write_manifest`, `Linker.write_graph`, `Linker.get_graph_summary`, in the process of dbt",
    buys="8 of 15 s until the first node with 2,000 models",
    without="dbt writes manifest.json twice, and graph.gpickle",
)
PATCHES = (
    DBT_IMPORT,
    DBT_SELECTION,
    ASSET_KEYS,
    NODE_DEPENDENCIES,
    METADATA_SETS,
    ASSET_SPECS,
    OUTPUT_TYPES,
    SERIALIZATION,
    SNAPSHOT,
    CHECK_EVALUATIONS,
    EVENT_LOG,
    POSTGRES_LOG,
    POSTGRES_BATCHES,
    DBT_FILES,
)

_states: dict[str, State] = {}


def are_on() -> bool:
    """Return whether ``FLOE_UPSTREAM_PATCHES`` allows patches.

    Raises:
        ConfigError: The variable is neither ``on`` nor ``off``.
    """
    value = os.environ.get(SWITCH, "").strip().lower() or _ON
    if value in {_ON, OFF}:
        return value == _ON
    what = f"{os.environ[SWITCH]!r} is neither 'on' nor 'off'"
    raise ConfigError("environment", [Problem(SWITCH, what, f"Set {SWITCH}=off to use no patches, or unset it.")])


def state(patch: Patch) -> State:
    """Return the state of a patch in this process, without trying it."""
    return _states.get(patch.name, State(NOT_TRIED)) if are_on() else State(OFF)


def attempt(patch: Patch) -> State:
    """Return the state of a patch; the first call in a process runs its ``find_problem()``."""
    if are_on() and patch.name not in _states:
        problem = _problem(patch)
        if problem is None:
            _states[patch.name] = State(ACTIVE)
        else:
            give_up(patch, problem)
    return state(patch)


def is_active(patch: Patch) -> bool:
    """Return whether a patch is active; the first call in a process runs its ``find_problem()``."""
    return attempt(patch).status == ACTIVE


def give_up(patch: Patch, reason: str) -> None:
    """Use the fallback of a patch from now on, and log the reason once."""
    if _states.get(patch.name) != State(GAVE_UP, reason):
        _states[patch.name] = State(GAVE_UP, reason)
        logger.info("Patch %s is not used: %s. %s, which takes longer.", patch.name, reason, patch.without)


def _problem(patch: Patch) -> str | None:
    try:
        problem: str | None = import_module(f"{__package__}.{patch.module}").find_problem()
    except Exception as error:  # noqa: BLE001  # a later version can fail in any way: the patch gives up, and says why
        return f"{type(error).__name__}: {error}"
    return problem
