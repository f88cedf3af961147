"""What containers are given: the devices that CDI specifications name, and the images that are here."""

from __future__ import annotations

import json
import os
import re
import stat
from typing import Any, Iterator

from rackwright.facts.probe.observe import ReadError, attempt, listing, read, tool, unknown

FOLDERS = ("/etc/cdi", "/run/cdi")
"""Of specifications, where every engine looks. Source: CDI's SPEC.md, "CDI Registry", /var/run being /run."""
KIND = re.compile(r"^[\"']?kind[\"']?:\s*[\"']?([^\s\"']+)", re.M)
PODMAN = "/var/lib/containers/storage"
CONTAINERD = "/run/containerd/containerd.sock"
DIGEST = re.compile(r"sha\d+:[0-9a-f]{64,128}")
MANIFEST = "manifest-"
"""How podman calls each manifest that it keeps with an image: that of the image, and that of the list it is from."""


def cdi(root: str) -> list[dict[str, Any]]:
    """Return every specification: what it is of, which devices it names, and what of the host it names in vain."""
    found = []
    for folder in FOLDERS:
        for name in listing(root + folder):
            if name.endswith((".json", ".yaml")):
                path = f"{folder}/{name}"
                told = attempt(specification, root, path)
                found.append({"path": path, **(dict.fromkeys(KEYS, told) if "unknown" in told else told)})
    return found


KEYS = ("kind", "devices", "missing_files", "missing_devices")


def specification(root: str, path: str) -> dict[str, Any]:
    text = read(root + path)
    try:
        spec = json.loads(text)
    except ValueError:  # Python's library reads no YAML
        kind, other = KIND.search(text), unknown(f"{path} is YAML, of which only the kind is read")
        return {**dict.fromkeys(KEYS, other), "kind": kind[1] if kind else other}
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
    """Yield the nodes that are not there, and for those that are the name without which a container loses them.

    By that name systemd finds a device that it was told of by number. Source: NVIDIA/nvidia-container-toolkit#48
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
    """Return by engine the images that it has, each with its names and digests."""
    return {"podman": attempt(podman_images, root), "containerd": attempt(containerd_images, root)}


def podman_images(root: str) -> list[dict[str, Any]]:
    """Return root's images; podman itself would create its storage where there is none."""
    found = []
    for folder in listing(root + PODMAN, "*-images"):
        path = f"{root}{PODMAN}/{folder}/images.json"
        for image in json.loads(read(path)) if os.path.exists(path) else ():
            kept = [key[len(MANIFEST) :] for key in image.get("big-data-digests") or {} if key.startswith(MANIFEST)]
            digests = {image.get("digest", ""), *kept} - {""}
            found.append({"names": image.get("names") or [], "digests": sorted(digests)})
    return found


def containerd_images(root: str) -> list[dict[str, Any]]:
    """Return the images of all its namespaces."""
    if not os.path.exists(root + CONTAINERD):
        return []
    return [
        {"names": [name], "digests": [digest]}
        for namespace, *_ in table("NAME", "ctr", "namespaces", "list")
        for name, _, digest, *_ in table("REF", "ctr", "--namespace", namespace, "images", "list")
    ]


def table(first: str, *argv: str) -> list[list[str]]:
    """Return the rows of a table that a command prints, whose first column is called *first*.

    A table without rows has its headings: a command that prints nothing has not answered.
    """
    printed = tool(*argv)
    heads, *rows = [line.split() for line in printed.splitlines()] or [[]]
    if heads[:1] != [first] or not printed.endswith("\n"):
        raise ReadError(f"what {argv[0]} prints is not its table, or not all of it")
    if first == "REF" and not all(len(row) > 2 and DIGEST.fullmatch(row[2]) for row in rows):
        raise ReadError(f"{argv[0]} prints an image without its digest")
    return rows
