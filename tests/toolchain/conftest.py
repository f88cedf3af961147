"""A computer with nothing on it but what a test puts there: an empty cache and a PATH of fakes."""

from pathlib import Path

import pytest

from rackwright.toolchain import pins
from rackwright.toolchain.sources import PROGRAMS

FAKE_GO = """\
#!/bin/sh
case "$1 $2" in
"env GOVERSION") echo go1.26.0; exit ;;
list*) echo {modules}; exit ;;
esac
echo built >>{calls}
[ -e "$GOCACHE/begun" ] && echo resumed >>{calls}
mkdir -p "$GOCACHE" && touch "$GOCACHE/begun"
{before}
for word; do case $word in -o=*) into=${{word#-o=}} ;; esac; done
mkdir -p "$into"
for word; do
    case $word in build | -*) continue ;; esac
    printf '#!/bin/sh\\necho %s\\n' {version} >"$into/${{word##*/}}"
    chmod +x "$into/${{word##*/}}"
done
"""


class Computer:
    """What ensure() sees of a computer: PATH and the cache."""

    def __init__(self, root: Path) -> None:
        self.programs, self.cache, self.calls = root / "programs", root / "cache", root / "calls"
        self.environment = {"PATH": f"{self.programs}:/usr/bin:/bin", "RACKWRIGHT_CACHE": str(self.cache)}
        self.programs.mkdir()
        scripts = root / "modules" / "python" / "cmd"
        scripts.mkdir(parents=True)
        (scripts / PROGRAMS[2]).touch()
        self.modules = root / "modules"

    def put_pulumi(self, version: str, programs: tuple[str, ...] = PROGRAMS) -> None:
        for name in programs:
            self._put(name, f"#!/bin/sh\necho {version}\n")

    def put_go(self, before: str = "", version: str = pins.CLI) -> None:
        """Put a go there that builds programs of *version* and does *before* first."""
        self._put("go", FAKE_GO.format(before=before, version=version, modules=self.modules, calls=self.calls))

    @property
    def builds(self) -> list[str]:
        return self.calls.read_text().split() if self.calls.exists() else []

    def _put(self, name: str, script: str) -> None:
        (self.programs / name).write_text(script)
        (self.programs / name).chmod(0o755)


@pytest.fixture
def computer(tmp_path, monkeypatch):
    """An empty computer on which no archive can be had."""
    computer = Computer(tmp_path)
    for name, value in computer.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("GOCACHE", "GOMODCACHE", "GOFLAGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pins, "RELEASE_SHA256", {})
    return computer
