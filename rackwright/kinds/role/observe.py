"""The observation of a role's claims."""

import math

from rackwright.core.contract import Absent, Between, Claim, UnknownValue, Value, Within
from rackwright.facts.facts import Facts
from rackwright.facts.gpu import GpuFacts
from rackwright.facts.view import UnknownFact
from rackwright.kinds.network.observe import observe_route
from rackwright.kinds.shared import loaded, observation
from rackwright.schema.object_store import OWNER_TAG


def observe_property(facts: Facts, sort: str, key: str, name: str, claim: Claim) -> Value:
    match sort:
        case "host":
            return observation.identity(facts, name)
        case "file":
            want = claim.want.get(name)
            if name == "content" and isinstance(want, str) and want.startswith(observation.LINK):
                return observation.link_content(facts, key, want)
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
            reading = facts.reading(key)
            return Absent() if reading is None else reading
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
        case "factor":
            return _factor(facts, key, name)
        case "socket":
            return _socket(facts, key, name)
        case "environment":
            return _environment(facts, key, name, claim)
        case "accounts":
            return _accounts(facts, name, claim)
        case "state":
            state = facts.state_directory(key)
            if state is None:
                return Absent()
            found: Value = getattr(state, name)
            return found
        case "variables":
            names = facts.service_variables(key)
            return Absent() if names is None else names
        case "certificate":
            return _certificate(facts, key, name)
        case "object_store":
            return _object_store(facts, key, claim)
        case "hostname":
            return facts.identity.hostname
        case "measure":
            return _measure(facts, key, claim)
        case "nftables":
            table = facts.nftables_table(key)
            return Absent() if table is None else table
        case "route":
            return observe_route(facts, key, name, claim)
        case "certificates":
            return _expiring(facts, float(name.removeprefix("expiring_within_").removesuffix("_days")))
        case loaded.SORT:
            return loaded.observe(facts, key, name)
        case "mount-option":
            return _mount_option(facts, key)
        case _:
            return observation.owner(facts, key, name)


def _accounts(facts: Facts, name: str, claim: Claim) -> Value:
    """Return the functions of all accounts, the rights in the database, or the declared rights that it lacks."""
    from rackwright.kinds.role.entries.accounts import ROLE_RIGHT

    if name == "functions":
        accounts = facts.tracking_accounts
        return tuple(sorted(f"{name}: {' '.join(functions) or 'none'}" for name, functions in accounts.items()))
    rights = tuple(sorted(f"{of}: {right}" for of, each in facts.tracking_rights.items() for right in each))
    if name == "rights":
        return rights
    wanted = claim.want["rights"]
    assert isinstance(wanted, Within)
    return tuple(each for each in map(str, wanted.values) if each.startswith(ROLE_RIGHT) and each not in rights)


def _directory(facts: Facts, path: str, name: str) -> Value:
    if name.endswith("_names"):
        names, extension = facts.listing(path), name.removesuffix("_names")
        return Absent() if names is None else tuple(each for each in names if each.endswith(f".{extension}"))
    return observation.directory(facts, path, name)


def _environment(facts: Facts, path: str, name: str, claim: Claim) -> Value:
    from rackwright.kinds.role.entries.software import ENVIRONMENT_FILES, ENVIRONMENT_PACKAGES, OF_ENVIRONMENT

    packages = facts.environment(path)
    if packages is None:
        return Absent()
    if name == ENVIRONMENT_FILES:
        odd = facts.environment_files(path)
        return Absent() if odd is None else odd
    if name == ENVIRONMENT_PACKAGES:
        expected = {own for own, needed in OF_ENVIRONMENT.items() if not needed or needed in claim.want}
        return tuple(f"{each} {packages[each]}" for each in sorted(packages.keys() - claim.want.keys() - expected))
    return packages.get(name, Absent())


def _certificate(facts: Facts, key: str, name: str) -> Value:
    from rackwright.kinds.role.entries.services import plain_name

    certificate = facts.service_certificate(key)
    if certificate is None:
        return Absent()
    if name == "names":
        return tuple(sorted({plain_name(each) for each in certificate.names}))
    if name == "has_key":
        return certificate.has_key
    days = float(name.removeprefix("valid_for_").removesuffix("_days"))
    return certificate.not_after - facts.taken_at >= days * 86400


def _built_module(facts: Facts, key: str, name: str) -> Value:
    kernels = facts.next_kernels()
    if not kernels:
        return Absent()
    versions_by_kernel = {
        release: [module.version or "unversioned" for module in kernel.modules if module.name == key.replace("-", "_")]
        for release, kernel in kernels.items()
    }
    if name == "missing_for":
        return tuple(sorted(release for release in versions_by_kernel if not versions_by_kernel[release]))
    return tuple(sorted({version for versions in versions_by_kernel.values() for version in versions})) or Absent()


def _dkms(facts: Facts, key: str, name: str) -> Value:
    tree = facts.dkms(key)
    if name == "missing_for":
        return tuple(sorted(facts.next_kernels().keys() - {kernel for kernels in tree.values() for kernel in kernels}))
    return tuple(sorted(tree)) or Absent()


def _gpu_setting(facts: Facts, key: str, claim: Claim) -> Value:
    """Return the settings of all GPUs; each that differs from the wanted one has the name of its GPU."""
    wanted = claim.want["setting"]
    settings = {_name_gpu(gpu, key): _format_setting(gpu, key) for gpu in facts.gpus}
    return tuple(sorted({value if (value,) == wanted else f"{value} on {at}" for at, value in settings.items()}))


def _name_gpu(gpu: GpuFacts, key: str) -> str:
    """Return the PCI address of *gpu*; for its condition its number, because a lost GPU answers nothing else."""
    return f"GPU {gpu.index}" if key == "condition" else gpu.pci_address


def _cdi(facts: Facts, kind: str, name: str) -> Value:
    specifications = facts.cdi(kind)
    if name == "by":
        return tuple(sorted(specification.path for specification in specifications)) or Absent()
    if name != "lacking":
        return tuple(sorted({path for specification in specifications for path in getattr(specification, name)}))
    devices = {device for specification in specifications for device in specification.devices}
    return tuple(sorted(device for gpu in facts.gpus for device in _devices(gpu) if device not in devices))


def _devices(gpu: GpuFacts) -> tuple[str, ...]:
    """Return the CDI device names of *gpu*: its number, or ``0:1`` for the second of its MIG instances."""
    return tuple(f"{gpu.index}:{nth}" for nth, _ in enumerate(gpu.mig_instances)) if gpu.mig else (str(gpu.index),)


def _format_setting(gpu: GpuFacts, key: str) -> str:
    value = getattr(gpu, key)
    if key == "mig" and value:
        return " ".join(sorted(instance.profile for instance in gpu.mig_instances)) or "empty"
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    return {None: "none", True: "on", False: "off"}[value]


def _socket(facts: Facts, key: str, name: str) -> Value:
    protocol, _, port = key.partition(":")
    sockets = [socket for socket in facts.sockets if (socket.protocol, socket.port) == (protocol, int(port))]
    return bool(sockets) if name == "listening" else tuple(sorted({socket.address for socket in sockets})) or Absent()


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
    """Return the keys of *account* for sshd: the command, the keys in files, or those of them that are not noted."""
    login_keys = facts.login_keys(account)
    if login_keys is None:
        return "none" if name == "command" else ()
    if name == "command":
        return login_keys.command
    original_keys = login_keys.original_keys
    if name == "added" and original_keys is None:
        return ()  # another claim covers the file of noted keys, which is missing
    return tuple(sorted(login_keys.keys - set(original_keys or ()) if name == "added" else login_keys.keys))


def _object_store(facts: Facts, aspect: str, claim: Claim) -> Value:
    store = facts.object_store
    if store is None:
        return Absent()
    match aspect:
        case "writes":
            return store.buffered
        case "rights":
            return store.rights
        case "buckets":
            buckets = store.settings.buckets
            return tuple(f"{name}: {' '.join(bucket.set)}" for name, bucket in buckets.items() if bucket.set)
        case "owners":
            return tuple(name for name, bucket in store.settings.buckets.items() if OWNER_TAG not in bucket.tags)
        case "volumes":
            return _volumes(store.settings.volumes, claim)
        case _:
            value: Value = getattr(store.settings, aspect)
            return value


def _volumes(volumes: tuple[str, ...], claim: Claim) -> Value:
    """Return copies and expiry of all volumes; each that differs from the wanted one has the name of its bucket."""
    from rackwright.kinds.role.entries.services import STORE_PROPERTIES

    wanted = claim.want[STORE_PROPERTIES["volumes"]]
    assert isinstance(wanted, Within)
    found = (each.partition(": ") for each in volumes)
    return tuple(sorted({is_ if is_ in wanted.values else f"{is_} of {bucket}" for bucket, _, is_ in found}))


def _factor(facts: Facts, person: str, name: str) -> Value:
    factor = facts.factor(person)
    if factor is None:
        return Absent()
    value: Value = getattr(factor, name)
    return value


def _measure(facts: Facts, key: str, claim: Claim) -> Value:
    """Return the figure, rounded up to a multiple of its bound: the state must not change with every probe."""
    bound = claim.want["value"]
    if isinstance(bound, UnknownValue):
        raise UnknownFact(bound.reason)
    assert isinstance(bound, Between) and bound.high is not None
    return math.ceil(facts.measure(key) / bound.high) * bound.high or bound.high


def _expiring(facts: Facts, days: float) -> Value:
    """Return the names of the certificates of Kubernetes that expire within *days* after the observation."""
    certificates = facts.kubernetes_certificates
    if certificates is None:
        return Absent()
    end = facts.taken_at + days * 86400
    return tuple(sorted(name for name, time in certificates.items() if time < end))


def _mount_option(facts: Facts, key: str) -> Value:
    target, _, option = key.rpartition(":")
    mounts = [mount for mount in facts.mounts if mount.target == target]
    if not mounts:
        return Absent()
    if not mounts[-1].options:
        raise UnknownFact(f"the mount at {target} shows no options")
    return option in mounts[-1].options
