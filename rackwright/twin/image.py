"""The disk, kernel and initrd that every guest boots from: made once from the files in `guest/`, kept by content."""

import hashlib
import lzma
import os
import re
import shlex
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rackwright.errors import SetupError
from rackwright.toolchain.cache import directory as cache_directory
from rackwright.toolchain.cache import filling, locked

Say = Callable[[str], None]

SUITES = {"debian-12": "bookworm"}
"""Debian's name for each system a guest may have."""
PACKAGES = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "newuidmap": "uidmap",
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
}
"""The programs a twin needs on this computer, and Debian's packages of them; root needs no `newuidmap`."""

_GUEST = Path(__file__).parent / "guest"
_DEBIAN = frozenset({"bookworm", "trixie", "forky", "sid", "stable", "testing", "oldstable"})
_OPTIONS = (
    *("--variant=minbase", "--format=tar", "--dpkgopt=force-unsafe-io"),
    *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale")),
)
_PUBLIC_SOURCES = (("http://deb.debian.org/debian", ""), ("http://security.debian.org/debian-security", "-security"))


@dataclass(frozen=True, slots=True)
class Image:
    """A directory with `root.img`, `vmlinux`, `initrd`, and `manifest`: the versions of the packages inside."""

    directory: Path

    @property
    def root(self) -> Path:
        return self.directory / "root.img"


def require(*programs: str) -> None:
    """Raise SetupError unless all *programs* are installed."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [program for program in programs if shutil.which(program, path=path) is None]
    if missing:
        packages = " ".join(PACKAGES[program] for program in missing)
        raise SetupError(
            "this computer",
            f"{', '.join(missing)} not found",
            "a twin needs it",
            f"Run `sudo apt-get install {packages}`",
        )


def image(os_name: str) -> Image:
    """Return where the image of *os_name* is, or will be: its name is a digest of all it is made from."""
    content = hashlib.blake2s("\0".join([SUITES[os_name], *_OPTIONS]).encode(), digest_size=8)
    for path in sorted(path for path in _GUEST.rglob("*") if path.is_file()):
        content.update(f"{path.relative_to(_GUEST)}\0".encode() + path.read_bytes())
    return Image(cache_directory() / "twin" / f"{os_name}-{content.hexdigest()}")


def prepare(os_name: str, say: Say) -> Image:
    """Return the image of *os_name*, built if this computer has none."""
    wanted = image(os_name)
    if not wanted.directory.exists():
        with locked(wanted.directory.with_suffix(".lock"), say):
            if not wanted.directory.exists():
                with filling(wanted.directory) as half_made:
                    _build(os_name, half_made, say)
    return wanted


def _build(os_name: str, target: Path, say: Say) -> None:
    """Fill *target*; needs about 2 GB in the directory for temporary files meanwhile."""
    log = target.parent / f"{os_name}.log"
    say(f"twin image: building {os_name} from its packages, 1 to 3 minutes; log: {log}")
    is_root = os.getuid() == 0
    require("mmdebstrap", "mke2fs", *([] if is_root else ["newuidmap"]))
    with (
        tempfile.TemporaryDirectory(prefix="rackwright-image-", ignore_cleanup_errors=True) as name,
        log.open("w") as output,
    ):
        work = Path(name)
        guest = work / "guest"
        _run(["cp", "-R", str(_GUEST), str(guest)], output.fileno(), log, say)
        tar = work / "root.tar"
        bootstrap = ["mmdebstrap", f"--mode={'root' if is_root else 'unshare'}", *_OPTIONS]
        bootstrap += [f"--include={','.join(_listed(guest / 'packages.txt'))}"]
        bootstrap += [f"--aptopt={line}" for line in network_settings()]
        _run([*bootstrap, SUITES[os_name], str(tar), *mirrors(SUITES[os_name])], output.fileno(), log, say)

        _run(["chmod", "-R", "a+rX", str(work)], output.fileno(), log, say)  # the root of the user namespace reads it
        unpacked = work / "unpacked"
        unpacked.mkdir()
        unpacked.chmod(0o777)  # and unpacks here
        helper = [] if is_root else ["mmdebstrap", "--unshare-helper"]
        assemble = shlex.join([*helper, "sh", str(guest / "assemble.sh"), str(tar), str(unpacked)])
        unpack = shlex.join(["tar", "-x", "-S", "--no-same-owner", "-C", str(target)])
        _run(f"{assemble} | {unpack}", output.fileno(), log, say)
    compressed = target / "vmlinuz"
    (target / "vmlinux").write_bytes(uncompressed_kernel(compressed.read_bytes()))
    compressed.unlink()
    say(f"twin image: {os_name} is ready")


def _run(command: Sequence[str] | str, output: int, log: Path, say: Say) -> None:
    """Run *command* into *log*, saying the last line of it every ten seconds."""
    argv = ["bash", "-o", "pipefail", "-c", command] if isinstance(command, str) else command
    started = time.monotonic()
    # INITRD=No: the kernel package would compute an initrd for minutes, and the guest has a smaller one.
    environment = os.environ | {"INITRD": "No", "LC_ALL": "C.UTF-8"}
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
    while True:
        try:
            status = process.wait(timeout=10)
            break
        except subprocess.TimeoutExpired:
            said = log.read_text(errors="replace").splitlines()
            say(f"twin image: {time.monotonic() - started:.0f} s: {said[-1] if said else 'started'}")
        except BaseException:
            process.terminate()
            raise
    if status:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
        raise SetupError("twin image", f"{argv[0]} ended with {status}:\n{last}", "it builds the guest", f"Read {log}")


def mirrors(suite: str) -> list[str]:
    """Return where this computer finds the packages of *suite*, as lines of sources.list(5)."""
    return sources(suite, {path.name: path.read_text() for path in _apt_files() if path.is_file()})


def sources(suite: str, files: Mapping[str, str]) -> list[str]:
    """Return lines of sources.list(5) for *suite*, from the mirrors that this computer's apt *files* name.

    A computer that runs another system than Debian names none; then Debian's own are taken.
    """
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    lines = []
    for uri, found, options in _entries(files):
        base, _, suffix = found.partition("-")
        if base in _DEBIAN and suffix in ("", "updates", "security"):
            signed = options.get("signed-by", "")
            chosen = f"signed-by={signed if signed.startswith('/') else keyring}"
            trusted = " trusted=yes" if options.get("trusted") == "yes" else ""
            lines.append(f"deb [{chosen}{trusted}] {uri} {suite}{f'-{suffix}' if suffix else ''} main")
    public = [f"deb [signed-by={keyring}] {uri} {suite}{suffix} main" for uri, suffix in _PUBLIC_SOURCES]
    return list(dict.fromkeys(lines)) or public


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


def _listed(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def uncompressed_kernel(bzimage: bytes) -> bytes:
    """Return the ELF kernel inside *bzimage*: QEMU starts it directly, and the guest need not unpack it.

    Raises:
        SetupError: The kernel is not compressed by xz, as Debian 12's is.
    """
    setup_sectors = bzimage[0x1F1] or 4
    offset, length = struct.unpack_from("<II", bzimage, 0x248)  # payload_offset, payload_length of the boot protocol
    payload = bzimage[(setup_sectors + 1) * 512 + offset :][:length]
    try:
        return lzma.LZMADecompressor().decompress(payload)  # stops at the end of the stream; four bytes of size follow
    except lzma.LZMAError as error:
        raise SetupError(
            "twin image", f"a kernel that xz cannot unpack ({error})", "Debian 12's is an xz stream", ""
        ) from error
