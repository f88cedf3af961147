"""What a twin remembers of one host over its starts."""

import json
from pathlib import Path
from typing import Any

from rackwright.twin.files import write


class Settings:
    """A small file, read anew at each look, since other commands change it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def port(self) -> int | None:
        """Where its SSH server is forwarded to."""
        return self._read().get("port")

    @property
    def backend(self) -> str:
        """What it was made by when it was last started."""
        return str(self._read().get("backend", "vm"))

    @property
    def pulled(self) -> list[str]:
        """Serial numbers of the drives that are out of their places."""
        return list(self._read().get("pulled", []))

    @property
    def image(self) -> str | None:
        """Directory of the image that its boot drive was made over, as a virtual machine."""
        return self._read().get("image")

    @property
    def system(self) -> str | None:
        """Directory of the root filesystem that its files lie over, as a container."""
        return self._read().get("system")

    def update(self, **values: Any) -> None:
        """Change some of the values above."""
        write(self._path, json.dumps(self._read() | values).encode())

    def _read(self) -> dict[str, Any]:
        try:
            values: dict[str, Any] = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        return values
