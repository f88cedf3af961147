"""Views of what the next start of the host takes from tables and from directories of systemd."""

from collections.abc import Mapping
from functools import cached_property

from rackwright.facts.view import Fact, View


class MountLine(View):
    """A line of /etc/fstab."""

    line = Fact(int, "Number of the line, from 1.")
    what = Fact(str, "Device, or another thing that is mounted.")
    where = Fact(str, "Place of the mount; none for swap space.")
    type = Fact(str, "Filesystem.")
    options = Fact(str, "Options, with secrets masked.")


class MappingLine(View):
    """A line of /etc/crypttab."""

    line = Fact(int, "Number of the line, from 1.")
    name = Fact(str, "Name of the mapping.")
    device = Fact(str, "Encrypted device.")
    key = Fact(str, "File of the key; none for a question.")
    options = Fact(str, "Options.")


class Addition(View):
    """A thing in a directory that systemd reads by itself."""

    sort = Fact(str, "Sort of the thing: extension, credential, account.")
    owner = Fact(str, "user:group by name.")


class BootFacts(View):
    """Tables of mounts and mappings, and directories of extensions, credentials and accounts."""

    @property
    def mounts(self) -> tuple[MountLine, ...]:
        return self.rows("mounts", MountLine, "where")

    @property
    def mappings(self) -> tuple[MappingLine, ...]:
        return self.rows("mappings", MappingLine, "name")

    @property
    def additions(self) -> Mapping[str, Addition]:
        return {path: Addition(raw, f"{self._where}.additions") for path, raw in self.table("additions").items()}


class HostBoot(View):
    """The next start of a host."""

    @cached_property
    def boot(self) -> BootFacts:
        return BootFacts(self.read("boot"), "facts.boot")
