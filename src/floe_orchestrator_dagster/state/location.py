"""Location of a product's states: the configured URL and environment, or those that a command names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.errors import Problem, StateError
from floe_orchestrator_dagster.product.templates import rendered, required_variables

if TYPE_CHECKING:
    from floe_orchestrator_dagster.product import Product


def configured_url(product: Product) -> str | None:
    """Return the configured URL; None without one, or while an environment variable in it is not set."""
    config = product.config.state
    return rendered(config.url) if config else None


def required_url(product: Product, named: str | None) -> str:
    """Return the URL that a command names, else the configured one.

    Raises:
        StateError: There is neither, or an environment variable in the configured one is not set.
    """
    url = named or configured_url(product)
    if url:
        return url
    config = product.config.state
    if config is None:
        what, fix = "no state is configured", f"Set {config_path('state')}, or pass the URL with `--state`."
    else:
        names = ", ".join(variable.name for variable in required_variables(config.url)) or config.url
        what, fix = f"an environment variable is not set: {names}", "Set it, or pass the URL with `--state`."
    raise StateError(product.origin, [Problem(config_path("state", "url"), what, fix)])


def own_environment(product: Product) -> str | None:
    """Return the environment to which this process publishes: the dbt target; None if it is not known."""
    return product.dbt.profile.target if product.dbt else None


def production(product: Product, named: str | None = None) -> str:
    """Return the environment with which changes are compared: a named one, the configured one, or the profile's target.

    Raises:
        StateError: It is not known, because the profile's target reads an environment variable that is not set.
    """
    config = product.config.state
    target = product.dbt.profile.default_target if product.dbt else None
    found = named or (config.production if config else None) or (rendered(target) if target else None)
    if found:
        return found
    what = "the environment of production is not known: the target of the dbt profile is not set"
    raise StateError(product.origin, [Problem("", what, f"Set {config_path('state', 'production')}.")])
