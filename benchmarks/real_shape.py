"""dbt projects with the sizes and distributions of large public ones, generated from the number of models.

The numbers come from a public project of 2,299 models, 6,738 tests and 9,882 sources. Projects of other sizes have the
same shares. One size always gives the same project. All tables have the one row with the id 1, so that joins and
unions stay small. ``sources.sql`` creates the sources that models read; sources that nothing reads have no table.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PROJECT, PACKAGE = "generated", "shared_metrics"
_SOURCES_PER_MODEL, _READ_SOURCES, _TESTS_PER_MODEL = 4.3, 0.28, 2.93
_SEEDS_PER_MODEL, _SNAPSHOTS_PER_MODEL, _UNIONS_PER_MODEL = 0.06, 0.03, 0.01
_SQL_BYTES, _COLUMNS = (200, 60_000), 196
# Share of the models in each layer, and the domains that its folders divide it into.
LAYERS = {"staging": 0.45, "intermediate": 0.3, "marts": 0.2, "reports": 0.05}
_PREFIXES = {"staging": "stg", "intermediate": "int", "marts": "mart", "reports": "report"}
DOMAINS = ("finance", "sales", "marketing", "product", "support", "people", "supply", "platform")
NOUNS = (
    *("account", "address", "agent", "budget", "campaign", "channel", "claim", "contract", "customer", "deal"),
    *("delivery", "device", "discount", "employee", "event", "expense", "feature", "forecast", "incident", "invoice"),
    *("issue", "item", "journey", "lead", "ledger", "member", "order", "partner", "payment", "plan"),
    *("price", "product", "quote", "refund", "region", "session", "shipment", "store", "subscription", "ticket"),
)
CORE = ("id", "name", "amount", "updated_at")


@dataclass(eq=False)
class Source:
    """A table of a source system."""

    system: str
    name: str
    is_read: bool = False

    @property
    def jinja(self) -> str:
        return f"{{{{ source('{self.system}', '{self.name}') }}}}"


@dataclass(eq=False)
class Node:
    """A model, a seed or a snapshot; ``version`` is 0 for a model without versions."""

    name: str
    folder: str
    layer: str
    package: str = PROJECT
    version: int = 0
    parents: list[Node | Source] = field(default_factory=list)
    columns: int = 0
    is_union: bool = False
    is_ephemeral: bool = False
    data_tests: list[object] = field(default_factory=list)
    column_tests: dict[str, list[object]] = field(default_factory=dict)

    @property
    def file(self) -> str:
        return f"{self.name}_v{self.version}" if self.version else self.name

    @property
    def ref(self) -> str:
        package = f"'{self.package}', " if self.package != PROJECT else ""
        version = f", v={self.version}" if self.version else ""
        return f"ref({package}'{self.name}'{version})"

    @property
    def jinja(self) -> str:
        return f"{{{{ {self.ref} }}}}"

    def column(self, number: int) -> str:
        """Name a column: the four that all tables have, then the model's own."""
        own = number - len(CORE)
        return CORE[number] if own < 0 else f"{NOUNS[own % len(NOUNS)]}_{own}"


@dataclass(eq=False)
class Project:
    """Parts of a project before they are written."""

    size: int
    random: random.Random
    sources: list[Source] = field(default_factory=list)
    models: list[Node] = field(default_factory=list)
    seeds: list[Node] = field(default_factory=list)
    snapshots: list[Node] = field(default_factory=list)
    source_tests: dict[tuple[str, str], list[object]] = field(default_factory=dict)
    singular_tests: dict[str, list[Node]] = field(default_factory=dict)

    def share(self, share: float, least: int = 1) -> int:
        """Return a share of the number of models."""
        return max(least, round(self.size * share))

    def chance(self, probability: float) -> bool:
        """Decide by chance."""
        return self.random.random() < probability


def made_project(size: int) -> Project:
    """Make a project of ``size`` models. Its first model reads sources only."""
    # The same numbers each time are the purpose.
    made = Project(size, random.Random(size))  # noqa: S311
    _add_sources(made)
    _add_seeds(made)
    _add_models(made)
    _add_snapshots(made)
    _add_tests(made)
    return made


def _add_sources(made: Project) -> None:
    """Add systems of a few to some hundred tables, a quarter of which are read."""
    wanted, system = made.share(_SOURCES_PER_MODEL), 0
    largest = max(4, wanted // 15)
    while len(made.sources) < wanted:
        tables = min(largest, int(4 * made.random.paretovariate(0.8)), wanted - len(made.sources))
        for table in range(tables):
            noun, generation = NOUNS[table % len(NOUNS)], table // len(NOUNS)
            name = f"{noun}s" if generation == 0 else f"{noun}s_{generation}"
            made.sources.append(Source(f"system_{system:03}", name))
        system += 1
    for source in made.random.sample(made.sources, max(1, round(wanted * _READ_SOURCES))):
        source.is_read = True


def _add_seeds(made: Project) -> None:
    for number in range(made.share(_SEEDS_PER_MODEL)):
        made.seeds.append(Node(f"seed_{number:04}", DOMAINS[number % len(DOMAINS)], "seeds"))


def _add_snapshots(made: Project) -> None:
    for number in range(made.share(_SNAPSHOTS_PER_MODEL)):
        read = made.random.choice([model for model in made.models if not model.is_ephemeral])
        made.snapshots.append(Node(f"history_{number:04}", "", "snapshots", parents=[read]))


def _add_models(made: Project) -> None:
    """Add the layers in their order: a model reads models before it only."""
    names = [name for name, share in LAYERS.items() for _ in range(round(made.size * share))]
    layers = [*names, *["reports"] * made.size][: made.size]
    unread = [source for source in made.sources if source.is_read]
    made.random.shuffle(unread)
    read, hubs = list(unread), max(2, made.size // 300)
    versions = 0
    for number, layer in enumerate(layers):
        folder = f"{layer}/{DOMAINS[int(made.random.triangular(0, len(DOMAINS), 0))]}"
        model = Node(f"{_PREFIXES[layer]}_{NOUNS[number % len(NOUNS)]}_{number:05}", folder, layer)
        _set_size(made, model)
        if layer == "staging":
            _read_sources(made, model, unread, read)
        else:
            versions = _set_version(made, model, versions)
            _read_models(made, model, hubs)
        _set_kind(made, model, number)
        made.models.append(model)
    staging = [model for model in made.models if model.layer == "staging" and model.package == PROJECT]
    for row, source in enumerate(unread):
        staging[row % len(staging)].parents.append(source)


def _set_size(made: Project, model: Node) -> None:
    """Set the number of columns, from which the bytes of SQL follow: few to most models, many to some."""
    smallest, largest = _SQL_BYTES
    wanted = min(largest, max(smallest, made.random.lognormvariate(math.log(2200), 1.25)))
    model.columns = len(CORE) + (min(_COLUMNS, int(wanted / 230)) if wanted > 3 * smallest else 0)


def _read_sources(made: Project, model: Node, unread: list[Source], read: Sequence[Source]) -> None:
    model.is_union = made.chance(0.05)
    count = made.random.randint(10, 40) if model.is_union else 1 if made.chance(0.7) else made.random.randint(2, 4)
    model.parents.extend(unread.pop() if unread else made.random.choice(read) for _ in range(count))
    if made.chance(0.05):
        model.parents.append(made.random.choice(made.seeds))
    if made.models and made.chance(0.1):
        model.package = PACKAGE


def _read_models(made: Project, model: Node, hubs: int) -> None:
    random_ = made.random
    before = [one for one in made.models if one.package == PROJECT]
    core = [one for one in before if one.layer != "staging"]
    if made.chance(_UNIONS_PER_MODEL / (1 - LAYERS["staging"])):
        model.is_union = True
        model.parents.extend(random_.sample(before, min(len(before), random_.randint(30, 100))))
        return
    count = min(len(before), 1 + int(random_.expovariate(0.5)))
    nearby = core[-max(50, made.size // 10) :] if core and made.chance(0.6) else before
    found: list[Node | Source] = [random_.choice(nearby) for _ in range(count)]
    found += [hub for row, hub in enumerate(core[:hubs]) if made.chance(0.4 / (row + 1))]
    if made.chance(0.1):
        found.append(random_.choice(made.models))
    if made.chance(0.1):
        found.extend(random_.sample([source for source in made.sources if source.is_read], 1))
    model.parents.extend({id(one): one for one in found}.values())


def _set_version(made: Project, model: Node, versions: int) -> int:
    """Continue a family of versions, or start one; returns how many more versions the family has."""
    if versions > 0:
        before = made.models[-1]
        model.name, model.folder, model.version = before.name, before.folder, before.version + 1
        return versions - 1
    if made.chance(0.005):
        model.version = 1
        return made.random.randint(1, 9)
    return 0


def _set_kind(made: Project, model: Node, number: int) -> None:
    """Make some intermediate models ephemeral, thirty of them in a chain."""
    first = round(made.size * (LAYERS["staging"] + 0.05))
    chain = min(30, made.size // 40)
    if first < number < first + chain and not model.version:
        model.is_ephemeral, model.is_union = True, False
        model.parents[:] = [made.models[-1]]
    elif model.layer == "intermediate" and number > first + chain and not model.version:
        model.is_ephemeral = made.chance(0.06)


def _add_tests(made: Project) -> None:
    """Add tests until there are enough: many to some models, none to most sources."""
    wanted = made.share(_TESTS_PER_MODEL)
    for source in made.random.sample([one for one in made.sources if one.is_read], made.share(0.1)):
        made.source_tests[source.system, source.name] = ["unique", "not_null"]
    for source in made.random.sample([one for one in made.sources if not one.is_read], made.share(0.04)):
        made.source_tests[source.system, source.name] = ["not_null"]
    tested = made.random.sample([*made.models, *made.seeds], round(0.62 * (len(made.models) + len(made.seeds))))
    tested = [node for node in tested if not node.is_ephemeral]
    _add_singular_tests(made, tested)
    weights = [made.random.paretovariate(1.2) for _ in tested]
    given = sum(map(len, made.source_tests.values())) + len(made.singular_tests)
    waiting = {id(node): iter(_tests_of(node)) for node in tested}
    while given < wanted:
        node = made.random.choices(tested, weights)[0]
        for column, test in waiting[id(node)]:
            node.column_tests.setdefault(column, []).append(test)
            given += 1
            break
        else:
            tested.remove(node)
            weights = weights[: len(tested)]


def _add_singular_tests(made: Project, tested: Sequence[Node]) -> None:
    own = [node for node in tested if node.package == PROJECT]
    for number in range(made.share(0.03)):
        read = made.random.sample(own, min(len(own), made.random.randint(0, 4)))
        made.singular_tests[f"no_lost_ids_{number:03}"] = read


def _tests_of(node: Node) -> Iterable[tuple[str, object]]:
    """Yield the tests that a node may have, the usual ones first."""
    yield "id", "not_null"
    yield "id", "unique"
    parents = [one for one in node.parents if isinstance(one, Node) and not one.is_ephemeral]
    for parent in parents[:3] if node.package == PROJECT else ():
        yield "id", {"relationships": {"arguments": {"to": parent.ref, "field": "id"}}}
    yield "name", {"accepted_values": {"arguments": {"values": ["text"]}, "config": {"severity": "warn"}}}
    for column in map(node.column, range(1, node.columns or len(CORE))):
        yield column, "not_null"
