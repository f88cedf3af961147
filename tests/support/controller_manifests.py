"""The manifests of controllers, read out of the Go modules that pin them; their programs are not built."""

from pathlib import Path
from typing import Any

from rackwright.toolchain import go
from rackwright.toolchain.kubernetes_controllers import Controllers, _kustomize, manifests
from tests.support.log import Log


def read(controllers: Controllers, kubectl: Path, log: Log) -> list[dict[str, Any]]:
    """Return the objects of *controllers* as a cluster gets them."""
    found = []
    with go.hold_builder(f"{controllers.package}-manifests", log) as builder:
        for each in controllers.projects:
            builder.query("mod", "download", each.module, module=controllers.module)
            place = builder.query("list", "-m", "-f", "{{.Dir}}", each.module, module=controllers.module)
            text = _kustomize(kubectl, Path(place) / each.manifests)
            found += [*manifests.adapt(each.name, each.image, text, controllers.name)]
    return found
