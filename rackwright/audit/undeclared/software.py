"""Rules about packages, the archives from which apt installs them, and containers."""

import re
from collections.abc import Iterator

from rackwright.audit.undeclared.declaration import HostDeclaration
from rackwright.audit.undeclared.paths import files_in, unpackaged_in
from rackwright.audit.undeclared.rule import ADMIT, Finding, Rule
from rackwright.facts.facts import Facts
from rackwright.facts.inventory import ArchiveFacts
from rackwright.facts.view import UnknownFact

OWN_ORIGIN = "rackwright"
"""Origin in the release of the fleet's own repository. Source: lock/tree.py."""
KEY_FOLDERS = ("/etc/apt/keyrings", "/etc/apt/trusted.gpg", "/etc/apt/trusted.gpg.d", "/usr/share/keyrings")
DRIVER = re.compile(r"libnvidia-(?!container|egl|vulkan)|nvidia-(driver|kernel|utils|compute|firmware|smi)")
"""Packages that have the driver's version; nvidia-modprobe and others have versions of their own."""


def packages(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the packages that neither the distribution nor a declared archive has."""
    if declared.has_mirror:
        return  # packages of the base image are in no list of the fleet's own repository
    try:
        foreign = facts.foreign_packages
    except UnknownFact:
        if any(not declared.is_of_image(archive.path) for archive in facts.archives):
            raise
        return  # without an archive of its own, apt has no list to fetch
    release = facts.sysctl("kernel.osrelease") or "?"
    running = release.rsplit("-", 1)[0]
    has_foreign_archive = any(True for _ in archives(facts, declared))
    for name, origin in foreign.items():
        is_kernel = name.startswith("linux-") and f"-{running}" in name  # archives drop kernels before hosts do
        is_expected = origin == OWN_ORIGIN or (origin and not has_foreign_archive)
        if not declared.declares(f"package:{name}") and not is_kernel and not is_expected:
            found = f"from an archive of {origin}" if origin else "in no list of a package archive"
            yield Finding(f"package:{name}", f"{facts.packages.get(name, '?')}, {found}")


def archives(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the archives that are signed by another key than a packaged or a declared one, or not at all."""
    own_keys = set(facts.unpackaged)
    for archive in facts.archives:
        if declared.declares_path(archive.path):
            continue
        if problem := _key_problem(archive, own_keys, declared):
            yield Finding(f"archive:{archive.uri} {archive.suite}", f"in {archive.path}, {problem}", archive.path)


def _key_problem(archive: ArchiveFacts, unpackaged: set[str], declared: HostDeclaration) -> str | None:
    """Return why packages of *archive* may be no packages of the distribution; None if they are."""
    key = archive.key
    if archive.unchecked:
        return "which apt does not check"
    if key is None:
        return None  # any trusted key: the rule about keys reports others than the packaged ones
    if not key.startswith("/"):
        return f"signed by the key {key}"
    is_packaged = key.startswith(KEY_FOLDERS) and key not in unpackaged
    return None if is_packaged or declared.declares_path(key) else f"signed by {key}"


def keys(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    for path in unpackaged_in(facts, declared, *KEY_FOLDERS):
        yield Finding(f"file:{path}", "a key that no package installed")


def apt_settings(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    folders = ("apt.conf", "apt.conf.d", "preferences", "preferences.d", "auth.conf.d")
    dpkg = ("/etc/dpkg/dpkg.cfg", "/etc/dpkg/dpkg.cfg.d")
    yield from files_in(facts, declared, *(f"/etc/apt/{name}" for name in folders), *dpkg)


def shadowing_programs(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    for path in facts.shadowing_programs:
        if not declared.declares_path(path):
            yield Finding(f"file:{path}", "found before the system's program of the same name")


def undeclared_holds(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    for name in facts.held_packages:
        if "held" not in declared.wants.get(f"package:{name}", {}):
            yield Finding(f"hold:{name}", f"{facts.packages.get(name, '?')} is held")


def drivers(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the packages of NVIDIA's driver whose version differs from that of the most packages."""
    versions = {
        name: match[0]
        for name, version in facts.packages_starting_with("libnvidia-", "nvidia-").items()
        if DRIVER.match(name) and (match := re.search(r"\d{3}\.\d+(\.\d+)?", version))
    }
    counts = sorted(versions.values(), key=lambda version: (list(versions.values()).count(version), version))
    for name, version in sorted(versions.items()):
        if version != counts[-1]:
            yield Finding(f"package:{name}", f"{version} beside {counts[-1]}")


def containers(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    images = set(declared.names("image"))
    for engine in ("podman", "docker", "containerd"):
        for container in facts.containers(engine):
            if container.image not in images and not _is_of_cluster(engine, container.name, declared):
                yield Finding(f"container:{engine}/{container.name}", f"runs {container.image}")


def images(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    wanted = tuple(declared.names("image"))
    for engine in ("podman", "containerd"):
        if engine == "containerd" and declared.in_cluster:
            continue
        for image in facts.images(engine):
            if image.names and not any(image.matches(name) for name in wanted):
                yield Finding(f"image:{image.names[0]}", f"in the store of {engine}")


def environments(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the environments of servers and runs that no role made and that are not as pip installed them.

    Raises:
        UnknownFact: some cannot be compared; the others are yielded before.
    """
    unknown = []
    for path in facts.table("other_environments"):
        try:
            odd = facts.other_environment(path)
        except UnknownFact as reason:
            unknown.append(f"{path}: {reason}")
            continue
        if odd:
            yield Finding(f"environment:{path}", "; ".join(odd))
    if unknown:
        raise UnknownFact("; ".join(unknown))


def _is_of_cluster(engine: str, name: str, declared: HostDeclaration) -> bool:
    return engine == "containerd" and name.startswith("k8s.io/") and declared.in_cluster


RULES = (
    Rule(
        "RW-001",
        "Each package comes from the distribution, a declared archive, or a role.",
        "packages",
        "A package from elsewhere gets no security updates, and its maintainer scripts run as root.",
        f"Remove the package, declare the role that installs it, {ADMIT}",
        "apt-get(8); apt-patterns(7), ?obsolete",
        packages,
    ),
    Rule(
        "RW-002",
        "Each archive of apt is signed by a key of a package, or declared.",
        "archives",
        "The next upgrade may take any package from such an archive, in place of the distribution's.",
        f"Remove the archive from its file, declare it in a role, {ADMIT}",
        "sources.list(5), signed-by and trusted",
        archives,
    ),
    Rule(
        "RW-003",
        "Each key that apt trusts belongs to a package or a declared archive.",
        "keys of apt",
        "The owner of such a key can sign packages for this host.",
        f"Remove the key, {ADMIT}",
        "apt-secure(8); apt-key(8), DEPRECATION",
        keys,
    ),
    Rule(
        "RW-004",
        "The settings of apt are those of packages and roles.",
        "settings of apt",
        "A setting can switch off signatures, pin another version, or run a command at each upgrade.",
        f"Remove the file or restore the packaged one, {ADMIT}",
        "apt.conf(5); apt_preferences(5)",
        apt_settings,
    ),
    Rule(
        "RW-005",
        "Only declared packages are held.",
        "held packages",
        "A package that is held by hand gets no security updates.",
        f"Run `apt-mark unhold` for the package, {ADMIT}",
        "apt-mark(8)",
        undeclared_holds,
        severity="notice",
    ),
    Rule(
        "RW-006",
        "All packages of NVIDIA's driver have one version.",
        "packages of NVIDIA's driver",
        "Libraries of one version do not work with the kernel module of another.",
        "Install one version of all of them; role `nvidia_driver` does",
        "NVIDIA driver README, chapter 3; NVIDIA/ubuntu-packaging-nvidia-driver#3",
        drivers,
        severity="error",
    ),
    Rule(
        "RW-074",
        "No undeclared program takes the place of a program of the system.",
        "programs in /usr/local",
        "sudo, systemd and shells search /usr/local first: root runs this program in place of the distribution's.",
        f"Find out who installed it, and move it away, {ADMIT}",
        "sudoers(5), secure_path; systemd.exec(5), ExecSearchPath=",
        shadowing_programs,
        severity="error",
    ),
    Rule(
        "RW-158",
        "Each Python environment of a server or run that no role made is as pip installed it.",
        "other Python environments",
        "Root and the accounts of servers and runs execute every file that such an environment has.",
        f"Make it again as root with venv of /usr/bin/python3 and pip, take one of role `workloads`, {ADMIT}",
        "docs/explanation/security.md",
        environments,
    ),
    Rule(
        "RW-070",
        "Each container runs a declared image.",
        "containers",
        "An undeclared container uses GPUs, memory and ports, and gets no updates.",
        f"Remove the container, {ADMIT}",
        "podman-ps(1)",
        containers,
    ),
    Rule(
        "RW-071",
        "Each image in the store of an engine is declared.",
        "images",
        "An image by another name takes space, and may be started in place of the declared one.",
        f"Remove the image, {ADMIT}",
        "podman-images(1)",
        images,
        severity="notice",
    ),
)
