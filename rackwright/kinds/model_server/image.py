"""The build context of a server's image: reproducible bytes, without model and secrets."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rackwright.core.repository import Repository
from rackwright.kinds.model_server.files import settings_of
from rackwright.kinds.model_server.spec import ServerSpec
from rackwright.kinds.role.refusals import refusals
from rackwright.schema.problem import Problem
from rackwright.schema.server import EVERYWHERE

MODEL, PORT = "/model", 8080
"""The path of the model in a container, and the port on which it listens."""
PACKAGES = ("python3", "python3-venv", "libgomp1")
"""Packages from the distribution of the base image; llama.cpp links the last."""
_LOCK = "workloads/opt/rackwright/workloads/serving.txt.j2"


@dataclass(frozen=True, slots=True)
class ServerImage:
    """The definition of a server's image."""

    name: str
    files: Mapping[str, bytes]
    """The files of the build context by name, in one directory."""
    stop_seconds: int
    """Seconds that a container may take to stop: it completes running requests first."""
    secrets_directory: str | None
    """The directory from which a container reads keys and certificate; None: it has neither."""

    @property
    def tag(self) -> str:
        """The tag on the computer that builds the image: it follows from the build context."""
        digest = hashlib.sha256(b"".join(self.files[name] for name in sorted(self.files)))
        return f"localhost/{self.name}:{digest.hexdigest()[:16]}"


def definition(
    spec: ServerSpec, repository: Repository, base: str, requirements: str | None, python_of_base: bool
) -> dict[str, Any]:
    """Return the image as a definition of role container_runtime, with the additional keys of a server.

    Args:
        base: The base image, by digest.
        requirements: The Python requirements, with hashes; None: the lock of this repository.
        python_of_base: Whether the base already has Python and libgomp, so that no packages are installed.
    """
    return {
        "name": spec.name,
        "base": base,
        "requirements": repository.render(_LOCK) if requirements is None else requirements,
        "app": repository.render("model_server/image/app.py.j2"),
        "packages": [] if python_of_base else list(PACKAGES),
        "health": "/ready",
        "tls": spec.declared.tls is not None,
        "start_seconds": spec.declared.ready_seconds,
    }


def problems(item: Mapping[str, Any], repository: Repository) -> Iterator[Problem]:
    """Yield the problems for which the role would also refuse the definition."""
    role = repository.roles["container_runtime"]
    keys = role.options["container_runtime_definitions"]["options"]
    yield from refusals(role, "debian-12", {"definitions": [{key: item[key] for key in keys}]})


def image(spec: ServerSpec, item: Mapping[str, Any], repository: Repository) -> ServerImage:
    """Return the image of *spec* by its definition *item*; hosts with equal settings have equal images."""
    declared = spec.declared.model_copy(update={"port": PORT, "canary": None})
    inside = spec.model_copy(update={"address": EVERYWHERE, "declared": declared})
    settings = settings_of(inside)
    del settings["own_socket"]  # no host queries the container over it
    settings.pop("quota_counts", None)  # a container has no directory that outlives it
    texts = {
        "Containerfile": repository.render("model_server/image/Containerfile.j2", item=item),
        "requirements.txt": item["requirements"],
        "app.py": item["app"],
        "settings.json": json.dumps(settings, indent=1, sort_keys=True) + "\n",
    }
    files = {name: text.encode() for name, text in texts.items()} | {"workloads.zip": repository.workloads}
    return ServerImage(spec.name, files, spec.stop_seconds, spec.etc if spec.keys or spec.declared.tls else None)
