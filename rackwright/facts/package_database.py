"""Views of dpkg's database: what a person changed in it after the installation of a package."""

from collections.abc import Mapping
from functools import cached_property

from rackwright.facts.view import Fact, View


class Diversion(View):
    """A packaged file that is at another path, and whose place another file takes."""

    path = Fact(str, "Path of the package.")
    to = Fact(str, "Path at which the file is.")
    by = Fact(str, "``a person``, or the name of a package that is not installed.")


class FileRights(View):
    """Mode and owner that dpkg gives to a file in the place of those of its package."""

    mode = Fact(str, "Four octal digits.")
    owner = Fact(str, "user:group.")


class Choice(View):
    """A name of update-alternatives that does not lead to the best choice of packages."""

    mode = Fact(str, "auto or manual.")
    target = Fact(str, "Program to which the name leads; empty for none.")
    best = Fact(str, "Program with the highest priority.")


class PackageDatabase(View):
    """The parts of dpkg's database that are not as packages and dpkg wrote them."""

    @property
    def altered_files(self) -> Mapping[str, str]:
        """Files about packages with the reason why they are not those of dpkg, by path."""
        table = View(self.table("altered_files"), f"{self._where}.altered_files")
        return {path: table.value(path, str) for path in self.table("altered_files")}

    @property
    def odd_states(self) -> Mapping[str, str]:
        """Packages that are neither installed nor gone, with their states."""
        table = View(self.table("odd_states"), f"{self._where}.odd_states")
        return {name: table.value(name, str) for name in self.table("odd_states")}

    @property
    def diversions(self) -> tuple[Diversion, ...]:
        return self.rows("diversions", Diversion)

    @property
    def rights(self) -> Mapping[str, FileRights]:
        """The files whose rights a person or the script of a package set, by path."""
        return {path: FileRights(raw, f"{self._where}.rights") for path, raw in self.table("rights").items()}

    @property
    def choices(self) -> Mapping[str, Choice]:
        """The names of update-alternatives that lead elsewhere than to the best choice."""
        table = View(self.table("choices"), f"{self._where}.choices")
        return {name: Choice(table.read(name), f"{self._where}.choices") for name in self.table("choices")}


class HostPackageDatabase(View):
    """The database of dpkg of a host."""

    @cached_property
    def package_database(self) -> PackageDatabase:
        return PackageDatabase(self.read("package_database"), "facts.package_database")
