"""Where a role's promises are found in the facts."""

import math

from rackwright.core.contract import Absent, Between, Claim, UnknownValue, Value
from rackwright.facts.facts import Facts
from rackwright.facts.gpu import Gpu
from rackwright.facts.view import UnknownFact
from rackwright.kinds.shared import observation


def look(facts: Facts, sort: str, key: str, name: str, claim: Claim) -> Value:
    match sort:
        case "host":
            return observation.identity(facts, name)
        case "file":
            return observation.file(facts, key, name)
        case "directory":
            return _directory(facts, key, name)
        case "package":
            return observation.package(facts, key, name)
        case "unit":
            return observation.unit(facts, key, name)
        case "sysctl":
            value = facts.sysctl(key)
            return Absent() if value is None else value
        case "module":
            return facts.module(key) if name == "loaded" else facts.module_version(key) or Absent()
        case "built_module":
            return _built_module(facts, key, name)
        case "gpu":
            return _gpu_setting(facts, key, claim)
        case "cdi":
            return _cdi(facts, key, name)
        case "image":
            return any(image.matches(key) for image in facts.images(name))
        case "library":
            files = facts.library(key)
            return tuple(sorted(file.rpartition(".so.")[2] for file in files)) or Absent()
        case "dkms":
            return _dkms(facts, key, name)
        case "reading":
            said = facts.reading(key)
            return Absent() if said is None else said
        case "bridges":
            return facts.redirecting_bridges
        case "kernel_parameter":
            return key in facts.kernel_parameters
        case "user":
            return _user(facts, key, name)
        case "group":
            group = facts.group(key)
            return group is not None if name == "present" else Absent() if group is None else group.members
        case "authorized_keys":
            return _authorized_keys(facts, key, name)
        case "socket":
            return _socket(facts, key, name)
        case "environment":
            packages = facts.environment(key)
            return Absent() if packages is None else packages.get(name, Absent())
        case "accounts":
            there = facts.tracking_accounts
            return tuple(sorted(f"{name}: {' '.join(functions) or 'none'}" for name, functions in there.items()))
        case "hostname":
            return facts.identity.hostname
        case "measure":
            return _measure(facts, key, claim)
        case "mount-option":
            return _mount_option(facts, key)
        case _:
            return observation.owner(facts, key, name)


def _directory(facts: Facts, path: str, name: str) -> Value:
    if name == "names":
        names = facts.listing(path)
        return Absent() if names is None else names
    directory = facts.directory(path)
    return Absent() if directory is None else directory.mode if name == "mode" else directory.owner


def _built_module(facts: Facts, key: str, name: str) -> Value:
    kernels = facts.next_kernels()
    if not kernels:
        return Absent()
    built = {
        release: [module.version or "unversioned" for module in kernel.modules if module.name == key.replace("-", "_")]
        for release, kernel in kernels.items()
    }
    if name == "missing_for":
        return tuple(sorted(release for release in built if not built[release]))
    return tuple(sorted({version for versions in built.values() for version in versions})) or Absent()


def _dkms(facts: Facts, key: str, name: str) -> Value:
    tree = facts.dkms(key)
    if name == "missing_for":
        return tuple(sorted(facts.next_kernels().keys() - {kernel for built in tree.values() for kernel in built}))
    return tuple(sorted(tree)) or Absent()


def _gpu_setting(facts: Facts, key: str, claim: Claim) -> Value:
    """Return what GPUs are set to; of those that are set otherwise than wanted, with where each is."""
    wanted = claim.want["setting"]
    told = {gpu.pci_address: _told(gpu, key) for gpu in facts.gpus}
    return tuple(sorted({value if (value,) == wanted else f"{value} on {at}" for at, value in told.items()}))


def _cdi(facts: Facts, kind: str, name: str) -> Value:
    found = facts.cdi(kind)
    if name == "by":
        return tuple(sorted(specification.path for specification in found)) or Absent()
    if name != "lacking":
        return tuple(sorted({path for specification in found for path in getattr(specification, name)}))
    named = {device for specification in found for device in specification.devices}
    return tuple(sorted(device for gpu in facts.gpus for device in _devices(gpu) if device not in named))


def _devices(gpu: Gpu) -> tuple[str, ...]:
    """Return what containers ask for to get it: its number, or ``0:1`` for the second of its instances."""
    return tuple(f"{gpu.index}:{nth}" for nth, _ in enumerate(gpu.mig_instances)) if gpu.mig else (str(gpu.index),)


def _told(gpu: Gpu, key: str) -> str:
    value = getattr(gpu, key)
    if key == "mig" and value:
        return " ".join(sorted(instance.profile for instance in gpu.mig_instances)) or "empty"
    if isinstance(value, float):
        return f"{value:g}"
    return {None: "none", True: "on", False: "off"}[value]


def _socket(facts: Facts, key: str, name: str) -> Value:
    protocol, _, port = key.partition(":")
    there = {found.address for found in facts.sockets if (found.protocol, found.port) == (protocol, int(port))}
    return bool(there) if name == "listening" else tuple(sorted(there)) or Absent()


def _user(facts: Facts, key: str, name: str) -> Value:
    user = facts.user(key)
    if name == "present":
        return user is not None
    if user is None:
        return Absent()
    match name:
        case "groups":
            return user.groups
        case "shell":
            return user.shell
        case "home":
            return user.home
        case _:
            return user.password


def _authorized_keys(facts: Facts, account: str, name: str) -> Value:
    """Return how sshd finds keys of *account*: a command, or those in its files, or of these the ones not noted."""
    found = facts.login_keys(account)
    if found is None:
        return "none" if name == "command" else ()
    if name == "command":
        return found.command
    noted = found.original_keys
    if name == "added" and noted is None:
        return ()  # the file of what is noted is a claim of its own, and missing
    return tuple(sorted(found.keys - set(noted or ()) if name == "added" else found.keys))


def _measure(facts: Facts, key: str, claim: Claim) -> Value:
    """Return the figure in steps of its bound: a state must not change with every look."""
    bound = claim.want["value"]
    if isinstance(bound, UnknownValue):
        raise UnknownFact(bound.reason)
    assert isinstance(bound, Between) and bound.high is not None
    return math.ceil(facts.measure(key) / bound.high) * bound.high or bound.high


def _mount_option(facts: Facts, key: str) -> Value:
    target, _, option = key.rpartition(":")
    mounts = [mount for mount in facts.mounts if mount.target == target]
    if not mounts:
        return Absent()
    if not mounts[-1].options:
        raise UnknownFact(f"the mount at {target} shows no options")
    return option in mounts[-1].options
