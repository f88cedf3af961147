"""What a twin remembers of one machine over its starts."""

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
    def pulled(self) -> list[str]:
        """Serial numbers of the drives that are out of their places."""
        return list(self._read().get("pulled", []))

    @property
    def image(self) -> str | None:
        """Directory of the image that its boot drive was made over."""
        return self._read().get("image")

    def update(self, **values: Any) -> None:
        """Change some of the values above."""
        write(self._path, json.dumps(self._read() | values).encode())

    def _read(self) -> dict[str, Any]:
        try:
            values: dict[str, Any] = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        return values
