"""The API of Kubernetes without nodes: etcd, the API server and its controllers as processes of this computer.

Nothing runs in the pods of this API, and no scheduler places them. Controllers of clusters run as processes too.
"""

import json
import os
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml

from rackwright.facts.probe import declared_objects
from rackwright.facts.probe import kubernetes as probe
from rackwright.kinds.pods import roll_out
from rackwright.toolchain.kubernetes import programs
from tests.support.api_server import api_server
from tests.support.expect import eventually
from tests.support.log import Log
from tests.support.object_store import free_ports

START_SECONDS = 180
HOST = "127.0.0.1"


class ApiTier:
    """An API on a port of this computer, with an administrator's configuration."""

    def __init__(self, directory: Path, built: Path, kubeconfig: Path) -> None:
        """
        Args:
            built: Directory of the programs of Kubernetes.
            kubeconfig: The kubeconfig of the administrator.
        """
        self.directory, self.built, self.kubeconfig = directory, built, kubeconfig
        self.processes: list[subprocess.Popen[bytes]] = []
        self.manifests: dict[str, Any] = {}
        """The objects of controllers as they were set, by their names."""

    def start(self, name: str, *argv: object, variables: Mapping[str, str] | None = None) -> None:
        """Start a program in the background; its output goes to a file of its name."""
        with (self.directory / f"{name}.log").open("wb") as output:
            process = subprocess.Popen(
                [*map(str, argv)],
                stdout=output,
                stderr=output,
                cwd=self.directory,
                env={**os.environ, **(variables or {})},
            )
        self.processes.append(process)

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def ask(self, *arguments: str, text: str | None = None, check: bool = True) -> str:
        """Return what kubectl prints."""
        argv = [str(self.built / "kubectl"), "--kubeconfig", str(self.kubeconfig), *arguments]
        done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=120, check=False)
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(arguments[:3])}: {done.stderr.strip()}")
        return done.stdout

    def read(self, *arguments: str) -> Any:
        """Return the JSON that kubectl prints."""
        return json.loads(self.ask("get", *arguments, "--output=json"))

    def set(self, *items: Mapping[str, Any]) -> None:
        """Apply *items* as a control plane does."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        self.ask("apply", "--server-side", "--force-conflicts", "--field-manager=rackwright", "--filename=-", text=text)

    def changed_controllers(self, name: str) -> list[str]:
        """Return the objects of the controllers *name* that the probe finds otherwise than they were set."""
        with (
            patch.object(probe.API, "ask", self.ask),
            patch.object(probe, "read_manifests", lambda path: self.manifests),
        ):
            found = probe.controllers(name)["objects"]
        declared = {
            key: declared_objects.digest(declared_objects.as_declared(item, item))
            for key, item in self.manifests.items()
        }
        return [key for key, digest in declared.items() if found.get(key, {}).get("content") != digest]

    def roll_out(self, items: Iterable[Mapping[str, Any]], seconds: int) -> int:
        """Set the objects of a run or server as a control plane does, and return the status.

        Args:
            seconds: Time for the pods to get ready.
        """
        path = self.directory / "objects.json"
        path.write_text(json.dumps({"items": [*items], "ending": []}))
        with patch.object(roll_out, "KUBECTL", (str(self.built / "kubectl"), "--kubeconfig", str(self.kubeconfig))):
            return roll_out.main(str(path), str(seconds))

    def report(self, pod: str, namespace: str, address: str, restarts: int = 0) -> None:
        """Report a pod with one container as ready, as a kubelet would."""
        state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        container = {
            "name": "server",
            "image": "",
            "imageID": "",
            "ready": True,
            "restartCount": restarts,
            "state": state,
        }
        status = {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "startTime": "2026-01-01T00:00:00Z",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "containerStatuses": [container],
        }
        patch = json.dumps({"status": status})
        self.ask(
            "patch", "pod", pod, f"--namespace={namespace}", "--subresource=status", "--type=merge", "--patch", patch
        )


@contextmanager
def kubelet(tier: ApiTier, namespace: str, mount: str) -> Iterator[None]:
    """Report all pods whose first container has a *mount* of that path below a volume as ready, each of them once."""
    ended, reported = threading.Event(), dict[str, str]()

    def work() -> None:
        while not ended.wait(0.5):
            for pod in tier.read("pods", f"--namespace={namespace}")["items"]:
                uid, mounts = pod["metadata"]["uid"], pod["spec"]["containers"][0]["volumeMounts"]
                if any(each.get("subPath") == mount for each in mounts) and not pod["status"].get("podIP"):
                    address = reported.setdefault(uid, f"10.9.0.{len(reported) + 1}")
                    tier.report(pod["metadata"]["name"], namespace, address)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def api_tier(log: Log, directory: Path, more: Mapping[str, Sequence[str]] = {}) -> Iterator[ApiTier]:
    """Yield an API that answers.

    Args:
        more: Further options of etcd and kube-apiserver.
    """
    built = programs.ensure_programs(log)
    with api_server(directory, built, more) as server:
        tier = ApiTier(directory, built, server.kubeconfig)
        try:
            _start_controllers(tier)
            yield tier
        finally:
            tier.stop()


def run_controller(tier: ApiTier, name: str, program: Path, objects: list[dict[str, Any]], settings: str) -> None:
    """Set the objects of a controller, and start its *program* outside of the cluster.

    Its webhooks are on this computer, so that their service leads there, and its deployment has no pods.

    Args:
        settings: Configuration of the controller, as YAML, without the addresses of this function.
    """
    port, health = free_ports(2)
    local = []
    for item in objects:
        if item["kind"] == "Deployment":
            item = {**item, "spec": {**item["spec"], "replicas": 0}}
        elif item["kind"] == "Service" and "webhook" in item["metadata"]["name"]:
            item = {**item, "spec": {"type": "ExternalName", "externalName": "localhost"}}
        elif item["kind"].endswith("WebhookConfiguration"):
            for each in item["webhooks"]:
                each["clientConfig"]["service"]["port"] = port
        local.append(item)
    tier.set(*local)
    tier.manifests = {declared_objects.name_of(item): item for item in local if item["kind"] != "Secret"}
    certificates = tier.directory / f"{name}-certificates"
    certificates.mkdir()
    config = {
        **yaml.safe_load(settings),
        "leaderElection": {"leaderElect": False},
        "health": {"healthProbeBindAddress": f"{HOST}:{health}"},
        "metrics": {"bindAddress": "0"},
        "webhook": {"port": port, "host": HOST, "certDir": str(certificates)},
    }
    path = tier.directory / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    tier.start(name, program, f"--config={path}", variables={"KUBECONFIG": str(tier.kubeconfig)})
    _mirror_certificates(tier, name, certificates)


def _mirror_certificates(tier: ApiTier, name: str, into: Path) -> None:
    """Write the secret with the certificates of a controller into its directory, as a kubelet does with a volume."""
    import base64

    def is_there() -> bool:
        [secret] = tier.read("secrets", f"--namespace={name}-system")["items"]
        for key, value in secret.get("data", {}).items():
            (into / key).write_bytes(base64.b64decode(value))
        return bool(secret.get("data"))

    eventually(is_there, f"{name} has made its certificates", START_SECONDS)


def _start_controllers(tier: ApiTier) -> None:
    [port] = free_ports(1)
    tier.start(
        "manager", tier.built / "kube-controller-manager", f"--kubeconfig={tier.kubeconfig}", "--leader-elect=false",
        f"--service-account-private-key-file={tier.directory / 'host.key'}", f"--bind-address={HOST}",
        f"--secure-port={port}", f"--cert-dir={tier.directory / 'certificates'}", "--controllers=*,tokencleaner",
        f"--cluster-signing-cert-file={tier.directory / 'authority.crt'}",
        f"--cluster-signing-key-file={tier.directory / 'authority.key'}",
    )  # fmt: skip
    eventually(lambda: "default" in tier.ask("get", "serviceaccounts", check=False), "controllers work", START_SECONDS)
