"""The catalogue: accelerators, classes of hosts and their software, as data with a source for each value."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache, cached_property
from importlib.resources import files
from typing import Annotated, Any, Literal, Self, TypeVar, cast

import yaml
from pydantic import Field, TypeAdapter, model_validator

from rackwright.schema.base import Many, Schema
from rackwright.schema.units import Size
from workloads import catalogue

T = TypeVar("T")
Precision = Literal["fp32", "tf32", "fp16", "bf16", "int8", "fp8", "fp4"]
Flavour = Literal["open", "proprietary"]
UNVERIFIED = "unverified"
"""Source of values without a published one. Such a value informs, and is never the reason of a refusal."""


class CatalogueRow(Schema):
    """A row of the catalogue. Its values are the fields that are not None; each has one source."""

    sources: dict[str, Many[str]] = Field(default_factory=dict)
    """Names of values by their source, a name of ``sources.yaml``."""

    @model_validator(mode="after")
    def _has_sources(self) -> Self:
        names = [value for values in self.sources.values() for value in values]
        if unknown := self.sources.keys() - _sources().keys() - {UNVERIFIED}:
            raise ValueError(f"no such source: {', '.join(sorted(unknown))}")
        if sorted(names) != sorted(self.values):
            raise ValueError(f"each of {self.values} has one source; got {names}")
        return self

    @property
    def values(self) -> list[str]:
        """Names of the row's values, without the fields that only name or classify it."""
        plain = {"sources", "name", "architecture", "vendor", "role", "tag", "known_set"}
        return [name for name in type(self).model_fields.keys() - plain if getattr(self, name) not in (None, (), {})]

    def verified_value(self, name: str) -> Any:
        """Return the value *name*; None if it is missing or unverified."""
        return None if name in self.sources.get(UNVERIFIED, ()) else getattr(self, name)

    def source(self, name: str) -> str:
        """Return the source of the value *name*: document, version, place; empty if it is unverified."""
        return next((_sources()[id] for id, values in self.sources.items() if name in values and id != UNVERIFIED), "")


class Architecture(CatalogueRow):
    """An architecture of accelerators, with the values that all its models share."""

    name: str
    vendor: Literal["nvidia", "amd", "intel", "huawei"]
    precisions: Many[Precision]
    """Precisions that the architecture accelerates, not all that run."""
    flavours: Many[Flavour] = ()
    """Flavours of NVIDIA's kernel modules that support the architecture."""
    driver_first: str | None = None
    """First driver of NVIDIA with support."""
    driver_last: str | None = None
    """Last driver branch with support; None if support has not ended."""
    cuda_first: str | None = None
    cuda_last: str | None = None


class Gpu(CatalogueRow):
    """A model of a GPU or of another accelerator."""

    name: str
    architecture: str
    role: Literal["nvidia_driver", "jetson", "rocm", "gaudi", "ascend"]
    """Role with the driver."""
    target: str | None = None
    """Compilation target: CUDA's compute capability, or AMD's gfx."""
    pci: Many[str] = ()
    """PCI ids ``vendor:device`` of all forms, in hex; empty for accelerators outside PCI."""
    memory: Size
    ecc: bool | None = None
    power_min_watts: int | None = None
    power_default_watts: int | None = None
    power_max_watts: int | None = None
    """Maximum power of the form with the highest limit."""
    clock_max_mhz: int | None = None
    """Maximum of the graphics clock."""
    driver_first: str | None = None
    """First driver with support, if it is later than the architecture's."""
    mig: str | None = None
    """Name of the table of MIG profiles; ``none`` if MIG cannot divide the GPU."""
    peak_tflops: float | None = None
    """10^12 operations per second on dense 16-bit matrices; newer data sheets list twice that, for sparse ones."""
    floor_memory_gb_per_s: float | None = None
    """Minimum of STREAM's Triad in the memory of a healthy GPU; GB are 10^9 bytes, here and below."""
    floor_host_copy_gb_per_s: float | None = None
    """Minimum of copies from the host's memory and to it."""
    floor_peer_copy_gb_per_s: float | None = None
    """Minimum of copies from another GPU of the host, if NVSwitch connects all of them."""
    floor_all_reduce_gb_per_s: float | None = None
    """Minimum bus bandwidth of NCCL's all-reduce over eight GPUs that NVSwitch connects."""


class MigProfile(Schema):
    """A size of a GPU instance."""

    compute: int
    """Compute slices of an instance."""
    memory: int
    """Memory slices of an instance."""
    count: int
    """Maximum number of instances on one GPU."""


class Mig(CatalogueRow):
    """The slices and profiles into which MIG divides a GPU."""

    compute_slices: int
    memory_slices: int
    profiles: dict[str, MigProfile]


class Profile(CatalogueRow):
    """The minimum hardware of a class of hosts."""

    gpus: dict[str, int] = Field(default_factory=dict)
    """Number of GPUs by model."""
    memory: Size | None = None
    nvswitch: int | None = None
    """Generation of the NVSwitches between the GPUs, which need Fabric Manager; the fourth also needs NVLSM."""


class Driver(CatalogueRow):
    """A branch of NVIDIA's driver."""

    designation: str | None = None
    end_of_life: str | None = None
    """Year and month of the end of life."""
    known_set: bool = False
    """Whether role nvidia_driver knows a set of the vendor's packages."""


class Cuda(CatalogueRow):
    """A release of CUDA."""

    driver: str
    """Driver that is released together with it."""
    minimum: str
    """First driver that runs it, with that driver's features: NVIDIA's minor version compatibility."""


class Torch(CatalogueRow):
    """Builds of PyTorch with one tag."""

    tag: str
    """Tag after the plus sign: ``cu128``, ``rocm6.4``."""
    cuda: str | None = None
    releases: Many[str]
    code: Many[str]
    """Targets for which the builds contain code."""

    @property
    def role(self) -> str:
        """Role with the driver that the builds need."""
        return "nvidia_driver" if self.tag.startswith("cu") else "rocm"


class System(CatalogueRow):
    """Software in an operating system's own archive."""

    driver: str | None = None
    """NVIDIA's driver; None if the archive has several, without a default."""
    cuda: str | None = None
    fabric_manager: bool | None = None


class StackRelease(CatalogueRow):
    """A release of another vendor's software."""

    kernels: dict[str, Many[str]]
    """Supported kernels by system: ``6.8``, or ``5.15+`` for that and all later ones."""


class SoftwareStack(CatalogueRow):
    """The software of a vendor other than NVIDIA."""

    first: str | None = None
    last: str | None = None
    systems: Many[str] = ()


class PeerMemory(CatalogueRow):
    """A method by which RDMA accesses the memory of NVIDIA's GPUs."""

    flavours: Many[Flavour]
    """Flavours of NVIDIA's kernel modules with the method."""
    networks: Many[Literal["inbox", "doca"]]
    """RDMA software with the method: the system's own, or NVIDIA's DOCA."""


class Vendor(Schema):
    """A vendor's repository of packages."""

    repository: str
    """Address of the repository, as a role's variable `repository` has that of a mirror."""
    key: str
    """Path of the key that signs it, relative to the repository."""
    fingerprint: Annotated[str, Field(pattern=r"^[0-9A-F]{40}$")]
    """Fingerprint of that key."""


class Software(Schema):
    """The compatibility of software releases."""

    drivers: dict[str, Driver]
    cuda: dict[str, Cuda]
    torch: Many[Torch]
    systems: dict[str, System]
    stacks: dict[str, SoftwareStack]
    stack_releases: dict[str, dict[str, StackRelease]]
    """Releases by role and number; a release outside this table is not judged."""
    peer_memory: dict[str, PeerMemory]


def _read(file: str, shape: type[T], package: str = __name__) -> T:
    with (files(package) / file).open(encoding="utf-8") as stream:
        return TypeAdapter(shape).validate_python(yaml.load(stream, yaml.CSafeLoader))


@cache
def _sources() -> Mapping[str, str]:
    return _read("sources.yaml", dict[str, str])


class CatalogueTable(Mapping[str, T]):
    """A file of the catalogue, which is read when it is first used: most commands use few or none."""

    def __init__(self, file: str, shape: type[dict[str, T]], package: str = __name__) -> None:
        self._file, self._shape, self._package = file, shape, package

    @cached_property
    def _rows(self) -> dict[str, T]:
        return _read(self._file, self._shape, self._package)

    def __getitem__(self, name: str) -> T:
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


class LazySoftware:
    """The attributes of `Software`, which is read when one of them is first used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_software(), name)


@cache
def _software() -> Software:
    return _read("software.yaml", Software)


ARCHITECTURES = CatalogueTable("architectures.yaml", dict[str, Architecture], catalogue.__name__)
GPUS = CatalogueTable("gpus.yaml", dict[str, Gpu], catalogue.__name__)
MIG = CatalogueTable("mig.yaml", dict[str, Mig])
PROFILES = CatalogueTable("profiles.yaml", dict[str, Profile])
VENDORS = CatalogueTable("vendors.yaml", dict[str, Vendor])
SOFTWARE = cast("Software", LazySoftware())


def source_text(id: str) -> str:
    """Return the source with this *id*: document, version and place."""
    return _sources()[id]


def architecture(gpu: Gpu) -> Architecture:
    return ARCHITECTURES[gpu.architecture]


def drivers(gpus: Iterable[str]) -> tuple[str, ...]:
    """Return the roles with drivers for the models *gpus*, sorted."""
    return tuple(sorted({GPUS[model].role for model in gpus}))


def rows() -> Iterator[tuple[str, CatalogueRow]]:
    """Yield all rows of the catalogue with their places, like ``gpus.a100-80gb``."""
    tables: dict[str, Mapping[str, CatalogueRow]] = {
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


def unverified_values() -> tuple[str, ...]:
    """Return the places of all values without a published source."""
    return tuple(f"{place}.{value}" for place, row in rows() for value in row.sources.get(UNVERIFIED, ()))
