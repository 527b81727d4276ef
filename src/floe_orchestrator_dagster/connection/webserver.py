"""State of a webserver from Dagster's GraphQL API, with warnings for the operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.version import InvalidVersion, Version

from floe_orchestrator_dagster.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LONGEST_REASON = 500
MINIMUM_VERSION = "1.10.21"
QUERY = """{
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
SHORT_QUERY = "{ version }"


@dataclass(frozen=True)
class CodeLocation:
    """A code location.

    Attributes:
        name: Its name.
        state: ``loaded``, ``loading`` or ``error``.
        error: First line of its load error, without secrets; empty when there is none.
    """

    name: str
    state: str
    error: str


@dataclass(frozen=True)
class Daemon:
    """A daemon that the instance requires.

    Attributes:
        type: Type of the daemon, such as ``SCHEDULER``.
        healthy: Whether it sent a heartbeat in time.
    """

    type: str
    healthy: bool


@dataclass(frozen=True)
class Webserver:
    """A webserver that responded.

    Attributes:
        version: Version of Dagster.
        locations: Its code locations; None when it does not report them.
        daemons: The daemons that its instance requires; None when it does not report them.
    """

    version: str
    locations: tuple[CodeLocation, ...] | None
    daemons: tuple[Daemon, ...] | None

    @property
    def summary(self) -> str:
        """The version and the number of code locations."""
        if self.locations is None:
            return f"Dagster {self.version}"
        count = len(self.locations)
        return f"Dagster {self.version} with {count} code location{'' if count == 1 else 's'}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Problems of the running webserver, each with the fix."""
        return tuple(_warnings(self))


def read_webserver(answer: object) -> Webserver | None:
    """Parse the response to one of the queries; None for JSON that is not Dagster's."""
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
    """Return the first line of an error's cause: Dagster's own message has no details."""
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
        upgrade = "Upgrade Dagster, or install a release of floe-orchestrator-dagster that supports it."
        yield f"Dagster {webserver.version} is older than {MINIMUM_VERSION}, the first that is supported. {upgrade}"
    if webserver.locations is None or webserver.daemons is None:
        yield "It does not report the state of its code locations and daemons. Use a login that has access to them."
    for location in webserver.locations or ():
        if location.state == "error":
            reason = f": {location.error}" if location.error else ""
            look = "The webserver's page Deployment > Code locations shows the whole error."
            yield f"code location {location.name!r} does not load{reason}{'' if reason.endswith('.') else '.'} {look}"
        if location.state == "loading":
            yield f"code location {location.name!r} is still loading. Check again later."
    stopped = [daemon.type for daemon in webserver.daemons or () if not daemon.healthy]
    if stopped:
        what = "nothing is scheduled or queued until they do. Start `dagster-daemon run`, or look at its log."
        yield f"daemons that do not run: {', '.join(stopped)}; {what}"


def _is_older(version: str) -> bool:
    try:
        return Version(version) < Version(MINIMUM_VERSION)
    except InvalidVersion:
        return False  # a custom build
