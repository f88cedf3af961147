"""Libraries that single features need beside rackwright's own dependencies, each an extra of its package."""

import sys
from dataclasses import dataclass
from importlib.util import find_spec

from rackwright import locations
from rackwright.errors import Diagnostic, SetupError, command


@dataclass(frozen=True)
class Extra:
    """A library, and the list of packages that brings it."""

    name: str
    """Name of the extra in pyproject.toml, and of its list."""
    module: str
    package: str

    @property
    def is_installed(self) -> bool:
        return find_spec(self.module) is not None

    @property
    def help(self) -> str:
        """The remedy, with a command that compares hashes: an index may have another package under each name."""
        here = locations.PACKAGE.parent / "requirements" / f"{self.name}.txt"
        if here.is_file():
            return f"Run {command('{} -m pip install --require-hashes --requirement {}', sys.executable, str(here))}"
        lists = f"dist/requirements-{self.name}.txt"
        install = command("{} -m pip install --find-links dist --requirement {}", sys.executable, lists)
        return f"Run {install}, where dist is the directory of rackwright's wheel"

    def require(self, where: str, need: str) -> None:
        """Return if the library is installed.

        Args:
            where: The place in the error.
            need: The use of the library, like "the check digits of identifiers".

        Raises:
            SetupError: it is not.
        """
        if not self.is_installed:
            problem = f"{self.package} is not installed on this computer"
            raise SetupError(Diagnostic(where, problem, need, self.help))


S3 = Extra("s3", "boto3", "boto3")
MASKING = Extra("masking", "stdnum", "python-stdnum")
DASHBOARDS = Extra("dashboards", "grafana_foundation_sdk", "grafana-foundation-sdk")
EXTRAS = (S3, MASKING, DASHBOARDS)
