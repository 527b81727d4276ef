"""Run the tests on every supported Python with every supported set of Dagster, dagster-dbt and dbt.

``make test-matrix`` runs all cells; ``python tests/matrix.py --cell 3.13-lowest`` one. Each cell has an environment of
its own below ``.matrix/``. Results are kept in ``tests/data/matrix.json``, the source of the table in
docs/reference/compatibility.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

REPOSITORY = Path(__file__).parent.parent
WORK = REPOSITORY / ".matrix"
RESULTS = REPOSITORY / "tests" / "data" / "matrix.json"
PAGE = REPOSITORY / "docs" / "reference" / "compatibility.md"
BEGIN, END = "<!-- made by make test-matrix -->", "<!-- end -->"

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
NEWEST = "newest"
PINS: Mapping[str, Sequence[str]] = {
    "lowest": (
        "dagster==1.10.21",
        "dagster-webserver==1.10.21",
        "dagster-dbt==0.26.21",
        "dbt-core==1.9.*",
    ),
    "middle": (
        "dagster==1.12.11",
        "dagster-webserver==1.12.11",
        "dagster-dbt==0.28.11",
        "dbt-core==1.11.*",
    ),
    NEWEST: (),
}
# dagster-k8s up to 0.28 wants kubernetes below 35, floe-core 35: the tests of the executor `k8s` are skipped there.
_LEFT_OUT = "dagster-k8s; sys_platform == 'nowhere'\n"
_LINES_SHOWN = 100
SHOWN = ("dagster", "dagster-dbt", "dbt-core")
SUITES: Mapping[str, Sequence[str]] = {
    "unit": ("tests/unit",),
    "smoke": ("tests/integration/test_sample_product.py",),
}
# Deprecation warnings are errors on the newest versions, where this package can be changed.
_TOLERATED = ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning")
_VERSIONS = (
    "import json, sys, platform; from importlib.metadata import version; "
    "print(json.dumps({'python': platform.python_version(), **{name: version(name) for name in sys.argv[1:]}}))"
)


@dataclass(frozen=True)
class Cell:
    """A Python with a set of packages."""

    python: str
    packages: str

    @property
    def name(self) -> str:
        return f"{self.python}-{self.packages}"

    @property
    def directory(self) -> Path:
        return WORK / self.name


CELLS = tuple(Cell(python, packages) for python in PYTHONS for packages in PINS)


@dataclass(frozen=True)
class Result:
    """Result of a cell.

    Attributes:
        versions: Installed version of each package that is shown, and of Python; empty when nothing was installed.
        outcomes: Of each suite ``812 passed, 3 skipped``, or what failed.
        problem: Why the tests did not run; empty when they did.
        day: When it was.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    outcomes: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    day: str = ""

    @property
    def is_good(self) -> bool:
        return not self.problem and not any("failed" in outcome for outcome in self.outcomes.values())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    names = [cell.name for cell in CELLS]
    parser.add_argument("--cell", action="append", choices=names, metavar="CELL", help=f"one of {', '.join(names)}")
    parser.add_argument("--tests", nargs="+", help="run these instead of the suites; nothing is written to the docs")
    parser.add_argument("--table", action="store_true", help="only write the table again, from the kept results")
    chosen = parser.parse_args(arguments)
    WORK.mkdir(exist_ok=True)
    results = kept_results()
    if not chosen.table:
        suites = {"chosen": chosen.tests} if chosen.tests else SUITES
        for cell in [cell for cell in CELLS if not chosen.cell or cell.name in chosen.cell]:
            result = run_cell(cell, suites)
            print(f"{cell.name}: {result.problem or ', '.join(result.outcomes.values())}", flush=True)
            print(*_said_of_failures(cell, result), sep="\n", end="", flush=True)
            results[cell.name] = result
            if not chosen.tests:
                _keep(results)
    if not chosen.tests:
        write_table(PAGE, results)
    wanted = chosen.cell or list(results)
    return 0 if all(results[name].is_good for name in wanted if name in results) else 1


def run_cell(cell: Cell, suites: Mapping[str, Sequence[str]]) -> Result:
    """Install a cell's packages and run the suites in it."""
    day = datetime.now(tz=timezone.utc).date().isoformat()
    python = find_python(cell.python)
    if python is None:
        return Result(problem=f"no Python {cell.python} on this machine", day=day)
    problem = _install(cell, python)
    if problem:
        return Result(problem=problem, day=day)
    executable = str(cell.directory / "bin" / "python")
    said = subprocess.run([executable, "-c", _VERSIONS, *SHOWN], check=True, capture_output=True, text=True)
    outcomes = {name: _run_suite(cell, name, paths) for name, paths in suites.items()}
    return Result(json.loads(said.stdout), outcomes, day=day)


def find_python(version: str) -> str | None:
    """Find an interpreter: pyenv's newest of that version, the one on the path, or the one that runs this.

    A path is an interpreter itself.
    """
    if os.sep in version:
        return version
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = sorted(root.glob(f"{version}.*/bin/python"), key=lambda path: _numbers(path.parts[-3]))
    own = sys.executable if version == "{}.{}".format(*sys.version_info) else None
    return str(found[-1]) if found else shutil.which(f"python{version}") or own


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def _install(cell: Cell, python: str) -> str:
    """Make the cell's environment; returns why that is impossible, or nothing."""
    environment = str(cell.directory)
    pins = [*PINS[cell.packages]]
    install = ["pip", "install", "--python", environment, "--editable", str(REPOSITORY), "--group", "dev", *pins]
    if cell.packages != NEWEST:
        override = WORK / "left_out.txt"
        override.write_text(_LEFT_OUT, encoding="utf-8")
        install += ["--override", str(override)]
    steps = (["venv", "--clear", "--python", python, environment], [*install, "--upgrade"])
    for step in steps:
        done = subprocess.run(
            [_uv(), *step, "--quiet"], cwd=REPOSITORY, check=False, capture_output=True, text=True, timeout=1800
        )
        if done.returncode:
            (WORK / f"{cell.name}.log").write_text(done.stderr, encoding="utf-8")
            return _reason(done.stderr)
    return ""


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.is_file() else "uv"


def _reason(said: str) -> str:
    """Take from uv's explanation the sentence that says which package does not go with which."""
    sentences = " ".join(said.replace("╰─▶", " ").split()).split(". ")
    relevant = [sentence for sentence in sentences if "Python" in sentence or "depends on" in sentence]
    return f"cannot be installed: {(relevant or sentences)[0][:200]}"


def _run_suite(cell: Cell, name: str, paths: Iterable[str]) -> str:
    report = WORK / f"{cell.name}-{name}.xml"
    report.unlink(missing_ok=True)
    ignored = [] if cell.packages == NEWEST else [f"-Wdefault::{warning}" for warning in _TOLERATED]
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--continue-on-collection-errors"]
    with (WORK / f"{cell.name}-{name}.log").open("wb") as log:
        done = subprocess.run(
            [
                str(cell.directory / "bin" / "python"),
                "-m",
                "pytest",
                *options,
                f"--junitxml={report}",
                *ignored,
                *paths,
            ],
            cwd=REPOSITORY,
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    return _counts(report, done.returncode)


def _said_of_failures(cell: Cell, result: Result) -> Iterator[str]:
    """Print the ends of the logs of failed cells, for machines whose ``.matrix`` is not accessible."""
    failed = [name for name, outcome in result.outcomes.items() if "failed" in outcome]
    for log in [cell.name] if result.problem else [f"{cell.name}-{name}" for name in failed]:
        path = WORK / f"{log}.log"
        if path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            yield "\n".join([f"== {path}", *lines[-_LINES_SHOWN:], ""])


def _counts(report: Path, exit_code: int) -> str:
    if not report.is_file():
        return f"failed: pytest ended with {exit_code} before it ran a test"
    suite = next(ET.parse(report).iter("testsuite"))  # noqa: S314  # pytest wrote it just now
    number = {key: int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")}
    failed = number["failures"] + number["errors"]
    passed = number["tests"] - failed - number["skipped"]
    counts = {"passed": passed, "failed": failed or (exit_code not in (0, 5) and 1), "skipped": number["skipped"]}
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)


def kept_results() -> dict[str, Result]:
    """Read what earlier runs gave, by the cell's name."""
    content = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    return {name: Result(**values) for name, values in content.items()}


def _keep(results: Mapping[str, Result]) -> None:
    content = {name: asdict(result) for name, result in results.items()}
    RESULTS.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_table(page: Path, results: Mapping[str, Result]) -> None:
    """Replace the table between the two marks of the page."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{table(results)}\n\n{END}{after}", encoding="utf-8")


def table(results: Mapping[str, Result]) -> str:
    """Make the table: one row for each cell, run or not."""
    rows = [
        f"| Python | packages | {' | '.join(SHOWN)} | {' | '.join(SUITES)} | run on |",
        "|---" * (3 + len(SHOWN) + len(SUITES)) + "|",
    ]
    for cell in CELLS:
        result = results.get(cell.name, Result(problem="not run yet"))
        versions = [result.versions.get(name, "") for name in SHOWN]
        outcomes = [result.problem or result.outcomes.get(name, "") for name in SUITES]
        python = result.versions.get("python", cell.python)
        rows.append(f"| {' | '.join([python, cell.packages, *versions, *outcomes, result.day])} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
