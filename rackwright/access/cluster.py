"""Access to the API of a cluster: by a certificate for an hour through SSH to the control plane, or by its token."""

import base64
import contextlib
import getpass
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from rackwright.errors import Diagnostic, HostUnreachable, StepFailed
from rackwright.hosts.pool import Hosts
from rackwright.hosts.tunnel import Tunnel
from rackwright.schema.cluster import API_PORT
from rackwright.schema.cluster_api import ClusterApi

GROUP = "kubeadm:cluster-admins"
"""Group of the certificate. kubeadm binds it to the role cluster-admin; who removes the binding ends such access."""
VALIDITY = "1h"
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
        StepFailed: kubeadm makes no certificate there.
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
        _private_file(kubeconfig(result.stdout.decode(), tunnel.port)) as path,
    ):
        yield path


@contextlib.contextmanager
def access_by_token(name: str, api: ClusterApi, token: str) -> Iterator[Path]:
    """Yield the path of a kubeconfig with the token of the cluster *name*, which only this user can read."""
    with _private_file(token_kubeconfig(name, api, token)) as path:
        yield path


@contextlib.contextmanager
def _private_file(text: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rackwright-") as directory:
        path = Path(directory, "kubeconfig")
        path.touch(mode=0o600)
        path.write_text(text)
        yield path


def token_kubeconfig(name: str, api: ClusterApi, token: str) -> str:
    """Return a kubeconfig for the cluster *name* with its authority and *token*."""
    cluster = {"server": api.url}
    if api.ca:
        cluster["certificate-authority-data"] = base64.b64encode(api.ca.encode()).decode()
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": "rackwright", "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "rackwright"}}],
        "current-context": name,
    }
    return yaml.safe_dump(content)


def client_name() -> str:
    """Return the name of this user in the audit log of the cluster."""
    return f"rackwright:{getpass.getuser()}@{socket.gethostname()}"[:_NAME_MAX]


def kubeconfig(text: str, port: int) -> str:
    """Return the kubeconfig *text* with *port* of this computer as the address of the API."""
    content = yaml.safe_load(text)
    for cluster in content["clusters"]:
        cluster["cluster"]["server"] = f"https://127.0.0.1:{port}"
    return yaml.safe_dump(content)
