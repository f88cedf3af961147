"""Devices in CDI specifications, and container images."""

from __future__ import annotations

import json
import os
import re
import stat
from typing import Any, Iterator

from rackwright.facts.probe.observe import ReadError, attempt, listing, read, run_tool, unknown_value

FOLDERS = ("/etc/cdi", "/run/cdi")
"""Folders from which every engine reads specifications. Source: CDI's SPEC.md, "CDI Registry"; /var/run is /run."""
KIND = re.compile(r"^[\"']?kind[\"']?:\s*[\"']?([^\s\"']+)", re.M)
PODMAN = "/var/lib/containers/storage"
DOCKER = "/var/lib/docker/containers"
CONTAINERD = "/run/containerd/containerd.sock"
DIGEST = re.compile(r"sha\d+:[0-9a-f]{64,128}")
MANIFEST = "manifest-"
"""Prefix of podman's keys for the manifests of an image: its own, and the list that it came from."""


def cdi(root: str) -> list[dict[str, Any]]:
    """Return every specification with its kind, its devices, and the files and devices that the host lacks."""
    rows = []
    for folder in FOLDERS:
        for name in listing(root + folder):
            if name.endswith((".json", ".yaml")):
                path = f"{folder}/{name}"
                row = attempt(specification, root, path)
                rows.append({"path": path, **(dict.fromkeys(KEYS, row) if "unknown" in row else row)})
    return rows


KEYS = ("kind", "devices", "missing_files", "missing_devices")


def specification(root: str, path: str) -> dict[str, Any]:
    text = read(root + path)
    try:
        spec = json.loads(text)
    except ValueError:  # Python's standard library has no YAML parser
        kind, reason = KIND.search(text), unknown_value(f"{path} is YAML; the probe reads only its kind")
        return {**dict.fromkeys(KEYS, reason), "kind": kind[1] if kind else reason}
    edits = [part.get("containerEdits", {}) for part in (spec, *spec["devices"])]
    return {
        "kind": spec["kind"],
        "devices": [device["name"] for device in spec["devices"]],
        "missing_files": sorted({path for edit in edits for path in files(edit) if not os.path.exists(root + path)}),
        "missing_devices": sorted({path for edit in edits for path in missing_devices(root, edit)}),
    }


def files(edit: dict[str, Any]) -> Iterator[str]:
    for mount in edit.get("mounts", ()):
        yield mount["hostPath"]
    for hook in edit.get("hooks", ()):
        yield hook["path"]


def missing_devices(root: str, edit: dict[str, Any]) -> Iterator[str]:
    """Yield the missing device nodes, and the missing names in /dev/char of existing nodes.

    systemd resolves a device number by that name; without the name, a container loses the device.
    Source: NVIDIA/nvidia-container-toolkit#48
    """
    for node in edit.get("deviceNodes", ()):
        path = node.get("hostPath") or node["path"]
        try:
            status = os.stat(root + path)
        except FileNotFoundError:
            yield path
            continue
        name = f"/dev/char/{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        if stat.S_ISCHR(status.st_mode) and not os.path.lexists(root + name):
            yield name


def images(root: str) -> dict[str, Any]:
    """Return the images of each engine, each with its names and digests."""
    return {"podman": attempt(podman_images, root), "containerd": attempt(containerd_images, root)}


def podman_images(root: str) -> list[dict[str, Any]]:
    """Return root's images from podman's files, because podman itself would create missing storage."""
    rows = []
    for folder in listing(root + PODMAN, "*-images"):
        path = f"{root}{PODMAN}/{folder}/images.json"
        for image in json.loads(read(path)) if os.path.exists(path) else ():
            manifests = [
                key[len(MANIFEST) :] for key in image.get("big-data-digests") or {} if key.startswith(MANIFEST)
            ]
            digests = {image.get("digest", ""), *manifests} - {""}
            rows.append({"names": image.get("names") or [], "digests": sorted(digests)})
    return rows


def containerd_images(root: str) -> list[dict[str, Any]]:
    """Return the images in all namespaces of containerd; empty if it does not run."""
    if not os.path.exists(root + CONTAINERD):
        return []
    return [
        {"names": [name], "digests": [digest]}
        for namespace, *_ in table("NAME", "ctr", "namespaces", "list")
        for name, _, digest, *_ in table("REF", "ctr", "--namespace", namespace, "images", "list")
    ]


def table(heading: str, *argv: str) -> list[list[str]]:
    """Return the rows of a table that a command prints; *heading* is the title of its first column.

    An empty table has its headings, so an output without headings is refused.
    """
    output = run_tool(*argv)
    headings, *rows = [line.split() for line in output.splitlines()] or [[]]
    if headings[:1] != [heading] or not output.endswith("\n"):
        raise ReadError(f"the output of {argv[0]} is not its table, or incomplete")
    if heading == "REF" and not all(len(row) > 2 and DIGEST.fullmatch(row[2]) for row in rows):
        raise ReadError(f"{argv[0]} prints an image without its digest")
    return rows


def containers(root: str) -> dict[str, Any]:
    """Return the containers of each engine, running or not, each with its name and its image."""
    return {
        "podman": attempt(podman_containers, root),
        "docker": attempt(docker_containers, root),
        "containerd": attempt(containerd_containers, root),
    }


def podman_containers(root: str) -> list[dict[str, str]]:
    """Return root's containers from podman's files; an image has its name, or its id if it has no name."""
    names = {}
    for folder in listing(root + PODMAN, "*-images"):
        path = f"{root}{PODMAN}/{folder}/images.json"
        for image in json.loads(read(path)) if os.path.exists(path) else ():
            names[image["id"]] = (image.get("names") or [image["id"]])[0]
    rows = []
    for folder in listing(root + PODMAN, "*-containers"):
        path = f"{root}{PODMAN}/{folder}/containers.json"
        for container in json.loads(read(path)) if os.path.exists(path) else ():
            image = container.get("image", "")
            rows.append({"name": (container.get("names") or [container["id"]])[0], "image": names.get(image, image)})
    return rows


def docker_containers(root: str) -> list[dict[str, str]]:
    rows = []
    for folder in listing(root + DOCKER):
        path = f"{root}{DOCKER}/{folder}/config.v2.json"
        if os.path.exists(path):
            config = json.loads(read(path))
            rows.append({"name": config["Name"].lstrip("/"), "image": config.get("Config", {}).get("Image", "")})
    return rows


def containerd_containers(root: str) -> list[dict[str, str]]:
    """Return the containers in all namespaces of containerd, as ``namespace/id``; empty if it does not run."""
    if not os.path.exists(root + CONTAINERD):
        return []
    return [
        {"name": f"{namespace}/{row[0]}", "image": row[1] if len(row) > 1 else ""}
        for namespace, *_ in table("NAME", "ctr", "namespaces", "list")
        for row in table("CONTAINER", "ctr", "--namespace", namespace, "containers", "list")
    ]
