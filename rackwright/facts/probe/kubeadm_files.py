"""Files that kubeadm writes on a node: static pods, certificates, and the settings of its clients.

A static pod runs as root, and kubelet starts it from its file alone. Each value is one that kubeadm writes, or one of
the declared configuration. Source: kubernetes v1.37, cmd/kubeadm/app/phases and kubeadm's implementation details.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Iterator, NamedTuple

from rackwright.facts.probe.grammars import yaml_value
from rackwright.facts.probe.observe import ReadError, read
from rackwright.facts.probe.sources import System, lines

SETTINGS = "/etc/rackwright/kubernetes/kubeadm.yaml"
"""The declared configuration, which is a claim."""
COMPONENTS = {
    "etcd": "etcd",
    "kube-apiserver": "apiServer",
    "kube-controller-manager": "controllerManager",
    "kube-scheduler": "scheduler",
}
"""Static pods, with the names of their parts of the configuration."""
PKI = "/etc/kubernetes/pki"
ADDRESS = r"(?:[\d.]+|\[?[\da-fA-F:]+\]?)"
URL = rf"https://{ADDRESS}:\d+"
CA = rf"{PKI}/ca\.crt"
CONF = r"/etc/kubernetes/{}\.conf"
DEFAULTS: dict[str, dict[str, str]] = {
    "etcd": {
        "advertise-client-urls": URL,
        "cert-file": rf"{PKI}/etcd/server\.crt",
        "client-cert-auth": "true",
        "data-dir": "/var/lib/etcd",
        "initial-advertise-peer-urls": URL,
        "initial-cluster": rf"[\w.-]+={URL}(?:,[\w.-]+={URL})*",
        "key-file": rf"{PKI}/etcd/server\.key",
        "listen-client-urls": rf"https://(?:127\.0\.0\.1|\[::1\]):2379,{URL}",
        "listen-metrics-urls": r"http://(?:127\.0\.0\.1|\[::1\]):2381",
        "listen-peer-urls": URL,
        "name": r"[\w.-]+",
        "peer-cert-file": rf"{PKI}/etcd/peer\.crt",
        "peer-client-cert-auth": "true",
        "peer-key-file": rf"{PKI}/etcd/peer\.key",
        "peer-trusted-ca-file": rf"{PKI}/etcd/ca\.crt",
        "snapshot-count": "10000",
        "trusted-ca-file": rf"{PKI}/etcd/ca\.crt",
    },
    "kube-apiserver": {
        "advertise-address": ADDRESS,
        "allow-privileged": "true",
        "authorization-mode": "Node,RBAC",
        "client-ca-file": CA,
        "enable-admission-plugins": "NodeRestriction",
        "enable-bootstrap-token-auth": "true",
        "etcd-cafile": rf"{PKI}/etcd/ca\.crt",
        "etcd-certfile": rf"{PKI}/apiserver-etcd-client\.crt",
        "etcd-keyfile": rf"{PKI}/apiserver-etcd-client\.key",
        "etcd-servers": r"https://127\.0\.0\.1:2379",
        "kubelet-client-certificate": rf"{PKI}/apiserver-kubelet-client\.crt",
        "kubelet-client-key": rf"{PKI}/apiserver-kubelet-client\.key",
        "kubelet-preferred-address-types": "InternalIP,ExternalIP,Hostname",
        "proxy-client-cert-file": rf"{PKI}/front-proxy-client\.crt",
        "proxy-client-key-file": rf"{PKI}/front-proxy-client\.key",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-client-ca-file": rf"{PKI}/front-proxy-ca\.crt",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-username-headers": "X-Remote-User",
        "secure-port": r"\d+",
        "service-account-issuer": r"https://kubernetes\.default\.svc\.[\w.-]+",
        "service-account-key-file": rf"{PKI}/sa\.pub",
        "service-account-signing-key-file": rf"{PKI}/sa\.key",
        "service-cluster-ip-range": r"[\da-fA-F.:/,]+",
        "tls-cert-file": rf"{PKI}/apiserver\.crt",
        "tls-private-key-file": rf"{PKI}/apiserver\.key",
    },
    "kube-controller-manager": {
        "allocate-node-cidrs": "true",
        "authentication-kubeconfig": CONF.format("controller-manager"),
        "authorization-kubeconfig": CONF.format("controller-manager"),
        "bind-address": r"127\.0\.0\.1|::1",
        "client-ca-file": CA,
        "cluster-cidr": r"[\da-fA-F.:/,]+",
        "cluster-name": r"[\w.-]+",
        "cluster-signing-cert-file": CA,
        "cluster-signing-key-file": rf"{PKI}/ca\.key",
        "controllers": r"\*,bootstrapsigner,tokencleaner",
        "kubeconfig": CONF.format("controller-manager"),
        "leader-elect": "true",
        "requestheader-client-ca-file": rf"{PKI}/front-proxy-ca\.crt",
        "root-ca-file": CA,
        "service-account-private-key-file": rf"{PKI}/sa\.key",
        "service-cluster-ip-range": r"[\da-fA-F.:/,]+",
        "use-service-account-credentials": "true",
    },
    "kube-scheduler": {
        "authentication-kubeconfig": CONF.format("scheduler"),
        "authorization-kubeconfig": CONF.format("scheduler"),
        "bind-address": r"127\.0\.0\.1|::1",
        "kubeconfig": CONF.format("scheduler"),
        "leader-elect": "true",
    },
}
"""Flags that kubeadm always gives a component, with the forms of their values."""
OPTIONAL: dict[str, dict[str, str]] = {
    "etcd": {
        "experimental-initial-corrupt-check": "true",
        "experimental-watch-progress-notify-interval": "5s",
        "feature-gates": "InitialCorruptCheck=true",
        "initial-cluster-state": "existing",
        "watch-progress-notify-interval": "5s",
    },
    "kube-controller-manager": {"node-cidr-mask-size(-ipv[46])?": r"\d+"},
}
"""Flags that some versions give, or the first member alone."""
FROM_SETTINGS = {
    ("kube-apiserver", "advertise-address"): "advertiseAddress",
    ("kube-apiserver", "secure-port"): "bindPort",
    ("kube-apiserver", "service-cluster-ip-range"): "serviceSubnet",
    ("kube-controller-manager", "service-cluster-ip-range"): "serviceSubnet",
    ("kube-controller-manager", "cluster-cidr"): "podSubnet",
    ("kube-controller-manager", "cluster-name"): "clusterName",
}
"""Keys of the configuration whose values the flags have."""
AUTHORITIES = (
    "/etc/ssl/certs",
    "/etc/ca-certificates",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
)
PATHS: dict[str, dict[str, bool]] = {
    "etcd": {f"{PKI}/etcd": False, "/var/lib/etcd": False},
    "kube-apiserver": {PKI: True, **dict.fromkeys(AUTHORITIES, True)},
    "kube-controller-manager": {
        PKI: True,
        "/etc/kubernetes/controller-manager.conf": True,
        "/usr/libexec/kubernetes/kubelet-plugins/volume/exec": False,
        **dict.fromkeys(AUTHORITIES, True),
    },
    "kube-scheduler": {"/etc/kubernetes/scheduler.conf": True},
}
"""Paths of the host that a component sees at the same place, and whether it may only read them."""
NUMBER = r"\d+"
PROBE = r"spec\.containers\.0\.(?:liveness|readiness|startup)Probe\."
VALUES = (
    (r"apiVersion", "v1"),
    (r"kind", "Pod"),
    (r"metadata\.creationTimestamp", "null"),
    (r"metadata\.annotations\.kubeadm\.kubernetes\.io/[\w.-]+", rf"(?:https://)?{ADDRESS}:\d+"),
    (r"metadata\.labels\.component|metadata\.name|spec\.containers\.0\.name", "{component}"),
    (r"metadata\.labels\.tier", "control-plane"),
    (r"metadata\.namespace", "kube-system"),
    (r"spec\.containers\.0\.imagePullPolicy", "IfNotPresent"),
    (rf"{PROBE}(?:failureThreshold|initialDelaySeconds|periodSeconds|successThreshold|timeoutSeconds)", NUMBER),
    (rf"{PROBE}httpGet\.host", ADDRESS),
    (rf"{PROBE}httpGet\.path", r"/(?:livez|readyz|healthz|health[\w?=&-]*)"),
    (rf"{PROBE}httpGet\.port", r"probe-port|\d+"),
    (rf"{PROBE}httpGet\.scheme", "HTTPS?"),
    (r"spec\.containers\.0\.ports\.\d+\.containerPort", NUMBER),
    (r"spec\.containers\.0\.ports\.\d+\.(?:name|protocol)", r"probe-port|TCP"),
    (r"spec\.containers\.0\.resources\.requests\.(?:cpu|memory)", r"\d+(?:m|Mi)"),
    (r"spec\.hostNetwork", "true"),
    (r"spec\.priority", NUMBER),
    (r"spec\.priorityClassName", "system-node-critical"),
    (r"spec\.securityContext\.seccompProfile\.type", "RuntimeDefault"),
    (r"status", "{{}}"),
)
"""Forms of the other values of a static pod, by the pattern of their place."""
OF_OTHERS = re.compile(r"spec\.containers\.0\.(?:command\.\d+|image|volumeMounts\.\d+\.\w+)|spec\.volumes\.\d+\.[\w.]+")
"""Places whose values are compared apart."""
ARGUMENT = re.compile(r"\s*- \{name: ([\w-]+), value: (.*)\}")
VOLUME = re.compile(r"\s+(?:- )?(hostPath|mountPath|readOnly|pathType|name): (\S+)")
REPOSITORY = "registry.k8s.io"


class Declaration(NamedTuple):
    """The part of the configuration that is about one component."""

    arguments: dict[str, str]
    paths: dict[str, bool]
    texts: dict[str, str]
    """Values by their keys, in the whole configuration."""


def component_of(path: str) -> str:
    return path.rpartition("/")[2][: -len(".yaml")]


def is_static_pod(system: System, path: str, text: bytes) -> bool:
    """Return whether a static pod has only values that kubeadm writes from the declared configuration.

    Raises:
        ReadError: it has another one; says which.
    """
    component = component_of(path)
    declared = declaration(system, COMPONENTS[component])
    pod = yaml_value(lines(text))
    for place, value in leaves(pod):
        if not OF_OTHERS.fullmatch(place) and not has_form(component, place, value):
            raise ReadError(f"{place} is {value[:80]}")
    container = only_container(pod)
    check_command(component, container.get("command"), declared)
    check_image(component, str(container.get("image")), declared)
    check_paths(component, pod["spec"].get("volumes") or [], container.get("volumeMounts") or [], declared)
    return True


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield each text of a value with its place, such as ``spec.containers.0.name``."""
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from leaves(each, f"{place}.{key}" if place else key)
    elif isinstance(value, list) and value:
        for number, each in enumerate(value):
            yield from leaves(each, f"{place}.{number}")
    else:
        yield place, "{}" if value == {} else "[]" if value == [] else str(value)


def has_form(component: str, place: str, value: str) -> bool:
    return any(
        re.fullmatch(pattern, place) and re.fullmatch(form.format(component=re.escape(component)), value)
        if "{" in form
        else re.fullmatch(pattern, place) and re.fullmatch(form, value)
        for pattern, form in VALUES
    )


def only_container(pod: dict[str, Any]) -> dict[str, Any]:
    containers = pod["spec"].get("containers")
    if not isinstance(containers, list) or len(containers) != 1:
        raise ReadError("it has another number of containers than one")
    container: dict[str, Any] = containers[0]
    return container


def check_command(component: str, command: Any, declared: Declaration) -> None:
    """Check that the command has each flag of kubeadm and of the configuration, and no other one."""
    if not isinstance(command, list) or not command or command[0] != component:
        raise ReadError(f"its command is not {component}")
    found: dict[str, str] = {}
    for argument in command[1:]:
        flag, equals, value = str(argument).partition("=")
        if not flag.startswith("--") or not equals or flag[2:] in found:
            raise ReadError(f"argument {str(argument)[:80]}")
        found[flag[2:]] = value
    for flag, value in found.items():
        if flag in declared.arguments:
            if declared.arguments[flag] != value:
                raise ReadError(f"--{flag} is {value[:80]} instead of {declared.arguments[flag][:80]}")
            continue
        form = DEFAULTS[component].get(flag) or optional_form(component, flag)
        if form is None:
            raise ReadError(f"--{flag}={value[:80]} is no flag of kubeadm or of the configuration")
        wanted = declared.texts.get(FROM_SETTINGS.get((component, flag), ""))
        if not re.fullmatch(form, value) or (wanted is not None and wanted != value):
            raise ReadError(f"--{flag} is {value[:80]}")
    missing = [flag for flag in (*DEFAULTS[component], *declared.arguments) if flag not in found]
    expected = [flag for flag in missing if flag in declared.arguments or not is_replaced(component, flag, declared)]
    if expected:
        raise ReadError(f"it has no --{expected[0]}")


def is_replaced(component: str, flag: str, declared: Declaration) -> bool:
    """Return whether kubeadm leaves a flag out because of the configuration."""
    without = {"enable-admission-plugins", "enable-bootstrap-token-auth", "allocate-node-cidrs", "cluster-cidr"}
    return flag in without and (flag in declared.arguments or flag != "enable-admission-plugins")


def optional_form(component: str, flag: str) -> str | None:
    found = (form for name, form in OPTIONAL.get(component, {}).items() if re.fullmatch(name, flag))
    return next(found, None)


def check_image(component: str, image: str, declared: Declaration) -> None:
    """Check that the image is that of the declared version."""
    repository = declared.texts.get("imageRepository", REPOSITORY)
    tag = declared.texts.get("imageTag" if component == "etcd" else "kubernetesVersion")
    name, _, found = image.rpartition(":")
    if name != f"{repository}/{component}" or (tag is not None and tag != found) or "@" in image:
        raise ReadError(f"image {image[:120]}")


def check_paths(component: str, volumes: list[Any], mounts: list[Any], declared: Declaration) -> None:
    """Check that each volume is a path of the host that kubeadm or the configuration gives, at the same place."""
    allowed = {**PATHS[component], **declared.paths}
    paths: dict[str, str] = {}
    for volume in volumes:
        host = volume.get("hostPath") if isinstance(volume, dict) else None
        if not isinstance(host, dict) or volume.keys() != {"name", "hostPath"} or not host.keys() <= {"path", "type"}:
            raise ReadError("it has a volume of another sort than hostPath")
        if host["path"] not in allowed:
            raise ReadError(f"hostPath {str(host['path'])[:80]}")
        paths[volume["name"]] = host["path"]
    for mount in mounts:
        if not mount.keys() <= {"mountPath", "name", "readOnly"} or paths.get(mount["name"]) != mount.get("mountPath"):
            raise ReadError(f"mountPath {str(mount.get('mountPath'))[:80]}")
        if allowed[mount["mountPath"]] and mount.get("readOnly") != "true":
            raise ReadError(f"it may write {mount['mountPath']}")


def declaration(system: System, section: str) -> Declaration:
    """Return the arguments, paths and values that the declared configuration of kubeadm gives to a component."""
    if not system.exists(SETTINGS):
        raise ReadError(f"there is no {SETTINGS} to compare it with")
    arguments: dict[str, str] = {}
    volumes: list[dict[str, str]] = []
    texts: dict[str, str] = {}
    top = ""
    for line in read(system.root + SETTINGS).split("\n"):
        if match := re.fullmatch(r"(\w+):.*", line):
            top = match[1]
        value = re.fullmatch(r"\s*(\w+): \"?([^\"{\[]*)\"?", line)
        if value and (value[1] != "imageTag" or top == "etcd"):
            texts.setdefault(value[1], value[2])
        if top != section:
            continue
        if argument := ARGUMENT.fullmatch(line):
            arguments[argument[1]] = argument[2].strip('"')
        elif volume := VOLUME.fullmatch(line):
            if volume[1] == "name":
                volumes.append({})
            elif volumes:
                volumes[-1][volume[1]] = volume[2].strip('"')
    own = {each["hostPath"]: each.get("readOnly") == "true" for each in volumes if "hostPath" in each}
    return Declaration(arguments, own, texts)


# --- certificates

MASTERS, ADMINS, NODES = "system:masters", "kubeadm:cluster-admins", "system:nodes"
CERTIFICATES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "ca": ("kubernetes", ("",), "kubernetes"),
    "front-proxy-ca": ("front-proxy-ca", ("",), "front-proxy-ca"),
    "etcd/ca": ("etcd-ca", ("",), "etcd-ca"),
    "apiserver": ("kube-apiserver", ("",), "kubernetes"),
    "apiserver-kubelet-client": ("kube-apiserver-kubelet-client", ("", ADMINS, MASTERS), "kubernetes"),
    "apiserver-etcd-client": ("kube-apiserver-etcd-client", ("", MASTERS), "etcd-ca"),
    "front-proxy-client": ("front-proxy-client", ("",), "front-proxy-ca"),
    "etcd/server": ("", ("",), "etcd-ca"),
    "etcd/peer": ("", ("",), "etcd-ca"),
    "etcd/healthcheck-client": ("kube-etcd-healthcheck-client", ("", MASTERS), "etcd-ca"),
}
"""Name, groups and issuer of each certificate; an empty name is that of the node."""
CLIENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "admin": ("kubernetes-admin", (ADMINS, MASTERS)),
    "super-admin": ("kubernetes-super-admin", (MASTERS,)),
    "controller-manager": ("system:kube-controller-manager", ("",)),
    "scheduler": ("system:kube-scheduler", ("",)),
    "kubelet": ("system:node:", (NODES,)),
}
"""Name and groups of the client of each file of settings."""
OF_KUBELET = re.compile(r"/var/lib/kubelet/pki/kubelet-client-(current|[\d-]+)\.pem")
COMMON_NAME, ORGANIZATION = b"\x55\x04\x03", b"\x55\x04\x0a"
PEM = re.compile(rb"\s*-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----\s*")
SEQUENCE, SET, VERSION = 0x30, 0x31, 0xA0


class Names(NamedTuple):
    """The names in a certificate."""

    subject: str
    groups: tuple[str, ...]
    issuer: str


def names_of(pem: bytes) -> Names:
    """Return the names in a certificate.

    Raises:
        ReadError: the text is not one certificate.
    """
    match = PEM.fullmatch(pem)
    if match is None:
        raise ReadError("it is not one certificate")
    try:
        data = base64.b64decode(b"".join(match[1].split()), validate=True)
        _, certificate, _ = element(data)
        _, body, _ = element(certificate)
        kind, _, rest = element(body)
        if kind == VERSION:
            _, _, rest = element(rest)  # the serial number
        _, _, rest = element(rest)  # the algorithm
        _, issuer, rest = element(rest)
        _, _, rest = element(rest)  # the validity
        _, subject, _ = element(rest)
    except (binascii.Error, IndexError):
        raise ReadError("it is no certificate") from None
    own, issuers = attributes(subject), attributes(issuer)
    common = [value for kind, value in own if kind == COMMON_NAME]
    if len(common) != 1 or any(kind not in (COMMON_NAME, ORGANIZATION) for kind, _ in own):
        raise ReadError("its subject has other parts than a name and groups")
    return Names(
        common[0],
        tuple(sorted(value for kind, value in own if kind == ORGANIZATION)),
        ",".join(value for _, value in issuers),
    )


def element(data: bytes) -> tuple[int, bytes, bytes]:
    """Return the kind, the content and what follows of an element. Source: X.690, 8.1."""
    kind, size, start = data[0], data[1], 2
    if size & 0x80:
        count = size & 0x7F
        size, start = int.from_bytes(data[2 : 2 + count], "big"), 2 + count
    if start + size > len(data):
        raise ReadError("it is truncated")
    return kind, data[start : start + size], data[start + size :]


def attributes(name: bytes) -> list[tuple[bytes, str]]:
    """Return the parts of a name, each with its kind."""
    found = []
    while name:
        _, group, name = element(name)
        while group:
            _, pair, group = element(group)
            _, kind, value = element(pair)
            found.append((kind, element(value)[1].decode("utf-8", "replace")))
    return found


def is_certificate(system: System, path: str, text: bytes) -> bool:
    """Return whether a certificate has the name, the groups and the issuer that kubeadm gives it."""
    wanted, groups, issuer = CERTIFICATES[path[len(PKI) + 1 : -len(".crt")]]
    found = names_of(text)
    if found.issuer != issuer:
        raise ReadError(f"its issuer is {found.issuer[:80]} instead of {issuer}")
    check_subject(found, wanted or read(f"{system.root}/proc/sys/kernel/hostname"), groups)
    return True


def check_subject(found: Names, name: str, groups: tuple[str, ...]) -> None:
    if found.subject != name:
        raise ReadError(f"its name is {found.subject[:80]} instead of {name}")
    if ",".join(found.groups) not in groups:
        raise ReadError(f"it is of the group {','.join(found.groups)[:80] or 'none'}")


def is_client(system: System, path: str, text: bytes) -> bool:
    """Return whether the settings of a client of the API name one server, and a certificate of the expected client.

    Raises:
        ReadError: they have another value; says which.
    """
    name, groups = CLIENTS[path.rpartition("/")[2][: -len(".conf")]]
    found = yaml_value(lines(text))
    if found.keys() - {"preferences"} != {"apiVersion", "kind", "clusters", "contexts", "current-context", "users"}:
        raise ReadError("it has other keys than kubeadm writes")
    clusters, contexts, users = found["clusters"], found["contexts"], found["users"]
    if not len(clusters) == len(contexts) == len(users) == 1:
        raise ReadError("it has several clusters, contexts or users")
    cluster, user = clusters[0]["cluster"], users[0]["user"]
    if cluster.keys() != {"certificate-authority-data", "server"} or not re.fullmatch(
        r"https://[\w.:\[\]-]+", cluster["server"]
    ):
        raise ReadError("its cluster has other keys than a server and its authority")
    if path.endswith("/kubelet.conf") and user.keys() == {"client-certificate", "client-key"}:
        if not all(OF_KUBELET.fullmatch(value) for value in user.values()):
            raise ReadError(f"its certificate is {str(user['client-certificate'])[:80]}")
        return True
    if user.keys() != {"client-certificate-data", "client-key-data"}:
        raise ReadError(f"its user has {', '.join(sorted(user))[:80]}")
    client = names_of(decode(user["client-certificate-data"]))
    if client.issuer != "kubernetes":
        raise ReadError(f"its issuer is {client.issuer[:80]} instead of kubernetes")
    wanted = f"{name}{read(f'{system.root}/proc/sys/kernel/hostname')}" if name.endswith(":") else name
    check_subject(client, wanted, groups)
    check_authority(system, cluster["certificate-authority-data"])
    return True


def check_authority(system: System, data: str) -> None:
    """Check that a client trusts the authority of this host's cluster alone."""
    path = f"{PKI}/ca.crt"
    if system.exists(path) and decode(data).strip() != read(system.root + path).encode().strip():
        raise ReadError(f"it trusts another authority than {path}")


def decode(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise ReadError("it has a value that is no base64") from None
