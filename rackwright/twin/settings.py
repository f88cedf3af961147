"""The settings of one host that a twin keeps over starts."""

import json
from pathlib import Path
from typing import Any

from rackwright.files import write_atomic


class TwinSettings:
    """A small file of settings, which each property reads again, since other commands change the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def port(self) -> int | None:
        """Port of this computer that is forwarded to the host's SSH server."""
        return self._read().get("port")

    @property
    def backend(self) -> str:
        """Name of the backend that made the host at its last start."""
        return str(self._read().get("backend", "vm"))

    @property
    def pulled_drives(self) -> list[str]:
        """Serial numbers of the drives that are pulled out of their places."""
        return list(self._read().get("pulled", []))

    @property
    def image(self) -> str | None:
        """Directory of the image below the boot drive of a virtual machine."""
        return self._read().get("image")

    @property
    def system(self) -> str | None:
        """Directory of the root filesystem below the changes of a container."""
        return self._read().get("system")

    @property
    def has_disks(self) -> bool:
        """Whether the host has been started since it was new."""
        return self.image is not None or self.system is not None

    @property
    def sources(self) -> list[str] | None:
        """Package sources that the first boot of the present disks wrote; None if unknown."""
        return self._read().get("sources")

    def update(self, **values: Any) -> None:
        """Change some of the keys of the file."""
        write_atomic(self._path, json.dumps(self._read() | values).encode())

    def _read(self) -> dict[str, Any]:
        try:
            values: dict[str, Any] = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        return values
