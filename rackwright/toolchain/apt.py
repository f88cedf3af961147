"""Read the mirrors and the network settings from the configuration of apt on this computer."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

SUITES = {"debian-12": "bookworm"}
"""Debian's suite of each system with packages that rackwright can resolve."""
COMPONENTS = "main contrib non-free non-free-firmware"
"""All components of Debian: drivers are in non-free, and some of their dependencies in contrib."""
_DEBIAN = frozenset({"bookworm", "trixie", "forky", "sid", "stable", "testing", "oldstable"})


def mirrors(suite: str, components: str = "main") -> list[str]:
    """Return the mirrors of this computer for *suite*, as lines of sources.list(5)."""
    return sources(suite, {path.name: path.read_text() for path in _apt_files() if path.is_file()}, components)


def sources(suite: str, files: Mapping[str, str], components: str = "main") -> list[str]:
    """Return lines of sources.list(5) for *suite*, with the mirrors in the apt configuration *files* of this computer.

    The result is empty on a system other than Debian; mmdebstrap then uses Debian's own mirrors.
    """
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    lines = []
    for uri, source_suite, options in _entries(files):
        base, _, suffix = source_suite.partition("-")
        if base in _DEBIAN and suffix in ("", "updates", "security"):
            key = options.get("signed-by", "")
            signed_by = f"signed-by={key if key.startswith('/') else keyring}"
            trusted = " trusted=yes" if options.get("trusted") == "yes" else ""
            lines.append(f"deb [{signed_by}{trusted}] {uri} {suite}{f'-{suffix}' if suffix else ''} {components}")
    return list(dict.fromkeys(lines))


def _entries(files: Mapping[str, str]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield address, suite and options of each source of binary packages with the component `main`."""
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
    """Return the apt settings of this computer for its mirrors: proxies and certificates."""
    settings = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    return re.findall(r'(?m)^Acquire::https?::\S+ ".+";$', settings)
