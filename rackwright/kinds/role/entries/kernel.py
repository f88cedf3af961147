"""The running kernel, and the modules of the next one."""

from collections.abc import Mapping

from rackwright.core.contract import Want
from rackwright.core.repository import Repository
from rackwright.kinds.role.entries.entry import Entry, without_none


class Sysctl(Entry):
    """A sysctl value of the running kernel; the value at boot is a claim on a file."""

    sort = "sysctl"
    usual_scope = "kernel"
    sysctl: str
    value: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"value": " ".join(self.value.split())}


class Module(Entry):
    """A kernel module that is loaded, or not; with *version*, in that version."""

    sort = "module"
    usual_scope = "kernel"
    module: str
    loaded: bool = True
    version: str | None = None

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"loaded": self.loaded, **without_none(version=self.version)}


class BuiltModule(Entry):
    """A module that is built for every kernel that the next start may use, in this version and no other."""

    sort = "built_module"
    built_module: str
    version: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"versions": (self.version,), "missing_for": ()}


class DkmsTree(Entry):
    """A module in the DKMS tree: this version and no other, built for every kernel that the next start may use."""

    sort = "dkms"
    dkms: str
    version: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"versions": (self.version,), "missing_for": ()}


class KernelParameter(Entry):
    """A parameter of the running kernel's command line."""

    sort = "kernel_parameter"
    usual_scope = "kernel"
    kernel_parameter: str
    present: bool = True
    restart: bool = True

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"present": self.present}


class Hostname(Entry):
    """The host name of the running kernel."""

    sort = "hostname"
    hostname: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"running": self.hostname}
