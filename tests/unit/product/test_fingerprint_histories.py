"""Random edits of a dbt project: a model whose compiled SQL changes has another fingerprint.

Models call macros directly, through other macros, by ``adapter.dispatch``, as arguments and by computed names, and read
variables, environment variables and ephemeral models. ``HISTORIES=2000`` edits that many projects instead of 100.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import jinja2
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st

from unit.product.test_build_fingerprints import Shop, model, project_file
from unit.product.test_fingerprints import macro
from unit.samples import manifest

if TYPE_CHECKING:
    from collections.abc import Mapping

HISTORIES = int(os.environ.get("HISTORIES", "100"))
MACROS = [f"m{number}" for number in range(5)]
MODELS = [f"model_{number}" for number in range(3)]
VALUES = ("v0", "v1", "v2")
EPHEMERAL = "model.shop.part"


@dataclass(frozen=True)
class Project:
    """Code of macros and models, and the values that they read."""

    macros: Mapping[str, str]
    models: Mapping[str, str]
    part: str
    variables: Mapping[str, int]
    environment: Mapping[str, str]

    def fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of each model."""
        models = [model(name, code, *self._parents(code)) for name, code in self.models.items()]
        part = model("part", self.part, materialized="ephemeral")
        metadata = {"adapter_type": "duckdb", "project_name": "shop", "dbt_version": "1.12.6"}
        macros = dict(macro(name, code) for name, code in self.macros.items())
        apply = {"macro.shop.apply": {**macros["macro.shop.m0"], "name": "apply", "macro_sql": APPLY}}
        with TemporaryDirectory() as directory:
            shop = Shop(Path(directory), manifest(*models, part, macros=macros | apply, metadata=metadata))
            shop.write("dbt_project.yml", project_file(dict(self.variables)))
            shop.profile = replace(shop.profile, file_variables=dict(self.environment))
            found = shop.fingerprints()
        return {name: found[name].value for name in self.models}

    def compiled(self) -> dict[str, list[str]]:
        """Return the tokens of each model's compiled SQL."""
        found = _Found()
        jinja = jinja2.Environment()  # noqa: S701  # SQL
        jinja.globals |= {
            "ref": lambda _: f"({jinja.from_string(self._whole(self.part)).render()})",
            "var": lambda name, default=None: self.variables.get(name, default),
            "env_var": self.environment.get,
            "adapter": found,
            "context": found,
        }
        found.macros = vars(jinja.from_string(self._whole("")).module)
        sql = {name: jinja.from_string(self._whole(code)).render() for name, code in self.models.items()}
        return {name: [token.text for token in sqlglot.tokenize(text, "duckdb")] for name, text in sql.items()}

    def _whole(self, code: str) -> str:
        every = [f"{{% macro {name}() %}}{text}{{% endmacro %}}" for name, text in self.macros.items()]
        return f"{APPLY}{''.join(every)}\n{code}"

    def _parents(self, code: str) -> list[str]:
        return [EPHEMERAL] if "ref(" in code else []


APPLY = "{% macro apply(called) %}{{ called() }}{% endmacro %}"


@dataclass
class _Found:
    """Macros by a name that is computed while a template is rendered."""

    macros: Mapping[str, object] = field(default_factory=dict)

    def dispatch(self, name: str, _package: str) -> object:
        return self.macros[f"default__{name}"] if f"default__{name}" in self.macros else self.macros[name]

    def __getitem__(self, name: str) -> object:
        return self.macros[name]


def write_code(random: Random, callable_: list[str], *, refs: bool = False) -> str:
    """Write random code that calls some of the macros."""
    parts = [str(random.randint(0, 9)), "{{ var('v0') }}", "{{ var('v' ~ '1', 5) }}", "{{ env_var('v2', 'e') }}"]
    parts += [
        "{# note #}",
        "/* c */",
        "{% set word = 'w' %}{{ word }}",
        "'{% for x in ['a', 'b'] %}{{ x }}{% endfor %}'",
    ]
    for name in callable_:
        parts += [f"{{{{ {name}() }}}}", f"{{{{ apply({name}) }}}}", f"{{{{ context['m' ~ '{name[1:]}']() }}}}"]
        parts += [f"{{{{ adapter.dispatch('{name}', 'shop')() }}}}", f"{{% set f = {name} %}}{{{{ f() }}}}"]
    parts += ["{{ ref('part') }}"] * refs
    return " , ".join(random.choices(parts, k=random.randint(1, 3)))


def write_project(random: Random) -> Project:
    """Write a random project. Macros call only later ones."""
    return Project(
        {name: write_code(random, MACROS[row + 1 :]) for row, name in enumerate(MACROS)},
        {name: write_code(random, MACROS, refs=True) for name in MODELS},
        write_code(random, MACROS),
        {name: random.randint(0, 3) for name in VALUES},
        {},
    )


def edit(random: Random, project: Project) -> Project:
    """Change one macro, model, variable or environment variable."""
    other = write_project(random)
    kind, macro_, name = random.randint(0, 4), random.choice(MACROS), random.choice(MODELS)
    if kind == 0:
        return replace(project, macros={**project.macros, macro_: other.macros[macro_]})
    if kind == 1:
        return replace(project, models={**project.models, name: other.models[name]})
    if kind == 2:
        return replace(project, part=other.part)
    if kind == 3:
        return replace(project, variables={**project.variables, random.choice(VALUES): random.randint(0, 3)})
    return replace(project, environment={"v2": str(random.randint(0, 3))})


@settings(max_examples=HISTORIES, deadline=None)
@given(st.randoms(use_true_random=False))
def test_other_compiled_sql_has_another_fingerprint(random: Random) -> None:
    before = write_project(random)
    after = edit(random, before)
    changed = {name for name in MODELS if before.compiled()[name] != after.compiled()[name]}
    fingerprints, others = before.fingerprints(), after.fingerprints()

    assert changed <= {name for name in MODELS if fingerprints[name] != others[name]}


def test_edits_leave_most_other_models_alone() -> None:
    changed = unchanged = 0
    for seed in range(50):
        random = Random(seed)  # noqa: S311  # not for secrets
        before = write_project(random)
        fingerprints, others = before.fingerprints(), edit(random, before).fingerprints()
        differing = sum(fingerprints[name] != others[name] for name in MODELS)
        changed, unchanged = changed + differing, unchanged + len(MODELS) - differing

    assert changed > 25
    assert unchanged > 50
