"""Exceptions of this package.

    FloeDagsterError
    ├── ArtifactsError    the CompiledArtifacts JSON (also a ValueError)
    ├── SpecError         floe.yaml beside the dbt project (also a ValueError)
    ├── ConfigError       plugins.orchestrator.config (also a ValueError)
    ├── ProjectError      the dbt project directory
    ├── ManifestError     the dbt manifest, or the parse that creates it
    ├── ProfileError      the compiled dbt profile and its variables
    ├── EngineError       the dbt engine: not installed, too old, or not the configured one
    ├── ScheduleError     a cron, a timezone or a job name (also a ValueError)
    ├── DeployError       settings of a deployment (also a ValueError)
    ├── EntryPointError   a definitions.py that is wrong or cannot be written (also a ValueError)
    ├── InstanceError     the Dagster instance of a command, or a run that it does not have
    ├── StateError        a published state that is missing, damaged or cannot be reached
    ├── PullRequestError  a pull request that cannot be compared with production or built
    ├── AlertError        a message that did not reach its channel
    ├── LineageError      lineage events that did not reach their backend
    └── DbtBuildError     a dbt invocation that did not build the selected nodes
        ├── DbtNodesError    some nodes failed
        └── DbtSetupError    dbt cannot run until the project or the environment is corrected

Each message names the fault, its place and the fix. Logins in URLs are masked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.redaction import redact_urls

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Problem:
    """A fault in a file, with its place and the fix.

    Attributes:
        where: Path inside the file, such as ``transforms.models[2].depends_on[0]``; empty for the whole file.
        what: The fault, with the value.
        fix: How to correct it.
    """

    where: str
    what: str
    fix: str

    def __post_init__(self) -> None:
        """Mask logins in URLs. A refused value can be a connection string in the wrong field."""
        for name in ("where", "what", "fix"):
            object.__setattr__(self, name, redact_urls(getattr(self, name)))

    @property
    def fault(self) -> str:
        """The place and the fault, without the fix."""
        return f"{self.where}: {self.what}" if self.where else self.what

    def __str__(self) -> str:
        """Render as two lines: place and fault, then the fix."""
        return f"{self.fault}\n    fix: {self.fix}"


@dataclass(frozen=True)
class NodeProblem(Problem):
    """A fault of a dbt node.

    Attributes:
        node: dbt's unique id.
    """

    node: str


class FloeDagsterError(Exception):
    """Base class of this package's exceptions.

    Examples:
        >>> try:
        ...     defs = load_product_definitions("retail-orders", Path("retail-orders"))
        ... except FloeDagsterError as error:
        ...     fixes = [problem.fix for problem in error.problems]

    Attributes:
        origin: Path of the file, or name of the argument with its content. Empty when there is neither.
        problems: All problems, in the order of the file. Empty when the message is complete without them.
        retryable: Whether a retry can succeed without a correction.
    """

    origin: str = ""
    problems: tuple[Problem, ...] = ()
    retryable: bool = False

    def __init__(self, message: str) -> None:
        """Mask logins in URLs of the message."""
        super().__init__(redact_urls(message))


class _FileError(FloeDagsterError):
    """Problems in one file, or in an argument with the content of a file."""

    def __init__(self, origin: str, problems: Sequence[Problem]) -> None:
        self.origin = redact_urls(origin)
        self.problems = tuple(problems)
        # A fix that several problems have in common is printed once, after them.
        by_fix: dict[str, list[str]] = {}
        for problem in self.problems:
            by_fix.setdefault(problem.fix, []).append(f"  {problem.fault}")
        listed = ("\n".join([*faults, f"    fix: {fix}"]) for fix, faults in by_fix.items())
        super().__init__("\n".join([f"{origin}: {self._headline()}", *listed]))

    def __reduce__(self) -> tuple[type[_FileError], tuple[str, tuple[Problem, ...]]]:
        """Pickle by origin and problems. Dagster sends exceptions between processes."""
        return type(self), (self.origin, self.problems)

    def _headline(self) -> str:
        count = len(self.problems)
        return "1 problem" if count == 1 else f"{count} problems"


class ArtifactsError(_FileError, ValueError):
    """The CompiledArtifacts cannot be used."""


class SpecError(_FileError, ValueError):
    """The floe.yaml beside the dbt project cannot be used."""


class ConfigError(_FileError, ValueError):
    """The orchestrator's configuration (``plugins.orchestrator.config``) cannot be used."""


class ProjectError(_FileError):
    """The dbt project directory cannot be used."""


class ManifestError(_FileError):
    """The dbt manifest is missing, not readable or does not match the artifacts, or dbt cannot parse the project."""


class ProfileError(_FileError):
    """The compiled dbt profile cannot be used, or an environment variable it needs is not set."""


class EngineError(_FileError):
    """The dbt engine cannot be used: it is not installed, too old, or not the one that the configuration names."""


class ScheduleError(FloeDagsterError, ValueError):
    """A schedule's cron, timezone or job name is not valid."""


class DeployError(_FileError, ValueError):
    """A setting of a deployment is not valid: a name, an image, a size, or products that conflict."""


class EntryPointError(FloeDagsterError, ValueError):
    """A ``definitions.py`` passes a wrong translator, or the file cannot be written."""


class InstanceError(_FileError):
    """The Dagster instance of a command cannot be opened or lacks what the command needs, such as a run."""


class StateError(_FileError):
    """A published state is missing, damaged, or of another product or version, or its store cannot be reached."""

    retryable = True


class PullRequestError(_FileError):
    """A pull request cannot be compared with production, or cannot be built without touching production's tables."""


class AlertError(_FileError):
    """A message did not reach its channel. The message is kept and sent again."""


class LineageError(_FileError):
    """Lineage events did not reach their backend, or the backend cannot be used."""

    retryable = True


class DbtBuildError(FloeDagsterError):
    """A dbt invocation did not build the selected nodes."""

    retryable = True


class DbtNodesError(DbtBuildError):
    """Nodes of a dbt invocation failed.

    Attributes:
        summary: Counts of the results, such as ``1 failed, 2 succeeded``.
        skipped: Pairs of a skipped node and the failed node that caused dbt to skip it.
    """

    def __init__(
        self,
        origin: str,
        summary: str,
        problems: Sequence[Problem],
        skipped: Sequence[tuple[str, str]],
        *,
        retryable: bool = True,
    ) -> None:
        self.retryable = retryable
        self.origin = origin
        self.summary = summary
        self.problems = tuple(problems)
        self.skipped = tuple(skipped)
        fixes = dict.fromkeys(problem.fix for problem in self.problems)
        lines = [
            f"{origin}: {summary}",
            *(f"  {problem.where}: {problem.what}" for problem in self.problems),
            *(f"    fix: {fix}" for fix in fixes),
        ]
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        """Pickle by the constructor's arguments. Dagster sends exceptions between processes."""
        rebuild = partial(type(self), retryable=self.retryable)
        return rebuild, (self.origin, self.summary, self.problems, self.skipped)


class DbtSetupError(DbtBuildError):
    """dbt cannot run until an option, the project, its profile or the environment is corrected."""

    retryable = False
