"""Access to the API of a cluster: by a certificate for an hour through SSH to the control plane, or by its token."""

import base64
import contextlib
import getpass
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from rackwright import scratch
from rackwright.errors import Diagnostic, HostUnreachable, StepFailed
from rackwright.hosts.pool import Hosts
from rackwright.hosts.tunnel import Tunnel
from rackwright.schema.cluster import API_PORT
from rackwright.schema.cluster_api import ClusterApi

GROUP = "kubeadm:cluster-admins"
"""Group of the certificate. kubeadm binds it to the role cluster-admin; who removes the binding ends such access."""
VALIDITY = "1h"
_ANSWER_BYTES = 64 << 10
_NAME_MAX = 64
"""Maximum length of a common name. Source: RFC 5280, ub-common-name."""


def first_reachable(hosts: Hosts, control_planes: Sequence[str]) -> str:
    """Return the first of *control_planes* that answers.

    Raises:
        HostUnreachable: None of them answers; the error is that of the first.
    """
    errors: list[HostUnreachable] = []
    for plane in control_planes:
        try:
            hosts.connection(plane)
        except HostUnreachable as error:
            errors.append(error)
        else:
            return plane
    raise errors[0]


@contextlib.contextmanager
def access(hosts: Hosts, control_plane: str) -> Iterator[Path]:
    """Yield the path of a kubeconfig that only this user can read, and that reaches the API until the end.

    Raises:
        HostUnreachable: the control plane does not answer.
        StepFailed: kubeadm makes no certificate there, or the answer is none.
    """
    connection = hosts.connection(control_plane)
    argv = ("kubeadm", "kubeconfig", "user", "--client-name", client_name(), "--org", GROUP)
    result = connection.run((*argv, "--validity-period", VALIDITY))
    if result.status:
        last = result.stderr.strip().splitlines()[-1:] or ["nothing"]
        problem = f'kubeadm makes no certificate: it ended with status {result.status}, and printed "{last[0]}"'
        help = "Run `rackwright up` first, which makes the cluster"
        raise StepFailed(Diagnostic(control_plane, problem, help=help))
    with (
        Tunnel(lambda: connection.forward("127.0.0.1", API_PORT)) as tunnel,
        _private_file(kubeconfig(result.stdout, control_plane, tunnel.port)) as path,
    ):
        yield path


@contextlib.contextmanager
def access_by_token(name: str, api: ClusterApi, token: str) -> Iterator[Path]:
    """Yield the path of a kubeconfig with the token of the cluster *name*, which only this user can read."""
    with _private_file(token_kubeconfig(name, api, token)) as path:
        yield path


@contextlib.contextmanager
def _private_file(text: str) -> Iterator[Path]:
    with scratch.directory() as directory:
        path = directory / "kubeconfig"
        path.touch(mode=0o600)
        path.write_text(text)
        yield path


def token_kubeconfig(name: str, api: ClusterApi, token: str) -> str:
    """Return a kubeconfig for the cluster *name* with its authority and *token*."""
    cluster = {"server": api.url}
    if api.ca:
        cluster["certificate-authority-data"] = base64.b64encode(api.ca.encode()).decode()
    return _kubeconfig(name, cluster, {"token": token})


def client_name() -> str:
    """Return the name of this user in the audit log of the cluster."""
    return f"rackwright:{getpass.getuser()}@{socket.gethostname()}"[:_NAME_MAX]


def kubeconfig(answer: bytes, control_plane: str, port: int) -> str:
    """Return a kubeconfig with the certificates and the key of *answer*, for *port* of this computer.

    kubectl starts programs and sends files that a kubeconfig names. It is therefore made here, and of the answer of the
    host come three values alone.

    Args:
        answer: The kubeconfig that kubeadm printed on the host *control_plane*.

    Raises:
        StepFailed: a value is missing, is there twice, or is not what it should be.
    """
    cluster = {"server": f"https://127.0.0.1:{port}"}
    user: dict[str, str] = {}
    for name, kind, place in (
        ("certificate-authority-data", "CERTIFICATE", cluster),
        ("client-certificate-data", "CERTIFICATE", user),
        ("client-key-data", "(?:RSA |EC )?PRIVATE KEY", user),
    ):
        found = re.findall(rb"^ +%b: ([A-Za-z0-9+/=]+)$" % name.encode(), answer[:_ANSWER_BYTES], re.MULTILINE)
        text = _decode(found[0]) if len(found) == 1 else ""
        if not re.fullmatch(rf"(-----BEGIN {kind}-----\n[A-Za-z0-9+/=\n]+-----END {kind}-----\n*)+", text):
            problem = f"the kubeconfig of the host has no valid {name}"
            help = "Run `kubeadm kubeconfig user --client-name test` there: it prints one of each"
            raise StepFailed(Diagnostic(control_plane, problem, help=help))
        place[name] = base64.b64encode(text.encode()).decode()
    return _kubeconfig("cluster", cluster, user)


def _decode(value: bytes) -> str:
    try:
        return base64.b64decode(value, validate=True).decode("ascii")
    except ValueError:
        return ""


def _kubeconfig(name: str, cluster: Mapping[str, str], user: Mapping[str, str]) -> str:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": dict(cluster)}],
        "users": [{"name": "rackwright", "user": dict(user)}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "rackwright"}}],
        "current-context": name,
    }
    return yaml.safe_dump(content)
