"""A host's choices about accelerators, from its profile, its needs and the variables of its roles."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rackwright.schema.accelerator.versions import VERSION, branch
from rackwright.schema.catalogue import (
    GPUS,
    SOFTWARE,
    Architecture,
    Flavour,
    Gpu,
    System,
    Torch,
    architecture,
)
from rackwright.schema.needs import Needs
from rackwright.schema.problem import Keys
from rackwright.schema.profile import Minimum

DRIVER_ROLES = ("nvidia_driver", "jetson", "rocm", "gaudi", "ascend")
"""Roles with drivers, each for one kind of accelerator."""
ROLES = {**{role: role for role in DRIVER_ROLES}, "cuda": "nvidia_driver"}
"""Roles for accelerators, each with the role whose driver it needs."""
OPEN_SINCE = 515
"""The first driver with open kernel modules. Source: kernel-modules of the catalogue."""


WORKLOADS = "workloads"
"""Role with the Python environments of trainings and model servers."""
WORKLOADS_TORCH = "2.13+cu130"
"""The build of PyTorch in the environments of role workloads for GPUs. Source: the locks of the role, and the tag of
PyTorch's wheels on PyPI."""
GPU_ENVIRONMENTS = ("training", "vllm")
"""Environments of role workloads whose PyTorch computes on GPUs."""


@dataclass(frozen=True)
class Accelerators:
    """The choices of a host. None or empty fields are not declared.

    ``os`` is also None if it is declared wrongly, so that no rule draws conclusions from it.
    """

    os: str | None = None
    gpus: tuple[str, ...] = ()
    """Models, by their names in the catalogue."""
    nvswitch: int | None = None
    roles: tuple[str, ...] = ()
    driver: str | None = None
    """A branch, ``535``, or a version, ``535.261.03``."""
    driver_source: str | None = None
    driver_sets: bool = False
    """Whether the fleet declares sets of packages with drivers."""
    flavour: str | None = None
    ecc: bool | None = None
    power_limit_watts: int | None = None
    clocks_mhz: tuple[int, ...] = ()
    """One fixed clock, or the minimum and the maximum."""
    mig: tuple[str, ...] = ()
    """Profiles of the instances of each GPU."""
    fabric_manager: str | None = None
    cuda: tuple[str, ...] = ()
    cuda_default: str | None = None
    cuda_source: str | None = None
    version: str | None = None
    """Release of another vendor's software."""
    kernel: str | None = None
    """Release of the kernel for that software: ``6.8.0-60-generic``."""
    peer_memory: str | None = None
    """Method by which RDMA accesses the memory of NVIDIA's GPUs."""
    network: str | None = None
    """Source of the RDMA software."""
    torch: str | None = None
    workloads: bool = False
    """Whether the host has role workloads."""
    environments: tuple[str, ...] = ()
    """Environments of role workloads; empty for its default, which is training."""
    needs_cuda: str | None = None
    precision: tuple[str, ...] = ()

    @cached_property
    def system(self) -> System:
        return SOFTWARE.systems.get(self.os or "", System())

    @cached_property
    def models(self) -> tuple[tuple[Gpu, Architecture], ...]:
        return tuple((GPUS[name], architecture(GPUS[name])) for name in self.gpus)

    @cached_property
    def nvidia(self) -> tuple[tuple[Gpu, Architecture], ...]:
        """The models for NVIDIA's server driver."""
        return tuple(model for model in self.models if model[0].role == "nvidia_driver")

    @property
    def stack(self) -> str | None:
        """The first role with another vendor's software."""
        return next((role for role in self.roles if role in SOFTWARE.stacks), None)

    @property
    def own_driver(self) -> str | None:
        """The system's own driver, if the driver's source is the distribution."""
        return self.system.verified_value("driver") if self.driver_source in (None, "distribution") else None

    @property
    def own_cuda(self) -> str | None:
        """The system's own CUDA, if CUDA's source is the distribution."""
        return self.system.verified_value("cuda") if self.cuda_source in (None, "distribution") else None

    @cached_property
    def runs(self) -> str | None:
        """The version or branch of the resulting NVIDIA driver; None if it is unknown."""
        if "nvidia_driver" not in self.roles:
            return None
        driver = self.driver or self.own_driver
        return driver if driver and re.fullmatch(VERSION, driver) else None

    @property
    def usual_flavour(self) -> Flavour | None:
        """The kernel modules for these GPUs and this driver: open if all support it, else proprietary.

        None if no GPU is known, or no flavour suits all.
        """
        flavours = [
            set(family.verified_value("flavours")) for _, family in self.nvidia if family.verified_value("flavours")
        ]
        common = set.intersection(*flavours) if flavours else set()
        if self.runs and branch(self.runs) < OPEN_SINCE:
            common.discard("open")
        return "open" if "open" in common else "proprietary" if common else None

    @cached_property
    def toolkits(self) -> tuple[str, ...]:
        """The releases of CUDA that role cuda installs."""
        if "cuda" not in self.roles:
            return ()
        return self.cuda or ((self.own_cuda,) if self.own_cuda else ())

    @cached_property
    def build(self) -> Torch | None:
        """The required build of PyTorch; None if there is none, or the catalogue does not have it."""
        if self.torch is None:
            return None
        return _find_build(self.torch)

    @cached_property
    def workloads_build(self) -> Torch | None:
        """The build of PyTorch that role workloads installs for GPUs; None without such an environment."""
        return _find_build(WORKLOADS_TORCH) if self.gpu_environments else None

    @property
    def gpu_environments(self) -> tuple[str, ...]:
        """The environments of role workloads for GPUs."""
        declared = self.environments or ("training",)
        return tuple(name for name in declared if name in GPU_ENVIRONMENTS) if self.workloads else ()


def _find_build(torch: str) -> Torch | None:
    release, tag = torch_parts(torch)
    return next((build for build in SOFTWARE.torch if build.tag == tag and release in build.releases), None)


def read_choices(
    os: str | None, hardware: Minimum, roles: Mapping[str, Mapping[str, Any]], needs: Needs
) -> Accelerators:
    """Return the choices of a host.

    Variables of a wrong type count as not declared, because the check of their role reports them.
    """
    driver, cuda, rdma = (roles.get(role, {}) for role in ("nvidia_driver", "cuda", "rdma"))
    other: Mapping[str, Any] = next((roles[role] for role in roles if role in SOFTWARE.stacks), {})
    return Accelerators(
        os=os,
        gpus=tuple(hardware.verified_value("gpus") or ()),
        nvswitch=hardware.verified_value("nvswitch"),
        roles=tuple(role for role in roles if role in ROLES),
        driver=_text(driver.get("version")),
        driver_source=_text(driver.get("source")),
        driver_sets=bool(driver.get("sets")),
        flavour=_text(driver.get("flavour")),
        ecc=_flag(driver.get("ecc")),
        power_limit_watts=_number(driver.get("power_limit_watts")),
        clocks_mhz=tuple(number for item in _items(driver.get("clocks_mhz")) if (number := _number(item)) is not None),
        mig=tuple(text for item in _items(driver.get("mig")) if (text := _text(item)) is not None),
        fabric_manager=_text(driver.get("fabric_manager")),
        cuda=tuple(text for item in _items(cuda.get("versions")) if (text := _text(item)) is not None),
        cuda_default=_text(cuda.get("default")),
        cuda_source=_text(cuda.get("source")),
        version=_text(other.get("version")),
        kernel=_text(other.get("kernel")),
        peer_memory=_text(rdma.get("peer_memory")),
        network=_text(rdma.get("source")),
        torch=needs.torch,
        workloads=WORKLOADS in roles,
        environments=tuple(
            text for item in _items(roles.get(WORKLOADS, {}).get("environments")) if (text := _text(item)) is not None
        ),
        needs_cuda=needs.cuda,
        precision=tuple(needs.precision),
    )


WITH_DEFAULTS = "nvidia_driver"
"""The role with defaults that follow from the GPUs."""


def variables(accelerators: Accelerators, declared: Mapping[str, Any]) -> dict[str, Any]:
    """Return the *declared* variables of role WITH_DEFAULTS, with defaults that follow from the GPUs."""
    flavour = accelerators.usual_flavour
    usual: dict[str, Any] = {"flavour": flavour} if flavour else {}
    if accelerators.nvswitch is not None and accelerators.driver_source == "vendor" and not accelerators.driver_sets:
        usual["fabric_manager"] = "on"
    return {**usual, **declared}


PLACES: dict[str, Keys] = {
    "gpus": ("profile",),
    "roles": ("roles",),
    "driver": ("roles", "nvidia_driver", "version"),
    "driver_source": ("roles", "nvidia_driver", "source"),
    "driver_sets": ("roles", "nvidia_driver", "sets"),
    "flavour": ("roles", "nvidia_driver", "flavour"),
    "ecc": ("roles", "nvidia_driver", "ecc"),
    "power_limit_watts": ("roles", "nvidia_driver", "power_limit_watts"),
    "clocks_mhz": ("roles", "nvidia_driver", "clocks_mhz"),
    "mig": ("roles", "nvidia_driver", "mig"),
    "fabric_manager": ("roles", "nvidia_driver", "fabric_manager"),
    "cuda": ("roles", "cuda", "versions"),
    "cuda_default": ("roles", "cuda", "default"),
    "cuda_source": ("roles", "cuda", "source"),
    "version": ("roles", "", "version"),
    "kernel": ("roles", "", "kernel"),
    "peer_memory": ("roles", "rdma", "peer_memory"),
    "network": ("roles", "rdma", "source"),
    "torch": ("needs", "torch"),
    "environments": ("roles", WORKLOADS, "environments"),
    "needs_cuda": ("needs", "cuda"),
    "precision": ("needs", "precision"),
}
"""Keys of each choice, relative to the host; an empty key is the other vendor's role."""


def is_written(accelerators: Accelerators, field: str) -> bool:
    """Return whether *field* is declared, and not a default."""
    return bool(getattr(accelerators, field) != getattr(Accelerators, field, None))


def place(accelerators: Accelerators, field: str) -> Keys:
    """Return the keys of the choice *field*; for a default, those of its role."""
    whole = tuple(key or accelerators.stack or key for key in PLACES[field])
    return whole if is_written(accelerators, field) else whole[:-1]


def torch_parts(torch: str) -> tuple[str, str]:
    """Return release and tag of *torch*: 2.9 and cu128 of ``2.9.1+cu128``."""
    release, _, tag = torch.partition("+")
    return ".".join(release.split(".")[:2]), tag


def _text(value: Any) -> str | None:
    """Return *value* as a text, as Ansible also converts numbers; None for other types."""
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def _number(value: Any) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else {"yes": True, "no": False}.get(str(value).lower())


def _items(value: Any) -> Sequence[Any]:
    if isinstance(value, list | tuple):
        return value
    return value.split(",") if isinstance(value, str) else () if value is None else (value,)
