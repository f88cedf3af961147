"""What the image of a server is built from: the same bytes each time, with no model in it and no secret."""

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
"""Where a container has its model, and listens."""
PACKAGES = ("python3", "python3-venv", "libgomp1")
"""Of the base's distribution; llama.cpp links the last."""
_LOCK = "workloads/opt/rackwright/workloads/serving.txt.j2"


@dataclass(frozen=True, slots=True)
class Image:
    """The definition of a server's image."""

    name: str
    files: Mapping[str, bytes]
    """By their names, all beside each other."""
    stop_seconds: int
    """How long a container may take to end: what it goes on answering, and what is under way."""
    sealed: str | None
    """Where it reads keys and certificate; None: it has neither."""

    @property
    def tag(self) -> str:
        """Its name on the computer that builds it, which follows from what it is built from."""
        told = hashlib.sha256(b"".join(self.files[name] for name in sorted(self.files)))
        return f"localhost/{self.name}:{told.hexdigest()[:16]}"


def definition(
    spec: ServerSpec, repository: Repository, base: str, requirements: str | None, python_of_base: bool
) -> dict[str, Any]:
    """Return it as one of the definitions of role container_runtime, with what a server has besides.

    Args:
        base: What it begins with, by digest.
        requirements: What it imports, with hashes; the lock of this repository if None.
        python_of_base: The base has Python and libgomp already, and nothing of its distribution is installed.
    """
    return {
        "name": spec.name,
        "base": base,
        "requirements": repository.render(_LOCK) if requirements is None else requirements,
        "app": repository.render("model_server/image/app.py.j2"),
        "packages": [] if python_of_base else list(PACKAGES),
        "health": "/ready",
        "tls": spec.tls_key is not None,
        "start_seconds": spec.ready_seconds,
    }


def problems(item: Mapping[str, Any], repository: Repository) -> Iterator[Problem]:
    """Yield what of a definition the role would refuse, too."""
    role = repository.roles["container_runtime"]
    known = role.options["container_runtime_definitions"]["options"]
    yield from refusals(role, "debian-12", {"definitions": [{key: item[key] for key in known}]})


def image(spec: ServerSpec, item: Mapping[str, Any], repository: Repository) -> Image:
    """Return the image of *spec* by its definition; it is the same for all hosts that have the same settings."""
    inside = spec.model_copy(update={"address": EVERYWHERE, "port": PORT, "canary": None})
    settings = settings_of(inside)
    del settings["own_socket"]  # no host asks it
    texts = {
        "Containerfile": repository.render("model_server/image/Containerfile.j2", item=item),
        "requirements.txt": item["requirements"],
        "app.py": item["app"],
        "settings.json": json.dumps(settings, indent=1, sort_keys=True) + "\n",
    }
    files = {name: text.encode() for name, text in texts.items()} | {"workloads.zip": repository.workloads}
    return Image(spec.name, files, spec.stop_seconds, spec.etc if spec.keys or spec.tls_key else None)
