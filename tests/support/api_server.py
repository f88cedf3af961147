"""A real API server of Kubernetes with etcd on loopback, without controllers and nodes that run."""

import contextlib
import json
import secrets
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from ssl import create_default_context
from typing import Any

from rackwright.kinds.cluster.cluster import ADMISSION_PLUGINS
from rackwright.toolchain.kubernetes import pins
from tests.support.log import ROOT
from tests.support.object_store import certificates, free_ports

ADMISSION_CONFIG = "roles/kubernetes_control_plane/templates/etc/rackwright/kubernetes/admission.yaml.j2"
"""The settings of admission plugins. The template has no values but in a comment."""
READY_SECONDS = 180
NODE_KIND = {"apiVersion": "v1", "kind": "Node"}


@dataclass(frozen=True)
class ApiServer:
    """A running API server."""

    url: str
    authority: str
    """The certificate of the authority that signed the server's certificate, in PEM."""
    programs: Path
    kubeconfig: Path
    """The kubeconfig of the administrator."""

    def kubectl(self, *arguments: str, input: str | None = None) -> str:
        """Return what kubectl prints for the administrator."""
        argv = (str(self.programs / "kubectl"), "--kubeconfig", str(self.kubeconfig), *arguments)
        done = subprocess.run(argv, input=input, capture_output=True, text=True)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def apply(self, *items: Any) -> None:
        """Set objects."""
        self.kubectl("apply", "--filename=-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))

    def add_node(self, name: str, labels: dict[str, str], taints: Sequence[dict[str, str]] = ()) -> None:
        """Register a node that reports to be ready, as a kubelet does."""
        self.apply({**NODE_KIND, "metadata": {"name": name, "labels": labels}, "spec": {"taints": list(taints)}})
        condition = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is ready"}
        status = {"conditions": [condition], "nodeInfo": {"kubeletVersion": f"v{pins.KUBERNETES}"}}
        patch = json.dumps({"status": status})
        self.kubectl("patch", "node", name, "--subresource=status", "--type=merge", f"--patch={patch}")

    def token(self, account: str, resources: Sequence[str] = ()) -> str:
        """Return a token for an hour of a new account that may list *resources*, written as GROUP/RESOURCE."""
        self.kubectl("create", "serviceaccount", account, "--namespace=kube-system")
        if resources:
            rules = [
                {"apiGroups": [group], "resources": [name], "verbs": ["list"]}
                for group, _, name in (each.rpartition("/") for each in resources)
            ]
            rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": account}}
            role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": account}
            subject = {"kind": "ServiceAccount", "name": account, "namespace": "kube-system"}
            self.apply(
                {**rbac, "kind": "ClusterRole", "rules": rules},
                {**rbac, "kind": "ClusterRoleBinding", "roleRef": role, "subjects": [subject]},
            )
        return self.kubectl("create", "token", account, "--namespace=kube-system", "--duration=1h").strip()


@contextlib.contextmanager
def api_server(directory: Path, programs: Path, more: Mapping[str, Sequence[str]] = {}) -> Iterator[ApiServer]:
    """Run etcd and an API server of *programs* with their data in *directory*; both end with the block.

    Args:
        more: Further options, by the name of the program.
    """
    pem = certificates(directory, ["127.0.0.1"])
    token = secrets.token_hex(16)
    (directory / "tokens.csv").write_text(f"{token},administrator,administrator,system:masters\n")
    etcd_port, peer_port, port = free_ports(3)
    url = f"https://127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:
        for name, arguments in {
            "etcd": _etcd(directory, etcd_port, peer_port),
            "kube-apiserver": _kube_apiserver(directory, port, etcd_port),
        }.items():
            log = stack.enter_context((directory / f"{name}.log").open("wb"))
            argv = [programs / name, *arguments, *more.get(name, ())]
            process = subprocess.Popen(argv, stdout=log, stderr=log, cwd=directory)
            stack.callback(process.wait)
            stack.callback(process.kill)
        _wait(process, url, token, pem["authority.crt"])
        kubeconfig = directory / "kubeconfig"
        _write_kubeconfig(kubeconfig, url, directory / "authority.crt", token)
        yield ApiServer(url, pem["authority.crt"], programs, kubeconfig)


def _etcd(directory: Path, port: int, peer_port: int) -> list[str]:
    client, peer = (f"http://127.0.0.1:{each}" for each in (port, peer_port))
    return [
        *("--data-dir", str(directory / "etcd"), "--listen-client-urls", client, "--advertise-client-urls", client),
        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"),
        "--unsafe-no-fsync",
    ]


def _kube_apiserver(directory: Path, port: int, etcd_port: int) -> list[str]:
    key = str(directory / "host.key")
    options = {
        "etcd-servers": f"http://127.0.0.1:{etcd_port}",
        "bind-address": "127.0.0.1",
        "advertise-address": "192.0.2.1",  # a loopback address is refused, and nothing uses this one
        "endpoint-reconciler-type": "none",
        "secure-port": str(port),
        "tls-cert-file": str(directory / "host.crt"),
        "tls-private-key-file": key,
        "token-auth-file": str(directory / "tokens.csv"),
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-account-signing-key-file": key,
        "service-account-key-file": str(directory / "host.crt"),
        "service-cluster-ip-range": "10.96.0.0/16",
        "authorization-mode": "Node,RBAC",
        "client-ca-file": str(directory / "authority.crt"),
        "enable-bootstrap-token-auth": "true",
        "allow-privileged": "true",  # as kubeadm sets it: admission decides by namespace
        "admission-control-config-file": str(ROOT / ADMISSION_CONFIG),
        "enable-admission-plugins": ",".join(ADMISSION_PLUGINS),
    }
    return [f"--{name}={value}" for name, value in options.items()]


def _wait(process: "subprocess.Popen[bytes]", url: str, token: str, authority: str) -> None:
    request = urllib.request.Request(f"{url}/readyz", headers={"Authorization": f"Bearer {token}"})
    end = time.monotonic() + READY_SECONDS
    while True:
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(request, timeout=5, context=create_default_context(cadata=authority)).close()
            return
        assert process.poll() is None and time.monotonic() < end, (
            "the API server is not ready; look at kube-apiserver.log"
        )
        time.sleep(0.3)


def _write_kubeconfig(path: Path, url: str, authority: Path, token: str) -> None:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "api", "cluster": {"server": url, "certificate-authority": str(authority)}}],
        "users": [{"name": "administrator", "user": {"token": token}}],
        "contexts": [{"name": "api", "context": {"cluster": "api", "user": "administrator"}}],
        "current-context": "api",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(content))
