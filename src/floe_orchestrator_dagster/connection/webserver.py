"""What Dagster's GraphQL API says of itself, and what an operator should know of that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.version import InvalidVersion, Version

from floe_orchestrator_dagster.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LONGEST_REASON = 500
MINIMUM_VERSION = "1.10.21"
QUESTION = """{
  version
  instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } }
  workspaceOrError {
    __typename
    ... on Workspace { locationEntries {
      name
      loadStatus
      locationOrLoadError { __typename ... on PythonError { message causes { message } } }
    } }
  }
}"""
SHORT_QUESTION = "{ version }"


@dataclass(frozen=True)
class CodeLocation:
    """A code location.

    Attributes:
        name: Its name.
        state: ``loaded``, ``loading`` or ``error``.
        error: First line of its load error, without secrets; empty without one.
    """

    name: str
    state: str
    error: str


@dataclass(frozen=True)
class Daemon:
    """A daemon that the instance needs.

    Attributes:
        type: Such as ``SCHEDULER``.
        healthy: Whether it reported in time.
    """

    type: str
    healthy: bool


@dataclass(frozen=True)
class Webserver:
    """A webserver that answered.

    Attributes:
        version: Version of Dagster.
        locations: Its code locations; None when it does not say.
        daemons: The daemons that its instance needs; None when it does not say.
    """

    version: str
    locations: tuple[CodeLocation, ...] | None
    daemons: tuple[Daemon, ...] | None

    @property
    def summary(self) -> str:
        """Version, and how many code locations there are."""
        if self.locations is None:
            return f"Dagster {self.version}"
        count = len(self.locations)
        return f"Dagster {self.version} with {count} code location{'' if count == 1 else 's'}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What works, but not as it should; each with what to do."""
        return tuple(_warnings(self))


def read_webserver(answer: object) -> Webserver | None:
    """Read the answer to one of the questions above; None for JSON that is not Dagster's."""
    data = _mapping(_mapping(answer).get("data"))
    version = data.get("version")
    if not isinstance(version, str) or not version:
        return None
    return Webserver(version, _locations(data), _daemons(data))


def _locations(data: dict[str, Any]) -> tuple[CodeLocation, ...] | None:
    entries = _mapping(data.get("workspaceOrError")).get("locationEntries")
    if not isinstance(entries, list):
        return None
    return tuple(_location(_mapping(entry)) for entry in entries)


def _location(entry: dict[str, Any]) -> CodeLocation:
    found = _mapping(entry.get("locationOrLoadError"))
    name = str(entry.get("name"))
    if found.get("__typename") == "PythonError":
        return CodeLocation(name, "error", _reason(found))
    return CodeLocation(name, "loading" if entry.get("loadStatus") == "LOADING" else "loaded", "")


def _reason(error: Mapping[str, Any]) -> str:
    """Give the first line of what was behind an error: Dagster's own says only that there was one."""
    causes = [cause for cause in error.get("causes") or () if isinstance(cause, dict) and cause.get("message")]
    return _first_line((causes[-1] if causes else error).get("message"))


def _first_line(message: object) -> str:
    lines = str(message or "").strip().splitlines()
    return redact(lines[0].strip())[:_LONGEST_REASON] if lines else ""


def _daemons(data: dict[str, Any]) -> tuple[Daemon, ...] | None:
    statuses = _mapping(_mapping(data.get("instance")).get("daemonHealth")).get("allDaemonStatuses")
    if not isinstance(statuses, list):
        return None
    needed = [status for status in map(_mapping, statuses) if status.get("required")]
    return tuple(Daemon(str(status.get("daemonType")), status.get("healthy") is True) for status in needed)


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _warnings(webserver: Webserver) -> Iterator[str]:
    if _is_older(webserver.version):
        upgrade = "Upgrade Dagster, or install a release of floe-orchestrator-dagster that was made for it."
        yield f"Dagster {webserver.version} is older than {MINIMUM_VERSION}, the first that is supported. {upgrade}"
    if webserver.locations is None or webserver.daemons is None:
        yield "It does not say how its code locations and daemons are. Ask with a login that may see them."
    for location in webserver.locations or ():
        if location.state == "error":
            said = f": {location.error}" if location.error else ""
            look = "Its page, Deployment > Code locations, shows the whole error."
            yield f"code location {location.name!r} does not load{said}{'' if said.endswith('.') else '.'} {look}"
        if location.state == "loading":
            yield f"code location {location.name!r} is still loading. Check again in a while."
    stopped = [daemon.type for daemon in webserver.daemons or () if not daemon.healthy]
    if stopped:
        what = "nothing is scheduled or queued until they do. Start `dagster-daemon run`, or look at its log."
        yield f"daemons that do not run: {', '.join(stopped)}; {what}"


def _is_older(version: str) -> bool:
    try:
        return Version(version) < Version(MINIMUM_VERSION)
    except InvalidVersion:
        return False  # a build of somebody's own
