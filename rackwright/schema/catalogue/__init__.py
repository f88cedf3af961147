"""The catalogue: accelerators, classes of hosts and the software for them, as data; every value says whose it is."""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal, Self, TypeVar

import yaml
from pydantic import Field, TypeAdapter, model_validator

from rackwright.schema.base import Many, Schema
from rackwright.schema.units import Size
from workloads import catalogue

T = TypeVar("T")
Precision = Literal["fp32", "tf32", "fp16", "bf16", "int8", "fp8", "fp4"]
Flavour = Literal["open", "proprietary"]
UNVERIFIED = "unverified"
"""The source of what nobody could be found for. Such a value informs; it is never the reason of a refusal."""


class Sourced(Schema):
    """A row of the catalogue. Its values are those that are not None; each has one source."""

    sources: dict[str, Many[str]] = Field(default_factory=dict)
    """Who says so, by a name of ``sources.yaml``, to the values that are theirs."""

    @model_validator(mode="after")
    def _says_whose(self) -> Self:
        named = [value for values in self.sources.values() for value in values]
        if unknown := self.sources.keys() - _sources().keys() - {UNVERIFIED}:
            raise ValueError(f"no such source: {', '.join(sorted(unknown))}")
        if sorted(named) != sorted(self.values):
            raise ValueError(f"each of {self.values} has one source; got {named}")
        return self

    @property
    def values(self) -> list[str]:
        """The names of its values; those that only call it something are none."""
        plain = {"sources", "name", "architecture", "vendor", "role", "tag"}
        return [name for name in type(self).model_fields.keys() - plain if getattr(self, name) not in (None, (), {})]

    def known(self, name: str) -> Any:
        """Return the value *name*; None where it is not given, or not verified."""
        return None if name in self.sources.get(UNVERIFIED, ()) else getattr(self, name)

    def source(self, name: str) -> str:
        """Return who says so: document, version, place."""
        return next((_sources()[id] for id, values in self.sources.items() if name in values and id != UNVERIFIED), "")


class Architecture(Sourced):
    """What all accelerators of one architecture have in common."""

    name: str
    vendor: Literal["nvidia", "amd", "intel", "huawei"]
    precisions: Many[Precision]
    """Those that gain by it, not those that merely run."""
    flavours: Many[Flavour] = ()
    """Of NVIDIA's kernel modules."""
    driver_first: str | None = None
    """The first of NVIDIA's drivers that knows it."""
    driver_last: str | None = None
    """The last branch that does; None where there is no end to it yet."""
    cuda_first: str | None = None
    cuda_last: str | None = None


class Gpu(Sourced):
    """A model of GPU, or of another accelerator."""

    name: str
    architecture: str
    role: Literal["nvidia_driver", "jetson", "rocm", "gaudi", "ascend"]
    """The role that brings its driver."""
    target: str | None = None
    """What code is compiled for: CUDA's compute capability, or AMD's gfx."""
    pci: Many[str] = ()
    """``vendor:device`` ids, in hex, of all its forms; empty for what is no PCI device."""
    memory: Size
    ecc: bool | None = None
    power_min_watts: int | None = None
    power_default_watts: int | None = None
    power_max_watts: int | None = None
    """Of the form that takes the most."""
    clock_max_mhz: int | None = None
    """Of its graphics clock."""
    driver_first: str | None = None
    """Where it is later than its architecture's."""
    mig: str | None = None
    """The table of its MIG profiles; ``none`` where it cannot be divided."""
    peak_tflops: float | None = None
    """10^12 operations a second on dense matrices of 16-bit numbers; newer data sheets name twice that, for sparse."""
    floor_memory_gb_per_s: float | None = None
    """What one in order reaches at least by STREAM's Triad in its own memory; GB are 10^9 bytes, here and below."""
    floor_host_copy_gb_per_s: float | None = None
    """From the host's memory, and to it."""
    floor_peer_copy_gb_per_s: float | None = None
    """From another one of its host, where NVSwitch joins all of them."""
    floor_all_reduce_gb_per_s: float | None = None
    """Bus bandwidth of NCCL's all-reduce over eight of them that NVSwitch joins."""


class MigProfile(Schema):
    """A size of GPU instance."""

    compute: int
    """Compute slices that it takes."""
    memory: int
    """Memory slices that it takes."""
    count: int
    """How many there may be."""


class Mig(Sourced):
    """How a GPU can be divided."""

    compute_slices: int
    memory_slices: int
    profiles: dict[str, MigProfile]


class Profile(Sourced):
    """What a class of host must physically have, at least."""

    gpus: dict[str, int] = Field(default_factory=dict)
    """Model to how many."""
    memory: Size | None = None
    nvswitch: int | None = None
    """Generation of the switches between its GPUs, which then need Fabric Manager; the fourth needs NVLSM, too."""


class Driver(Sourced):
    """A branch of NVIDIA's driver."""

    designation: str | None = None
    end_of_life: str | None = None
    """Year and month."""


class Cuda(Sourced):
    """A release of CUDA."""

    driver: str
    """What it was made with."""
    minimum: str
    """The first driver that runs it, with what that driver can do: NVIDIA's minor version compatibility."""


class Torch(Sourced):
    """Builds of PyTorch with one tag."""

    tag: str
    """``cu128``, ``rocm6.4``: what stands behind the plus."""
    cuda: str | None = None
    releases: Many[str]
    code: Many[str]
    """Targets that it has code for."""

    @property
    def role(self) -> str:
        """The role that brings the driver it runs on."""
        return "nvidia_driver" if self.tag.startswith("cu") else "rocm"


class System(Sourced):
    """What an operating system has in its own archive."""

    driver: str | None = None
    """NVIDIA's; None where there are several and none is its own."""
    cuda: str | None = None
    fabric_manager: bool | None = None


class StackRelease(Sourced):
    """A release of another vendor's software."""

    kernels: dict[str, Many[str]]
    """By system the kernels that it is for: ``6.8``, and ``5.15+`` for that and all later ones."""


class Stack(Sourced):
    """The software of another vendor than NVIDIA."""

    first: str | None = None
    last: str | None = None
    systems: Many[str] = ()


class PeerMemory(Sourced):
    """A way in which RDMA reaches the memory of NVIDIA's GPUs."""

    flavours: Many[Flavour]
    """Of NVIDIA's kernel modules, those that have it."""
    networks: Many[Literal["inbox", "doca"]]
    """Whose RDMA has it: the system's own, or NVIDIA's DOCA."""


class Software(Schema):
    """Which software goes with which."""

    drivers: dict[str, Driver]
    cuda: dict[str, Cuda]
    torch: Many[Torch]
    systems: dict[str, System]
    stacks: dict[str, Stack]
    stack_releases: dict[str, dict[str, StackRelease]]
    """By role and release; what is not here lets nothing be concluded."""
    peer_memory: dict[str, PeerMemory]


def _read(file: str, shape: type[T], package: str = __name__) -> T:
    with (files(package) / file).open(encoding="utf-8") as stream:
        return TypeAdapter(shape).validate_python(yaml.load(stream, yaml.CSafeLoader))


@cache
def _sources() -> Mapping[str, str]:
    return _read("sources.yaml", dict[str, str])


ARCHITECTURES = _read("architectures.yaml", dict[str, Architecture], catalogue.__name__)
GPUS = _read("gpus.yaml", dict[str, Gpu], catalogue.__name__)
MIG = _read("mig.yaml", dict[str, Mig])
PROFILES = _read("profiles.yaml", dict[str, Profile])
SOFTWARE = _read("software.yaml", Software)


def source_text(id: str) -> str:
    """Return the document, version and place that *id* stands for."""
    return _sources()[id]


def architecture(gpu: Gpu) -> Architecture:
    return ARCHITECTURES[gpu.architecture]


def drivers(profile: str) -> tuple[str, ...]:
    """Return the roles that bring drivers for the accelerators of *profile*, sorted."""
    return tuple(sorted({GPUS[model].role for model in PROFILES[profile].gpus}))


def rows() -> Iterator[tuple[str, Sourced]]:
    """Yield every row of the catalogue by its place."""
    tables: dict[str, Mapping[str, Sourced]] = {
        "architectures": ARCHITECTURES,
        "gpus": GPUS,
        "mig": MIG,
        "profiles": PROFILES,
        "drivers": SOFTWARE.drivers,
        "cuda": SOFTWARE.cuda,
        "torch": {f"{build.tag} of {build.releases[0]}": build for build in SOFTWARE.torch},
        "systems": SOFTWARE.systems,
        "stacks": SOFTWARE.stacks,
        "peer_memory": SOFTWARE.peer_memory,
        "stack_releases": {
            f"{role} {release}": row for role, rows in SOFTWARE.stack_releases.items() for release, row in rows.items()
        },
    }
    for table, entries in tables.items():
        for name, row in entries.items():
            yield f"{table}.{name}", row


def unverified() -> tuple[str, ...]:
    """Return where the values stand that no source was found for."""
    return tuple(f"{place}.{value}" for place, row in rows() for value in row.sources.get(UNVERIFIED, ()))
