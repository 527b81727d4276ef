"""Everything this package raises on purpose.

    FloeDagsterError
    ├── ArtifactsError    the CompiledArtifacts JSON (also a ValueError)
    ├── SpecError         floe.yaml beside the dbt project (also a ValueError)
    ├── ConfigError       plugins.orchestrator.config (also a ValueError)
    ├── ProjectError      the dbt project directory
    ├── ManifestError     the dbt manifest, or the parse that makes it
    ├── ProfileError      the compiled dbt profile and its variables
    ├── ScheduleError     a cron, a timezone or a job name (also a ValueError)
    ├── DeployError       what is asked for cannot be deployed (also a ValueError)
    ├── EntryPointError   a definitions.py that cannot be written (also a ValueError)
    ├── LineageError      lineage events that did not reach their backend
    └── DbtBuildError     a dbt build that did not do what the asset asked for
        ├── DbtNodesError    nodes of it failed
        └── DbtSetupError    dbt cannot run like this, now or later

Each message says what was wrong, where, and what to do about it. None shows the login of a URL that it repeats.
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
    """One thing that is wrong in a file.

    Attributes:
        where: Path inside the file, such as ``transforms.models[2].depends_on[0]``; empty for the whole file.
        what: What is wrong, with the value.
        fix: What to do about it.
    """

    where: str
    what: str
    fix: str

    def __post_init__(self) -> None:
        """Mask logins in URLs: a value that is refused may be one that was put into the wrong place."""
        for name in ("where", "what", "fix"):
            object.__setattr__(self, name, redact_urls(getattr(self, name)))

    def __str__(self) -> str:
        """Render as one paragraph, the fix on a line of its own."""
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.what}\n    fix: {self.fix}"


class FloeDagsterError(Exception):
    """Base of every error this package raises on purpose.

    Attributes:
        origin: The file's path, or the name of the argument that carried its content; empty when there is none.
        problems: All problems found, in the file's order; none when the message says everything.
        may_pass: Whether it may be gone at the next try, without anybody's help.
    """

    origin: str = ""
    problems: tuple[Problem, ...] = ()
    may_pass: bool = False

    def __init__(self, *details: object) -> None:
        """Say what is wrong; logins in URLs are masked."""
        super().__init__(*(redact_urls(detail) if isinstance(detail, str) else detail for detail in details))


class _FileError(FloeDagsterError):
    """Problems found in one file (or one value that stands for a file)."""

    def __init__(self, origin: str, problems: Sequence[Problem]) -> None:
        self.origin = redact_urls(origin)
        self.problems = tuple(problems)
        lines = [f"{origin}: {self._headline()}", *(f"  {problem}" for problem in self.problems)]
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[type[_FileError], tuple[str, tuple[Problem, ...]]]:
        """Pickle by origin and problems, for errors that cross a process boundary."""
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
    """The dbt manifest is missing, unreadable or does not fit the artifacts, or dbt could not parse the project."""


class ProfileError(_FileError):
    """The compiled dbt profile cannot be used, or an environment variable it needs is not set."""


class LineageError(_FileError):
    """Lineage events did not reach their backend, or the backend cannot be used."""

    may_pass = True


class ScheduleError(FloeDagsterError, ValueError):
    """A schedule that can never work: a bad cron, timezone or job name."""


class DeployError(_FileError, ValueError):
    """What is asked for cannot be deployed: a name, an image, a size, products that do not go together."""


class EntryPointError(FloeDagsterError, ValueError):
    """A ``definitions.py`` that would be wrong or would overwrite somebody's work."""


class DbtBuildError(FloeDagsterError):
    """dbt ran but did not build what the asset asked for."""

    may_pass = True


class DbtNodesError(DbtBuildError):
    """Nodes of a dbt invocation failed.

    Attributes:
        skipped: The nodes that were left out therefore, each with what failed upstream of it.
    """

    def __init__(
        self,
        origin: str,
        summary: str,
        problems: Sequence[Problem],
        skipped: Sequence[tuple[str, str]],
        *,
        may_pass: bool = True,
    ) -> None:
        self.may_pass = may_pass
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
        """Pickle by its parts, for errors that cross a process boundary."""
        rebuild = partial(type(self), may_pass=self.may_pass)
        return rebuild, (self.origin, self.summary, self.problems, self.skipped)


class DbtSetupError(DbtBuildError):
    """dbt cannot run like this: an option, the project, its profile or the environment has to be corrected first."""

    may_pass = False
