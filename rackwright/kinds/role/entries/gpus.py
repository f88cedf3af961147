"""Accelerators, and how software and containers see them."""

from collections.abc import Mapping
from typing import Literal

from rackwright.core.contract import Want
from rackwright.core.repository import Repository
from rackwright.kinds.role.entries.entry import Entry


class Reading(Entry):
    """A value that a vendor's software reports in a file, such as ``rocm.release``; see facts/probe/vendors.py."""

    sort = "reading"
    reading: str
    value: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"value": self.value}


class Bridges(Entry):
    """PCI bridges that send packets between devices directly: Access Control Services are off."""

    sort = "bridges"
    usual_scope = "hardware"
    bridges: Literal["direct"]

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"redirecting": ()}


class GpuSetting(Entry):
    """A property of every GPU: ``on`` or ``off``; watts; the profiles of its MIG instances, or ``off``; ``working``."""

    sort = "gpu"
    gpu: Literal["persistence", "ecc", "power_limit_watts", "mig", "condition"]
    value: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"setting": (self.value,)}


class Cdi(Entry):
    """The CDI specification of one kind of devices for containers: it lists exactly the existing devices."""

    sort = "cdi"
    cdi: str
    """The kind, such as ``nvidia.com/gpu``."""
    by: str | None = None
    """The only file with a specification of this kind."""
    every_gpu: bool = False
    """Whether the specification lists each GPU (or each of its MIG instances) of NVIDIA's driver."""
    there: Literal["files", "devices"] | None = None
    """The paths in the specification that must exist on the host."""

    def want(self, repository: Repository) -> Mapping[str, Want]:
        lacking: dict[str, Want] = {"lacking": ()} if self.every_gpu else {}
        missing: dict[str, Want] = {f"missing_{self.there}": ()} if self.there else {}
        return {**({"by": (self.by,)} if self.by else {}), **lacking, **missing}
