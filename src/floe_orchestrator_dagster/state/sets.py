"""Publication and reading of states, and removal of old ones."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, unquote
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError

from floe_orchestrator_dagster.errors import Problem, StateError
from floe_orchestrator_dagster.state.published import (
    POINTER,
    SET_NAME,
    STATE_FILE,
    STATE_FORMAT,
    Pointer,
    PublishedState,
    StateFacts,
    StateFile,
)
from floe_orchestrator_dagster.state.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet
    from pathlib import Path

MANIFEST, RUN_RESULTS = "manifest.json", "run_results.json"
_POINTER, _FACTS, _SETS = "latest.json", "state.json", "sets"
_NAME = re.compile(SET_NAME)
_TIME = "%Y%m%dT%H%M%S%fZ"
# A set that another process is reading should not be removed.
_UNTOUCHED = timedelta(hours=1)
_MOST_CORRECTIONS = 20
# A set can be removed while it is read. Then there is a newer one.
_TRIES = 3
_PUBLISH = "Run `floe-dagster state publish` in production, or wait for its next successful run."
_UPGRADE_THERE = (
    "Install the version of floe-orchestrator-dagster in production that is here, and publish the state again."
)
_UPGRADE = "Install the version of floe-orchestrator-dagster here that production has."

T = TypeVar("T", Pointer, StateFile)


@dataclass(frozen=True)
class Publication:
    """A written state.

    Attributes:
        name: The name of the set.
        is_latest: Whether it is the latest state. It is not if the store has one of later builds.
    """

    name: str
    is_latest: bool


def publish_state(  # noqa: PLR0913, PLR0917  # a state, and what happens to it
    url: str,
    facts: StateFacts,
    manifest: bytes,
    run_results: bytes,
    keep: int,
    newest_position: Callable[[], int] | None = None,
) -> Publication:
    """Publish a state, and remove the oldest ones of its environment.

    Args:
        url: A directory, or a URL of fsspec.
        facts: The facts.
        manifest: dbt's ``manifest.json``.
        run_results: dbt's ``run_results.json``.
        keep: Number of sets to keep. Sets of the last hour are kept, too.
        newest_position: Returns the position of the newest event of the record now; None if it cannot go back.

    Raises:
        StateError: The store cannot be reached or refuses a file. The state before it is still the latest.
    """
    store, home = Store(url), _home(facts.product, facts.environment)
    name = _set_name(facts, _newest(store, home), newest_position)
    files = {MANIFEST: manifest, RUN_RESULTS: run_results}
    content = StateFile(STATE_FORMAT, facts, {file: _digest(data) for file, data in files.items()})
    for file, data in (*files.items(), (_FACTS, STATE_FILE.dump_json(content))):
        store.write(f"{home}/{_SETS}/{name}/{file}", data)
    latest = _point_to_newest(store, home)
    _remove_old(store, home, {name, latest}, facts.published_at, keep)
    return Publication(name, is_latest=name == latest)


def _set_name(facts: StateFacts, newest: tuple[str, bytes] | None, newest_position: Callable[[], int] | None) -> str:
    """Return a name that is ordered after the states of earlier builds.

    Positions of another history are not comparable, such as after a new installation of Dagster. Those of the same
    history are not either if it has lost events, such as after the restore of a backup. Then its states are newer than
    those before. Of two states with the same position, the one that is published later is newer.
    """
    epoch, time = 0, facts.published_at.astimezone(timezone.utc).strftime(_TIME)
    match = _NAME.match(newest[0]) if newest else None
    if newest and match:
        epoch, position = int(match["epoch"]), int(match["position"])
        has_gone_back = newest_position is not None and newest_position() < position
        if has_gone_back or _history(newest[1]) != facts.history:
            epoch += 1
        elif position == facts.position and time <= match["time"]:
            before = datetime.strptime(match["time"], _TIME).replace(tzinfo=timezone.utc)
            time = (before + timedelta(microseconds=1)).strftime(_TIME)
    return f"{epoch:06d}-{facts.position:015d}-{time}-{uuid4().hex[:12]}"


def _history(described: bytes) -> str | None:
    try:
        return STATE_FILE.validate_json(described).facts.history
    except ValidationError:  # of another version
        return None


def _newest(store: Store, home: str) -> tuple[str, bytes] | None:
    """Return the name and ``state.json`` of the newest complete set."""
    for name in sorted(filter(_NAME.match, store.names(f"{home}/{_SETS}")), reverse=True):
        with suppress(FileNotFoundError):  # not complete
            return name, store.read(f"{home}/{_SETS}/{name}/{_FACTS}")
    return None


def _point_to_newest(store: Store, home: str) -> str:
    """Let ``latest.json`` name the newest complete set; returns its name.

    Stores have no conditional write in common. Instead, each writer looks again after its write, and corrects it if
    another set has become complete meanwhile. The last writer finds all of them.
    """
    name = ""
    for _ in range(_MOST_CORRECTIONS):
        newest = _newest(store, home)
        if newest is None or newest[0] == _latest(store, home):
            return name if newest is None else newest[0]
        name = newest[0]
        store.write(f"{home}/{_POINTER}", POINTER.dump_json(Pointer(STATE_FORMAT, name, _digest(newest[1]))))
    return name


def _latest(store: Store, home: str) -> str:
    """Return the name of the latest set; empty without a valid pointer."""
    try:
        return POINTER.validate_json(store.read(f"{home}/{_POINTER}")).set
    except (FileNotFoundError, ValidationError):
        return ""


def _remove_old(store: Store, home: str, kept: AbstractSet[str], now: datetime, keep: int) -> None:
    found = {name: match["time"] for name in store.names(f"{home}/{_SETS}") if (match := _NAME.match(name))}
    limit = (now.astimezone(timezone.utc) - _UNTOUCHED).strftime(_TIME)
    older = (name for name in found.keys() - kept if name < max(kept))  # another process may have published a newer one
    for name in sorted(older, reverse=True)[keep - 1 :]:
        if found[name] < limit:
            store.remove(f"{home}/{_SETS}/{name}")


def read_state(url: str, product: str, environment: str, scratch: Path) -> PublishedState:
    """Read the latest state of an environment.

    Args:
        url: A directory, or a URL of fsspec.
        product: Name of the product.
        environment: The dbt target of the environment.
        scratch: Directory for the local copies of the files.

    Raises:
        StateError: The state is missing, damaged, of another product or of a newer version, or the store cannot be
            reached.
    """
    store, home = Store(url), _home(product, environment)
    for _ in range(_TRIES):
        pointer = _pointer(store, home, product, environment)
        try:
            return _read_set(store, f"{home}/{_SETS}/{pointer.set}", pointer, (product, environment), scratch)
        except FileNotFoundError:
            continue
    raise StateError(url, [Problem(f"{home}/{_POINTER}", "names a state with missing files", _PUBLISH)])


def _pointer(store: Store, home: str, product: str, environment: str) -> Pointer:
    path = f"{home}/{_POINTER}"
    try:
        content = store.read(path)
    except FileNotFoundError:
        raise StateError(store.url, [_missing(store, product, environment)]) from None
    return _parsed(POINTER, content, store, path)


def _missing(store: Store, product: str, environment: str) -> Problem:
    products = {unquote(name): name for name in store.names("")}
    if product not in products:
        known = f"It has states of {', '.join(sorted(products))}." if products else "The store is empty."
        return Problem("", f"has no state of the product {product!r}. {known}", f"Check the URL. {_PUBLISH}")
    known = ", ".join(unquote(name) for name in store.names(products[product]))
    what = f"has no state of {product} in the environment {environment!r}, but of {known or 'no environment'}"
    return Problem("", what, f"Name the environment (`--environment`, or `state.production`). {_PUBLISH}")


def _read_set(store: Store, home: str, pointer: Pointer, expected: tuple[str, str], scratch: Path) -> PublishedState:
    described = store.read(f"{home}/{_FACTS}")
    _check_digest(store, f"{home}/{_FACTS}", described, pointer.sha256)
    content = _parsed(STATE_FILE, described, store, f"{home}/{_FACTS}")
    facts = content.facts
    if (facts.product, facts.environment) != expected:
        what = f"is the state of {facts.product} in {facts.environment!r}, not of {expected[0]} in {expected[1]!r}"
        raise StateError(store.url, [Problem(f"{home}/{_FACTS}", what, f"Do not copy states. {_PUBLISH}")])
    scratch.mkdir(parents=True, exist_ok=True)
    for name in (MANIFEST, RUN_RESULTS):
        data = store.read(f"{home}/{name}")
        _check_digest(store, f"{home}/{name}", data, content.files.get(name, ""))
        (scratch / name).write_bytes(data)
    return PublishedState(**vars(facts), manifest=scratch / MANIFEST, run_results=scratch / RUN_RESULTS)


def _parsed(adapter: TypeAdapter[T], content: bytes, store: Store, path: str) -> T:
    try:
        version = _VERSIONED.validate_json(content).get("format")
        if isinstance(version, int) and version > STATE_FORMAT:
            what = f"has the format {version}; this version of floe-orchestrator-dagster reads {STATE_FORMAT}"
            raise StateError(store.url, [Problem(path, what, _UPGRADE)])
        if isinstance(version, int) and version < STATE_FORMAT:
            what = f"has the format {version}; this version of floe-orchestrator-dagster reads {STATE_FORMAT}"
            raise StateError(store.url, [Problem(path, what, _UPGRADE_THERE)])
        return adapter.validate_json(content)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, details["loc"]))
        what = f"is damaged: {f'{where}: ' if where else ''}{details['msg']}"
        raise StateError(store.url, [Problem(path, what, _PUBLISH)]) from None


_VERSIONED = TypeAdapter(dict[str, object])


def _check_digest(store: Store, path: str, content: bytes, expected: str) -> None:
    if _digest(content) != expected:
        raise StateError(store.url, [Problem(path, "is truncated or was changed", _PUBLISH)])


def _home(product: str, environment: str) -> str:
    return f"{quote(product, safe='')}/{quote(environment, safe='')}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
