"""Kubernetes on the host: the cluster that its kubelet has joined, and on a control plane what the API says."""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import Any

from rackwright.facts.probe.observe import ReadError, attempt, read, run_tool

KUBELET = "/etc/kubernetes/kubelet.conf"
ADMINISTRATOR = "/etc/kubernetes/admin.conf"
REQUEST_SECONDS = 20
"""Time limit of one request to the API."""


def node(root: str) -> dict[str, str] | None:
    """Return the address of the API that kubelet asks, and the digest of its authority; None if it joined no cluster.

    Raises:
        ReadError: the file of kubelet has another form than kubeadm writes.
    """
    path = root + KUBELET
    if not os.path.exists(path):
        return None
    text = read(path)
    server = re.search(r"^ *server: (\S+)$", text, re.MULTILINE)
    authority = re.search(r"^ *(?:certificate-authority-data): (\S+)$", text, re.MULTILINE)
    if not (server and authority):
        raise ReadError(f"{KUBELET} names no server with its authority")
    return {"server": server[1], "authority": hashlib.sha256(authority[1].encode()).hexdigest()}


def cluster(root: str) -> dict[str, Any] | None:
    """Return what the API of a control plane says about the cluster; None on other hosts."""
    if not os.path.exists(root + ADMINISTRATOR):
        return None
    nodes = attempt(lambda: asked("get", "nodes")["items"])
    return {
        "version": attempt(lambda: asked("version")["serverVersion"]["gitVersion"]),
        "nodes": attempt(lambda: {item["metadata"]["name"]: state(item) for item in nodes})
        if isinstance(nodes, list)
        else nodes,
    }


def asked(*arguments: str) -> Any:
    """Return the answer of the API.

    Raises:
        ReadError: kubectl is not installed, fails, or prints something else.
    """
    limit = f"--request-timeout={REQUEST_SECONDS}s"
    try:
        return json.loads(run_tool("kubectl", "--kubeconfig", ADMINISTRATOR, limit, "--output=json", *arguments))
    except ValueError:
        raise ReadError("kubectl prints no JSON") from None


def state(item: dict[str, Any]) -> dict[str, Any]:
    """Return the properties of a node that people set or need to know."""
    conditions = {each["type"]: each for each in item["status"]["conditions"]}
    ready = conditions["Ready"]
    return {
        "ready": ready["status"] == "True",
        "reason": ready.get("message", ""),
        "schedulable": not item["spec"].get("unschedulable", False),
        "version": item["status"]["nodeInfo"]["kubeletVersion"],
        "labels": dict(sorted(item["metadata"].get("labels", {}).items())),
        "taints": sorted(map(taint, item["spec"].get("taints", []))),
    }


def taint(item: dict[str, str]) -> str:
    """Return a taint as kubectl writes it."""
    value = item.get("value", "")
    return f"{item['key']}{'=' * bool(value)}{value}:{item['effect']}"
