"""Links from assets to their code and their dbt docs."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from floe_orchestrator_dagster.product import DbtProject, Product

_SSH = re.compile(r"git@([\w.-]+):(.+)")
_SCHEMELESS = re.compile(r"[\w-]+(\.[\w-]+)+/\S+")
# Paths of a file on the default branch, by host.
_FILE_PATHS = {"github": "blob/HEAD", "gitlab": "-/blob/HEAD"}


@dataclass(frozen=True)
class AssetLinks:
    """Links of a product's dbt nodes."""

    product: Product

    def metadata(self, node: Mapping[str, Any], *, is_reduced: bool) -> dict[str, Any]:
        """Return metadata with the path of the node's file, a reference to its code, and its page in the dbt docs.

        Args:
            node: The node.
            is_reduced: Whether to omit the path, with which the path of the reference ends, and both for a source.
        """
        path = node.get("original_file_path")
        docs, dbt = self.product.config.docs_url, self.product.dbt
        omits_code = is_reduced and node["resource_type"] == "source"
        return {
            **({"floe/path": path} if path and not is_reduced else {}),
            **(
                {"dagster/code_references": self._code(node, path, dbt, label=None if is_reduced else path)}
                if path and dbt and not omits_code
                else {}
            ),
            **({"floe/docs": dg.MetadataValue.url(_docs_page(docs, node))} if docs else {}),
        }

    def _code(
        self, node: Mapping[str, Any], path: str, dbt: DbtProject, *, label: str | None
    ) -> dg.CodeReferencesMetadataValue:
        file = _directory(node, dbt) / path
        url = self._url(file)
        with warnings.catch_warnings():
            # Dagster's code references are in beta since 1.8.
            warnings.simplefilter("ignore", dg.BetaWarning)
            local = dg.LocalFileCodeReference(file_path=str(file), label=label)
            online = [dg.UrlCodeReference(url=url, label=label)] if url else []
            return dg.CodeReferencesMetadataValue(code_references=[local, *online])

    def _url(self, file: Path) -> str | None:
        repository = self._repository
        if repository is None or self._root is None or self._root not in file.parents:
            return repository
        shown = next((path for host, path in _FILE_PATHS.items() if host in repository), None)
        return f"{repository}/{shown}/{file.relative_to(self._root).as_posix()}" if shown else repository

    @cached_property
    def _repository(self) -> str | None:
        return repository_url(self.product.artifacts.identity.repository)

    @cached_property
    def _root(self) -> Path | None:
        """The root of the git checkout; without one, as in an image, the directory of the dbt project."""
        if self.product.dbt is None:
            return None
        project = self.product.dbt.directory.path
        return next((path for path in [project, *project.parents] if (path / ".git").exists()), project)


def repository_url(repository: str) -> str | None:
    """Convert ``identity.repository`` to a web URL: from a URL, ``git@host:path`` or ``host/path``; else None."""
    text = repository.strip().removesuffix("/").removesuffix(".git")
    if text.startswith(("https://", "http://")):
        return text
    ssh = _SSH.fullmatch(text)
    if ssh:
        return f"https://{ssh[1]}/{ssh[2]}"
    return f"https://{text}" if _SCHEMELESS.fullmatch(text) else None


def _directory(node: Mapping[str, Any], dbt: DbtProject) -> Path:
    """Return the directory of a node's project: the product's dbt project, or an installed package."""
    own = dbt.manifest.content["metadata"].get("project_name")
    package = str(node.get("package_name"))
    return dbt.directory.path if package == own else dbt.directory.packages_path / package


def _docs_page(docs_url: str, node: Mapping[str, Any]) -> str:
    return f"{docs_url.rstrip('/')}/#!/{node['resource_type']}/{node['unique_id']}"
