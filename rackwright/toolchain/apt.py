"""What apt of this computer knows: where packages are, and how to get there."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

SUITES = {"debian-12": "bookworm"}
"""Debian's name for each system whose packages can be looked for."""
COMPONENTS = "main contrib non-free non-free-firmware"
"""All of Debian's: drivers are in non-free, and what they need in contrib."""
_DEBIAN = frozenset({"bookworm", "trixie", "forky", "sid", "stable", "testing", "oldstable"})


def mirrors(suite: str, components: str = "main") -> list[str]:
    """Return where this computer finds the packages of *suite*, as lines of sources.list(5)."""
    return sources(suite, {path.name: path.read_text() for path in _apt_files() if path.is_file()}, components)


def sources(suite: str, files: Mapping[str, str], components: str = "main") -> list[str]:
    """Return lines of sources.list(5) for *suite*, from the mirrors that this computer's apt *files* name.

    A computer that runs another system than Debian names none; then mmdebstrap takes Debian's own.
    """
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    lines = []
    for uri, found, options in _entries(files):
        base, _, suffix = found.partition("-")
        if base in _DEBIAN and suffix in ("", "updates", "security"):
            signed = options.get("signed-by", "")
            chosen = f"signed-by={signed if signed.startswith('/') else keyring}"
            trusted = " trusted=yes" if options.get("trusted") == "yes" else ""
            lines.append(f"deb [{chosen}{trusted}] {uri} {suite}{f'-{suffix}' if suffix else ''} {components}")
    return list(dict.fromkeys(lines))


def _entries(files: Mapping[str, str]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield (address, suite, options) for each binary source that has a component `main`."""
    for name, text in files.items():
        plain = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
        if name.endswith(".sources"):
            for stanza in re.split(r"\n\s*\n", plain):
                fields = {key.lower(): value.strip() for key, value in re.findall(r"(?m)^([\w-]+):(.*)$", stanza)}
                has = {key: fields.get(key, "").split() for key in ("types", "components", "uris", "suites")}
                if "deb" in has["types"] and "main" in has["components"] and fields.get("enabled") != "no":
                    yield from ((uri, suite, fields) for uri in has["uris"] for suite in has["suites"])
        else:
            for options, uri, suite, components in re.findall(
                r"(?m)^deb\s+(?:\[(.*?)\]\s+)?(\S+)\s+(\S+)\s+(.*)$", plain
            ):
                if "main" in components.split():
                    yield uri, suite, dict(word.split("=", 1) for word in options.split() if "=" in word)


def _apt_files() -> list[Path]:
    directory = Path("/etc/apt")
    return [
        directory / "sources.list",
        *sorted(directory.glob("sources.list.d/*.list")),
        *sorted(directory.glob("sources.list.d/*.sources")),
    ]


def network_settings() -> list[str]:
    """Return how this computer's apt reaches its mirrors: proxies and certificates."""
    told = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    return re.findall(r'(?m)^Acquire::https?::\S+ ".+";$', told)
