"""Rules about settings that change what programs of packages do."""

from collections.abc import Iterator

from rackwright.audit.undeclared.declaration import HostDeclaration
from rackwright.audit.undeclared.paths import files_in
from rackwright.audit.undeclared.rule import ADMIT, Finding, Rule
from rackwright.facts.facts import Facts

RIGHTS = (
    "/etc/security/limits.conf",
    "/etc/security/limits.d",
    "/etc/security/access.conf",
    "/etc/security/group.conf",
    "/etc/security/pam_env.conf",
    "/etc/polkit-1",
    "/usr/share/polkit-1/rules.d",
    "/etc/dbus-1",
    "/usr/share/dbus-1/system-services",
    "/usr/share/dbus-1/system.d",
)
"""Settings of limits, of the environment of logins, and of requests to services that run as root."""
LIBRARIES = ("/etc/ld.so.conf", "/etc/ld.so.conf.d")
ENGINES = (
    "/etc/containers",
    "/etc/docker",
    "/etc/containerd",
    "/etc/crio",
    "/etc/cni",
    "/etc/nvidia-container-runtime",
)
REGISTRY = "file:/etc/docker/registry/"
"""Beginning of the things that are settings of package docker-registry, a server of images and no engine."""
LOCK = ".lock"
"""End of the names of the empty files with which podman and CNI keep two commands from changing networks at a time."""
INSTALLERS = ("/etc/pip.conf", "/etc/xdg/pip", "/etc/conda", "/etc/npmrc")
"""Settings of installers for all accounts. Source: pip, "Configuration"; conda, "Using the .condarc file"."""
TRANSPORTS = ("/etc/nccl.conf", "/etc/openmpi", "/etc/ucx", "/etc/pmix-mca-params.conf")
"""Settings of the libraries that carry the traffic of jobs. Source: NCCL, "Environment Variables"; UCX, ucx.conf."""
AUTHORITIES = "/usr/local/share/ca-certificates/"


def rights(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    yield from files_in(facts, declared, *RIGHTS)


def libraries(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    yield from files_in(facts, declared, *LIBRARIES)


def engines(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    for finding in files_in(facts, declared, *ENGINES):
        if not finding.thing.endswith(LOCK) and not finding.thing.startswith(REGISTRY):
            yield finding


def installers(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    yield from files_in(facts, declared, *INSTALLERS)


def transports(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    yield from files_in(facts, declared, *TRANSPORTS)


def authorities(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the certificates that a person gave to update-ca-certificates; packages install theirs elsewhere."""
    if AUTHORITIES.rstrip("/") not in facts.table("directories"):
        return
    for path in facts.table("files"):
        if path.startswith(AUTHORITIES) and path.endswith(".crt") and not declared.declares_path(path):
            yield Finding(f"file:{path}", "a certificate authority that no package installed")


RULES = (
    Rule(
        "RW-063",
        "The settings in /etc/security, and those of polkit and D-Bus, are those of packages and resources.",
        "settings of limits and rights",
        "Such a file can give an account root's rights by a service, or another environment at each login.",
        f"Remove the file or restore the packaged one, {ADMIT}",
        "limits.conf(5); pam_env.conf(5); polkit(8); dbus-daemon(1)",
        rights,
    ),
    Rule(
        "RW-064",
        "Libraries come only from the directories of packages and resources.",
        "directories of libraries",
        "A library from such a directory is loaded into each program in the place of the packaged one.",
        f"Remove the file or restore the packaged one, then run `ldconfig`, {ADMIT}",
        "ld.so(8); ldconfig(8)",
        libraries,
    ),
    Rule(
        "RW-065",
        "Programs trust only the certificate authorities of packages and resources.",
        "certificate authorities",
        "The owner of such an authority can pass for any server, also for registries and object stores.",
        f"Remove the file, then run `update-ca-certificates --fresh`, {ADMIT}",
        "update-ca-certificates(8)",
        authorities,
        severity="error",
    ),
    Rule(
        "RW-072",
        "The settings of container engines are those of packages and roles.",
        "settings of container engines",
        "Such a file can allow other registries, or give each container devices and rights.",
        f"Remove the file or restore the packaged one, declare role `container_runtime`, {ADMIT}",
        "containers.conf(5); containers-registries.conf(5); Docker, dockerd",
        engines,
    ),
    Rule(
        "RW-122",
        "The settings of NCCL, UCX and MPI are those of packages and resources.",
        "settings of transports",
        "Jobs take another network card on this host than on others, and hang or fall back to TCP.",
        f"Remove the file or restore the packaged one, declare the host's `network`, {ADMIT}",
        "horovod/horovod#584, #700; NVIDIA/nccl#286",
        transports,
    ),
    Rule(
        "RW-127",
        "The settings of Python's and Node's installers are those of packages and resources.",
        "settings of installers",
        "Programs of jobs come from an index that nothing declares, or reach for the internet from an isolated rack.",
        f"Remove the file or restore the packaged one, {ADMIT}",
        "pip, Configuration; NVIDIA/gpu-operator#91, #703",
        installers,
    ),
)
