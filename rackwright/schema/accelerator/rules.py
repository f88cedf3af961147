"""The rules against contradictory choices, which use only verified values of the catalogue."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from rackwright.schema.accelerator.choices import (
    DRIVER_ROLES,
    OPEN_SINCE,
    ROLES,
    WORKLOADS_TORCH,
    Accelerators,
    torch_parts,
)
from rackwright.schema.accelerator.layout import explain_misfit
from rackwright.schema.accelerator.versions import VERSION, at_least, branch, minor, parts
from rackwright.schema.catalogue import MIG, SOFTWARE, Gpu, Mig, Torch, source_text


@dataclass(frozen=True)
class Contradiction:
    """A contradiction between choices."""

    at: tuple[str | int, ...]
    """Field of the contradictory choice, and the index or name of its item."""
    problem: str
    expected: str
    source: str = ""
    also: str | None = None
    """Field of the other choice."""


NETWORK = "inbox"
"""Default source of the RDMA software in role rdma."""
NVLSM_SINCE = 4
"""First generation of NVSwitch that also needs the NVLink Subnet Manager."""
FABRIC = source_text("fabric-manager")
Check = Callable[[Accelerators], Iterator[Contradiction]]


@dataclass(frozen=True)
class Rule:
    """A kind of contradiction."""

    id: str
    check: Check
    choices: tuple[str, ...]
    """Fields whose change can remove the contradiction, the most likely first."""


def _gpu_driver(a: Accelerators) -> Iterator[Contradiction]:
    if a.runs is None:
        return
    for gpu, family in a.nvidia:
        row = gpu if gpu.verified_value("driver_first") else family
        first, last = row.verified_value("driver_first"), family.verified_value("driver_last")
        if first and not at_least(a.runs, first):
            expected = f"{gpu.name} wants driver {first} or later"
            yield Contradiction(("driver",), _driver(a), expected, row.source("driver_first"), "gpus")
        if last and branch(a.runs) > branch(last):
            expected = f"{gpu.name} ({family.name}) has drivers up to {last}"
            yield Contradiction(("driver",), _driver(a), expected, family.source("driver_last"), "gpus")


def _gpu_flavour(a: Accelerators) -> Iterator[Contradiction]:
    boards = [
        (gpu, family) for gpu, family in a.nvidia if "nvidia_driver" in a.roles and family.verified_value("flavours")
    ]
    if boards and not set.intersection(*(set(family.flavours) for _, family in boards)):
        names = " and ".join(gpu.name for gpu, _ in boards)
        yield Contradiction(("gpus",), f"got {names}", "a host loads one flavour of kernel modules, and none suits all")
        return
    for gpu, family in boards if a.flavour else ():
        if a.flavour not in family.flavours:
            expected = f"{gpu.name} ({family.name}) takes {_or(family.flavours)} kernel modules"
            yield Contradiction(("flavour",), f"got {a.flavour}", expected, family.source("flavours"), "gpus")


def _driver_flavour(a: Accelerators) -> Iterator[Contradiction]:
    if a.flavour == "open" and a.runs and branch(a.runs) < OPEN_SINCE:
        expected = f"open kernel modules come with driver {OPEN_SINCE} or later, and this host has {a.runs}"
        yield Contradiction(("flavour",), "got open", expected, source_text("kernel-modules"), "driver")


def _driver_form(a: Accelerators) -> Iterator[Contradiction]:
    if "nvidia_driver" in a.roles and a.driver is not None and not re.fullmatch(VERSION, a.driver):
        yield Contradiction(
            ("driver",), f"got {a.driver!r}", "a driver is a branch, like 535, or a version, like 535.261.03"
        )


def _os_driver(a: Accelerators) -> Iterator[Contradiction]:
    # by branch, because security updates change the version
    if a.runs and a.driver and a.own_driver and branch(a.runs) != branch(a.own_driver):
        expected = f"{a.os} itself has driver {branch(a.own_driver)}"
        yield Contradiction(("driver",), f"got {a.driver}", expected, a.system.source("driver"))


def _os_cuda(a: Accelerators) -> Iterator[Contradiction]:
    for index, version in enumerate(a.cuda if "cuda" in a.roles and a.own_cuda else ()):
        if minor(version) != a.own_cuda:
            expected = f"{a.os} itself has CUDA {a.own_cuda}"
            yield Contradiction(("cuda", index), f"got {version}", expected, a.system.source("cuda"))


def _cuda_default(a: Accelerators) -> Iterator[Contradiction]:
    if "cuda" in a.roles and a.cuda_default is not None and a.toolkits and a.cuda_default not in a.toolkits:
        expected = f"the default is one of those that are installed: {', '.join(a.toolkits)}"
        yield Contradiction(("cuda_default",), f"got {a.cuda_default}", expected)


def _cuda_missing(a: Accelerators) -> Iterator[Contradiction]:
    if a.needs_cuda and a.toolkits and a.needs_cuda not in map(minor, a.toolkits):
        expected = f"role cuda installs {', '.join(a.toolkits)}"
        yield Contradiction(("needs_cuda",), f"got {a.needs_cuda}", expected, also="cuda")


def _driver_cuda(a: Accelerators) -> Iterator[Contradiction]:
    for at, version in _runtimes(a):
        row = SOFTWARE.cuda.get(minor(version))
        least = row and row.verified_value("minimum")
        if row and least and a.runs and not at_least(a.runs, least):
            expected = f"it runs on driver {least} or later, and this host has {a.runs}"
            yield Contradiction(at, f"got CUDA {version}", expected, row.source("minimum"), "driver")


def _gpu_cuda(a: Accelerators) -> Iterator[Contradiction]:
    for at, version in _runtimes(a):
        for gpu, family in a.nvidia if re.fullmatch(VERSION, version) else ():
            first, last = family.verified_value("cuda_first"), family.verified_value("cuda_last")
            if first and parts(minor(version)) < parts(first):
                expected = f"{gpu.name} ({family.name}) wants CUDA {first} or later"
                yield Contradiction(at, f"got CUDA {version}", expected, family.source("cuda_first"), "gpus")
            if last and parts(minor(version)) > parts(last):
                expected = f"{gpu.name} ({family.name}) has CUDA up to {last}"
                yield Contradiction(at, f"got CUDA {version}", expected, family.source("cuda_last"), "gpus")


def _torch_build(a: Accelerators) -> Iterator[Contradiction]:
    if a.torch is None or a.build is not None:
        return
    release, tag = torch_parts(a.torch)
    tags = [build.tag for build in SOFTWARE.torch if release in build.releases]
    releases = [number for build in SOFTWARE.torch if build.tag == tag for number in build.releases]
    if tags:
        expected = f"torch {release} was built as {', '.join(tags)}"
    elif releases:
        expected = f"builds with {tag} that the catalogue knows are of {', '.join(releases)}"
    else:
        expected = f"builds that the catalogue knows: {', '.join(dict.fromkeys(build.tag for build in SOFTWARE.torch))}"
    yield Contradiction(("torch",), f"got {a.torch}", expected, SOFTWARE.torch[0].source("releases"))


def _torch_vendor(a: Accelerators) -> Iterator[Contradiction]:
    if a.build and a.gpus and all(gpu.role != a.build.role for gpu, _ in a.models):
        gpu, _ = a.models[0]
        expected = f"it runs on the driver of role {a.build.role}, and {gpu.name} on that of role {gpu.role}"
        yield Contradiction(("torch",), f"got {a.torch}", expected, a.build.source("releases"), "gpus")


def _gpu_torch(a: Accelerators) -> Iterator[Contradiction]:
    yield from _without_code(a, a.build, "torch", f"got {a.torch}")


def _driver_torch(a: Accelerators) -> Iterator[Contradiction]:
    yield from _old_driver(a, a.build, "torch", f"got {a.torch}")


def _gpu_workloads(a: Accelerators) -> Iterator[Contradiction]:
    yield from _without_code(a, a.workloads_build, "environments", _environments(a))


def _driver_workloads(a: Accelerators) -> Iterator[Contradiction]:
    if a.nvidia:
        yield from _old_driver(a, a.workloads_build, "environments", _environments(a))


def _environments(a: Accelerators) -> str:
    return f"got {' and '.join(a.gpu_environments)}, with PyTorch {WORKLOADS_TORCH}"


def _without_code(a: Accelerators, build: Torch | None, field: str, problem: str) -> Iterator[Contradiction]:
    """Yield the GPUs for which *build* has no code."""
    code: tuple[str, ...] = build.verified_value("code") or () if build else ()
    for gpu, family in a.models if build and code else ():
        target = gpu.verified_value("target")
        if build and gpu.role == build.role and target and not any(_runs_on(target, built) for built in code):
            expected = f"it has code for {', '.join(code)}, and {gpu.name} ({family.name}) is {target}"
            yield Contradiction((field,), problem, expected, build.source("code"), "gpus")


def _old_driver(a: Accelerators, build: Torch | None, field: str, problem: str) -> Iterator[Contradiction]:
    """Yield a driver that is too old for the CUDA of *build*."""
    row = SOFTWARE.cuda.get(build.cuda) if build and build.cuda else None
    least = row and row.verified_value("minimum")
    if build and row and least and a.runs and not at_least(a.runs, least):
        expected = f"CUDA {build.cuda} in it runs on driver {least} or later, and this host has {a.runs}"
        yield Contradiction((field,), problem, expected, row.source("minimum"), "driver")


def _gpu_precision(a: Accelerators) -> Iterator[Contradiction]:
    for index, precision in enumerate(a.precision):
        for gpu, family in a.models:
            precisions = family.verified_value("precisions")
            if precisions and precision not in precisions:
                expected = f"{gpu.name} ({family.name}) is made for {', '.join(precisions)}"
                yield Contradiction(
                    ("precision", index), f"got {precision}", expected, family.source("precisions"), "gpus"
                )


def _mig_support(a: Accelerators) -> Iterator[Contradiction]:
    for gpu, _ in a.nvidia if a.mig else ():
        if gpu.verified_value("mig") == "none":
            yield Contradiction(
                ("mig",), f"got {', '.join(a.mig)}", f"{gpu.name} has no MIG", gpu.source("mig"), "gpus"
            )


def _mig_profile(a: Accelerators) -> Iterator[Contradiction]:
    for gpu, table in _gpus_with_mig(a):
        for index, name in enumerate(a.mig):
            if name not in table.profiles:
                expected = f"profiles of {gpu.name}: {', '.join(table.profiles)}"
                yield Contradiction(("mig", index), f"got {name!r}", expected, table.source("profiles"), "gpus")


def _mig_fit(a: Accelerators) -> Iterator[Contradiction]:
    for gpu, table in _gpus_with_mig(a):
        if all(name in table.profiles for name in a.mig) and (why := explain_misfit(a.mig, table)):
            expected = f"they do not fit on {gpu.name}: {why}"
            yield Contradiction(("mig",), f"got {', '.join(a.mig)}", expected, table.source("profiles"), "gpus")


def _ecc(a: Accelerators) -> Iterator[Contradiction]:
    for gpu, _ in a.nvidia if a.ecc else ():
        if gpu.verified_value("ecc") is False:
            yield Contradiction(("ecc",), "got true", f"{gpu.name} has no ECC memory", gpu.source("ecc"), "gpus")


def _power_limit(a: Accelerators) -> Iterator[Contradiction]:
    limit = a.power_limit_watts
    for gpu, _ in a.nvidia if limit is not None else ():
        least, most = gpu.verified_value("power_min_watts"), gpu.verified_value("power_max_watts")
        for bound, name, beyond in ((least, "power_min_watts", -1), (most, "power_max_watts", 1)):
            if limit is not None and bound is not None and (limit - bound) * beyond > 0:
                expected = f"{gpu.name} takes {bound} W at {'most' if beyond > 0 else 'least'}"
                yield Contradiction(("power_limit_watts",), f"got {limit}", expected, gpu.source(name), "gpus")


def _clocks(a: Accelerators) -> Iterator[Contradiction]:
    if list(a.clocks_mhz) != sorted(a.clocks_mhz):
        problem = f"got {' to '.join(map(str, a.clocks_mhz))}"
        yield Contradiction(("clocks_mhz",), problem, "the least stands first, then the most")
    for gpu, _ in a.nvidia if a.clocks_mhz else ():
        most = gpu.verified_value("clock_max_mhz")
        if most is not None and max(a.clocks_mhz) > most:
            expected = f"{gpu.name} goes up to {most} MHz"
            yield Contradiction(
                ("clocks_mhz",), f"got {max(a.clocks_mhz)}", expected, gpu.source("clock_max_mhz"), "gpus"
            )


def _needless_fabric_manager(a: Accelerators) -> Iterator[Contradiction]:
    if a.fabric_manager == "on" and a.nvidia and a.nvswitch is None:
        expected = "this profile has no NVSwitch, without which Fabric Manager does not start"
        yield Contradiction(("fabric_manager",), "got on", expected, FABRIC, "gpus")


def _missing_fabric_manager(a: Accelerators) -> Iterator[Contradiction]:
    if a.fabric_manager == "off" and a.nvswitch is not None and "nvidia_driver" in a.roles:
        expected = "GPUs behind NVSwitch compute nothing before Fabric Manager has set it up"
        yield Contradiction(("fabric_manager",), "got off", expected, FABRIC, "gpus")


def _fabric_manager_source(a: Accelerators) -> Iterator[Contradiction]:
    if a.nvswitch is None or "nvidia_driver" not in a.roles or a.driver_source not in (None, "distribution"):
        return
    if a.nvswitch >= NVLSM_SINCE:
        expected = "NVSwitch of the fourth generation needs NVLSM beside Fabric Manager, and only the vendor has it"
        yield Contradiction(("driver_source",), "got distribution", expected, FABRIC, "gpus")
    elif a.system.verified_value("fabric_manager") is False:
        expected = f"NVSwitch needs Fabric Manager of exactly the driver's version, and {a.os} itself has none"
        yield Contradiction(("driver_source",), "got distribution", expected, a.system.source("fabric_manager"), "gpus")


def _missing_nvlsm(a: Accelerators) -> Iterator[Contradiction]:
    if "nvidia_driver" not in a.roles or a.driver_source != "vendor" or a.driver_sets:
        return
    if a.nvswitch is not None and a.nvswitch >= NVLSM_SINCE:
        expected = "NVSwitch of the fourth generation needs NVLSM, and no known set of packages has it"
        yield Contradiction(("driver_sets",), "got no sets", expected, FABRIC, "gpus")


def _vendor_role(a: Accelerators) -> Iterator[Contradiction]:
    for role in _alien(a):
        gpu, _ = a.models[0]
        expected = f"this host has {gpu.name}, which takes role {gpu.role}"
        yield Contradiction(("roles", role), f"got the role {role}", expected, gpu.source("target"), "gpus")


def _two_drivers(a: Accelerators) -> Iterator[Contradiction]:
    drivers = [role for role in a.roles if role in DRIVER_ROLES and role not in _alien(a)]
    for role in drivers[1:]:
        yield Contradiction(
            ("roles", role), f"got the role {role}", f"{drivers[0]} brings another vendor's driver already"
        )


def _stack_os(a: Accelerators) -> Iterator[Contradiction]:
    for role in a.roles:
        stack = SOFTWARE.stacks.get(role)
        systems = stack.verified_value("systems") if stack else None
        if stack and systems and a.os and a.os not in systems:
            expected = f"its software is for {_or(systems)}, and this host has {a.os}"
            yield Contradiction(("roles", role), f"got the role {role}", expected, stack.source("systems"))


def _stack_first(a: Accelerators) -> Iterator[Contradiction]:
    stack = SOFTWARE.stacks[a.stack] if a.stack else None
    first = stack.verified_value("first") if stack else None
    if stack and first and a.version and (release := _release(a.version)) and parts(release) < parts(first):
        expected = f"role {a.stack} takes releases from {first} on"
        yield Contradiction(("version",), f"got {a.version}", expected, stack.source("first"))


def _stack_kernel(a: Accelerators) -> Iterator[Contradiction]:
    release = _release(a.version or "")
    row = SOFTWARE.stack_releases.get(a.stack or "", {}).get(minor(release or ""))
    kernels: dict[str, tuple[str, ...]] = (row.verified_value("kernels") if row and a.os else None) or {}
    stack = SOFTWARE.stacks.get(a.stack or "")
    if not (row and kernels and a.os) or (stack and a.os not in (stack.verified_value("systems") or (a.os,))):
        return  # the rule stack-os reports it
    if a.os not in kernels:
        expected = f"{a.stack} {minor(release or '')} is for {_or(kernels)}, and this host has {a.os}"
        yield Contradiction(("version",), f"got {a.version}", expected, row.source("kernels"))
    elif a.kernel and not any(_is_for(wanted, a.kernel) for wanted in kernels[a.os]):
        wanted = _or(each.replace("+", " or later") for each in kernels[a.os])
        expected = f"{a.stack} {minor(release or '')} on {a.os} is for kernel {wanted}"
        yield Contradiction(("kernel",), f"got {a.kernel}", expected, row.source("kernels"), "version")


def _peer_memory(a: Accelerators) -> Iterator[Contradiction]:
    method = SOFTWARE.peer_memory.get(a.peer_memory or "")
    if method is None:
        return
    at, problem, network = ("peer_memory",), f"got {a.peer_memory}", a.network or NETWORK
    flavour = a.flavour or a.usual_flavour
    if "nvidia_driver" not in a.roles:
        expected = "it lends the memory of NVIDIA's GPUs, and this host has no role nvidia_driver"
        yield Contradiction(at, problem, expected)
    elif flavour and flavour not in method.flavours:
        expected = f"only {_or(method.flavours)} kernel modules have it"
        yield Contradiction(at, problem, expected, method.source("flavours"), "flavour")
    if network not in method.networks:
        expected = f"it takes RDMA of source {_or(method.networks)}, and this is {network}"
        yield Contradiction(at, problem, expected, method.source("networks"), "network")


RULES = (
    Rule("driver-form", _driver_form, ("driver",)),
    Rule("os-driver", _os_driver, ("driver", "driver_source")),
    Rule("gpu-driver", _gpu_driver, ("driver",)),
    Rule("gpu-flavour", _gpu_flavour, ("flavour",)),
    Rule("driver-flavour", _driver_flavour, ("driver", "flavour")),
    Rule("os-cuda", _os_cuda, ("cuda", "cuda_source")),
    Rule("driver-cuda", _driver_cuda, ("needs_cuda", "cuda", "driver")),
    Rule("gpu-cuda", _gpu_cuda, ("needs_cuda", "cuda")),
    Rule("cuda-default", _cuda_default, ("cuda_default",)),
    Rule("cuda-missing", _cuda_missing, ("needs_cuda",)),
    Rule("torch-build", _torch_build, ("torch",)),
    Rule("torch-vendor", _torch_vendor, ("torch",)),
    Rule("gpu-torch", _gpu_torch, ("torch",)),
    Rule("driver-torch", _driver_torch, ("torch", "driver")),
    Rule("gpu-workloads", _gpu_workloads, ("environments",)),
    Rule("driver-workloads", _driver_workloads, ("driver", "environments")),
    Rule("gpu-precision", _gpu_precision, ("precision",)),
    Rule("mig-support", _mig_support, ("mig",)),
    Rule("mig-profile", _mig_profile, ("mig",)),
    Rule("mig-fit", _mig_fit, ("mig",)),
    Rule("ecc", _ecc, ("ecc",)),
    Rule("power-limit", _power_limit, ("power_limit_watts",)),
    Rule("clocks", _clocks, ("clocks_mhz",)),
    Rule("fabric-manager-needless", _needless_fabric_manager, ("fabric_manager",)),
    Rule("fabric-manager-missing", _missing_fabric_manager, ("fabric_manager",)),
    Rule("fabric-manager-source", _fabric_manager_source, ("driver",)),
    Rule("nvlsm", _missing_nvlsm, ("driver_sets",)),
    Rule("vendor-role", _vendor_role, ("roles",)),
    Rule("two-drivers", _two_drivers, ("roles",)),
    Rule("stack-os", _stack_os, ("roles",)),
    Rule("stack-first", _stack_first, ("version",)),
    Rule("stack-kernel", _stack_kernel, ("version", "kernel")),
    Rule("peer-memory", _peer_memory, ("peer_memory",)),
)


def _runtimes(a: Accelerators) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield each release of CUDA with the field and item of its choice."""
    for index, version in enumerate(a.toolkits):
        yield ("cuda", index) if a.cuda else ("cuda",), version
    if a.needs_cuda:
        yield ("needs_cuda",), a.needs_cuda


def _gpus_with_mig(a: Accelerators) -> Iterator[tuple[Gpu, Mig]]:
    """Yield the GPUs with declared and supported MIG, with their tables of profiles."""
    for gpu, _ in a.nvidia if a.mig else ():
        if (table := MIG.get(gpu.verified_value("mig") or "")) and table.verified_value("profiles"):
            yield gpu, table


def _alien(a: Accelerators) -> tuple[str, ...]:
    """Return the roles for accelerators that this host does not have."""
    fitting = {gpu.role for gpu, _ in a.models}
    return tuple(role for role in a.roles if fitting and ROLES[role] not in fitting)


def _runs_on(target: str, built: str) -> bool:
    """Return whether code for the target *built* runs on *target*: the same, or a later one of its generation."""
    if not re.fullmatch(VERSION, target):
        return target == built
    return parts(built)[0] == parts(target)[0] and parts(built) <= parts(target)


def _release(version: str) -> str | None:
    """Return the release in *version*, 1.22.1 of ``1.22.1-6``; None if it has another form."""
    release = version.partition("-")[0]
    return release if re.fullmatch(VERSION, release) else None


def _is_for(wanted: str, kernel: str) -> bool:
    """Return whether *kernel* is of the series *wanted*; true for a kernel of unknown form."""
    series = re.match(r"[0-9]{1,9}\.[0-9]{1,9}", kernel)
    if series is None:
        return True
    least = parts(wanted.rstrip("+"))
    return parts(series[0]) == least or (wanted.endswith("+") and parts(series[0]) > least)


def _driver(a: Accelerators) -> str:
    return f"got {a.driver}" if a.driver else f"got {a.runs}, which {a.os} itself has"


def _or(names: Iterable[str]) -> str:
    return " or ".join(names)
