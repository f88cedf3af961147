"""The object store of this host: how its files are written, and the settings that its own shell changes."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import pwd
import re
import stat
import struct
import subprocess
from typing import Any, Callable, Iterator

from rackwright.facts.probe.isolate import become_owner, isolate_all
from rackwright.facts.probe.observe import ENVIRONMENT, ReadError, read
from rackwright.facts.probe.system import mode_text, owner_name

CONFIGURATION = "/etc/seaweedfs"
"""The directory with the certificates' paths, which only root and the account of the store read."""
UNITS = "/etc/systemd/system/object-store-{}.service"
NO_FOLDER = "/nonexistent"
"""The folder for temporary files: the shell leaves its history and its log there, and reads what others wrote there.

Without that folder it goes on. Source: SeaweedFS 4.48, weed/shell/shell_liner.go and weed/glog/glog.go.
"""
SECONDS = 45
"""Time limit of the shell, which waits for the master and the filer."""
MEMORY_BYTES = 1 << 30
FILES_MAX, NAMES_SHOWN = 200_000, 5
BUCKETS_MAX, OUTPUT_BYTES = 1000, 8 << 20
GET_FLAGS, SYNCHRONOUS = 0x80086601, 0x8
"""The request FS_IOC_GETFLAGS, and the attribute ``S`` of a file: a write returns after it is on the drive.

Source: ioctl_iflags(2).
"""
ACCOUNT, HOME = "object_store", "/var/lib/object_store"
"""The account of the store, and its home."""
OF_OTHERS, WRITTEN_BY_OTHERS = 0o077, 0o022
"""Rights of other accounts than the owner."""
ACCESS_LISTS = ("system.posix_acl_access", "system.posix_acl_default")
SEPARATOR = "/"
"""The output of ``fs.pwd``; no name in the store has a slash."""
OWN_ATTRIBUTES = frozenset(
    (
        *(f"Seaweed-X-Amz-{name}" for name in ("Owner", "Acl", "Ownership", "Versioning")),
        *(f"Seaweed-X-Amz-Object-Lock-{name}" for name in ("Enabled", "Mode", "Days", "Years", "Default-Mode")),
        *(f"Seaweed-X-Amz-Object-Lock-Default-{name}" for name in ("Days", "Years", "Days-Set", "Years-Set")),
        *(f"Lock-Default-{name}" for name in ("Mode", "Days", "Years")),
        *("Seaweed-X-Amz-Bucket-Policy", "s3-bucket-policy", "s3-identity-id", "s3-account-id"),
        "s3-bucket-lifecycle-configuration-xml",
        "s3-bucket-lifecycle-transition-default-minimum-object-size",
    )
)
"""Attributes of a bucket that S3 shows, so that the facts of the store have them.

Source: SeaweedFS 4.48, weed/s3api/s3_constants/extend_key.go.
"""


def object_store(root: str) -> dict[str, Any]:
    """Return the facts of the store; empty without one. Only the host with the names has its settings."""
    volumes = _unit(root, "volume")
    if volumes is None:
        return {}
    data = os.path.dirname(_option(volumes, "dir"))
    readers: dict[str, Callable[[], Any]] = {
        "buffered": lambda: buffered_files(root + data),
        "rights": lambda: odd_rights(root + data, root + HOME, *_account()),
    }
    filer = _unit(root, "filer")
    if filer is not None:
        address = f"{_option(filer, 'ip')}:{_option(filer, 'port')}"
        readers["settings"] = lambda: settings(_program(filer), _option(filer, "master"), address, root + data)
    return isolate_all(readers, SECONDS, MEMORY_BYTES)


def buffered_files(directory: str) -> list[str]:
    """Return the paths of files that the kernel writes to the drive later than their writer; the first few only.

    A link is one of them: the store writes to its target, which nothing compares.
    """
    become_owner(directory)
    found: list[str] = []
    for number, path in enumerate(_walk(directory)):
        if number == FILES_MAX:
            raise ReadError(f"{directory} has more than {FILES_MAX} files")
        try:
            synchronous = not os.path.islink(path) and is_synchronous(path)
        except FileNotFoundError:  # the store has removed it since
            continue
        if not synchronous:
            found.append(path)
            if len(found) == NAMES_SHOWN:
                break
    return found


def odd_rights(data: str, home: str, user: int, group: int) -> list[str]:
    """Return the paths below *data* and *home* that other accounts than that of the store can use; the first few only.

    The account alone has rights there, which the mask of its units gives to each new file. The store itself makes some
    files readable for all (``.vif``): that is no right in a directory which the account alone enters.
    """
    found: list[str] = []
    for number, (path, closed, status, names) in enumerate(_entries(data, home)):
        rights = status.st_mode & (WRITTEN_BY_OTHERS if closed and stat.S_ISREG(status.st_mode) else OF_OTHERS)
        if number == FILES_MAX:
            raise ReadError(f"{data} has more than {FILES_MAX} files")
        if (status.st_uid, status.st_gid) != (user, group):
            found.append(f"{path}: owner {owner_name(status.st_uid, status.st_gid)}")
        elif rights and not stat.S_ISLNK(status.st_mode):
            found.append(f"{path}: mode {mode_text(status.st_mode)}")
        elif any(name in ACCESS_LISTS for name in names):
            found.append(f"{path}: access list")
        if len(found) == NAMES_SHOWN:
            break
    return found


def _entries(*directories: str) -> Iterator[tuple[str, bool, os.stat_result, list[str]]]:
    """Yield path, status and extended attributes of *directories* and everything below them, never through a link.

    With each path comes whether its directory, one of these or below, is closed to other accounts.
    """
    for top in directories:
        if not os.path.isdir(top):
            continue
        yield top, False, os.lstat(top), os.listxattr(top, follow_symlinks=False)
        for folder, below, files, descriptor in os.fwalk(top, onerror=_raise, follow_symlinks=False):
            closed = not os.fstat(descriptor).st_mode & OF_OTHERS
            for name in sorted((*below, *files)):
                try:
                    status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                    names = os.listxattr(f"/proc/self/fd/{descriptor}/{name}", follow_symlinks=False)
                except FileNotFoundError:  # the store has removed it since
                    continue
                yield f"{folder}/{name}", closed, status, names


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _account() -> tuple[int, int]:
    try:
        entry = pwd.getpwnam(ACCOUNT)
    except KeyError:
        raise ReadError(f"there is no account {ACCOUNT}") from None
    return entry.pw_uid, entry.pw_gid


def is_synchronous(path: str) -> bool:
    """Return whether each write to the file or directory is on the drive before it returns.

    Raises:
        ReadError: the filesystem has no such attribute.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        flags = fcntl.ioctl(descriptor, GET_FLAGS, bytes(8))
    except OSError as error:
        raise ReadError(f"{path}: its filesystem has no synchronous writes: {error.strerror}") from None
    finally:
        os.close(descriptor)
    return bool(struct.unpack("<Q", flags)[0] & SYNCHRONOUS)


def settings(program: str, master: str, filer: str, data: str) -> dict[str, Any]:
    """Return the settings that the store's shell shows; no secret key is among them."""
    become_owner(data)
    ask = _Shell(program, master, filer)
    rules, identities, rest = _documents(ask("fs.configure", "s3.configure"), 2)
    if rest.strip():
        raise ReadError("the shell of the store answers in another form")
    answers = _answers(ask("fs.ls /buckets", "fs.pwd", "fs.tree /etc", "fs.pwd", "volume.list"))
    if len(answers) != 3:
        raise ReadError("the shell of the store answers in another form")
    buckets, tree, volumes = answers
    return {
        "rules": sorted(_rule(each) for each in rules["locations"]),
        "accounts": sorted(_accounts(identities)),
        "stored": sorted(_setting_files(tree)),
        "buckets": _buckets(ask, [name for name in buckets.splitlines() if name and not name.startswith(".")]),
        "volumes": sorted(set(_volumes(volumes))),
    }


class _Shell:
    """The shell of the store, which reads and never locks the cluster here."""

    def __init__(self, program: str, master: str, filer: str) -> None:
        self._argv = (program, "shell", f"-master={master}", f"-filer={filer}")

    def __call__(self, *commands: str) -> str:
        """Return what *commands* print."""
        text = "\n".join(commands) + "\n"
        done = subprocess.run(
            self._argv,
            input=text.encode(),
            capture_output=True,
            env={**ENVIRONMENT, "TMPDIR": NO_FOLDER},
            cwd=CONFIGURATION,
            check=False,
        )
        errors = [line for line in done.stderr.decode(errors="replace").splitlines() if _is_error(line)]
        if done.returncode or errors:
            raise ReadError(f"the shell of the store: {(errors or ['no answer'])[0][:200]}")
        if len(done.stdout) > OUTPUT_BYTES:
            raise ReadError("the shell of the store prints more than it may")
        return done.stdout.decode(errors="backslashreplace")


def _answers(text: str) -> list[str]:
    """Return the answers in *text*, between which SEPARATOR is a line; an answer may be empty."""
    answers: list[list[str]] = [[]]
    for line in text.splitlines():
        if line == SEPARATOR:
            answers.append([])
        else:
            answers[-1].append(line)
    return ["\n".join(lines) for lines in answers]


def _is_error(line: str) -> bool:
    return line.startswith(("error:", "unknown command", "F", "panic"))


def _documents(text: str, count: int) -> tuple[Any, ...]:
    """Return the first JSON documents of *text*, and the rest."""
    found: list[Any] = []
    for _ in range(count):
        start = text.find("{")
        if start < 0:
            raise ReadError("the shell of the store answers in another form")
        document, end = json.JSONDecoder().raw_decode(text, start)
        found.append(document)
        text = text[end:]
    return (*found, text)


def _rule(rule: dict[str, Any]) -> str:
    """Return a rule for a path, with everything that it sets."""
    set_ = sorted(
        f"{key}={value}" for key, value in rule.items() if key != "locationPrefix" and value not in ("", 0, "0", False)
    )
    return " ".join((str(rule.get("locationPrefix", "?")), *set_))


def _accounts(document: dict[str, Any]) -> Iterator[str]:
    """Yield each account with its access keys and its rights, and everything else that gives rights."""
    for each in document["identities"]:
        keys = " ".join(sorted(str(key["accessKey"]) for key in each["credentials"]))
        rights = [*each["actions"], *(f"policy:{name}" for name in each.get("policyNames", ()))]
        disabled = ", disabled" if each.get("disabled") else ""
        yield f"{each['name']}: keys {keys or 'none'}, rights {' '.join(sorted(rights)) or 'none'}{disabled}"
    for sort in ("accounts", "serviceAccounts", "policies", "groups"):
        for each in document.get(sort, ()):
            yield f"{sort}: {each.get('name', each.get('id', '?'))}"


def _setting_files(tree: str) -> Iterator[str]:
    """Yield the names of the files that the store keeps as settings, besides its rules for paths."""
    folders: list[str] = []
    lines = [line for line in tree.splitlines() if not re.fullmatch(r"\d+ director\w+, \d+ files?", line)]
    for number, line in enumerate(lines):
        drawn = re.match(r"[\s│├└─]*", line)
        assert drawn
        depth, name = len(drawn[0]) // 4, line[drawn[0].__len__() :]
        following = re.match(r"[\s│├└─]*", lines[number + 1]) if number + 1 < len(lines) else None
        del folders[depth:]
        folders.append(name)
        if following is None or len(following[0]) // 4 <= depth:
            path = "/".join(("", *folders)) if folders[0] == "etc" else f"/etc/{'/'.join(folders)}"
            if path not in ("/etc", "/etc/seaweedfs", "/etc/seaweedfs/filer.conf"):
                yield path


def _buckets(ask: _Shell, names: list[str]) -> dict[str, Any]:
    if len(names) > BUCKETS_MAX or any(not re.fullmatch(r"[\w.-]+", name) for name in names):
        raise ReadError(f"the store has more than {BUCKETS_MAX} buckets, or one with another name than S3 allows")
    if not names:
        return {}
    text, found = ask(*(f"fs.meta.cat /buckets/{name}" for name in names)), {}
    for name in names:
        document, text = _documents(text, 1)
        if document["name"] != name:
            raise ReadError("the shell of the store answers in another form")
        found[name] = {"tags": _tags(base64.b64decode(document["content"] or "")), "set": sorted(_set(document))}
    return found


def _set(document: dict[str, Any]) -> Iterator[str]:
    """Yield what S3 does not show of a bucket."""
    if document["quota"] != "0":
        yield f"quota={document['quota']}"
    if document["wormEnforcedAtTsNs"] != "0":
        yield "worm"
    if document["remoteEntry"]:
        yield "remote"
    if document["attributes"]["ttlSec"]:
        yield f"ttl={document['attributes']['ttlSec']}s"
    for name in document["extended"]:
        if name not in OWN_ATTRIBUTES:
            yield name


def _tags(content: bytes) -> dict[str, str]:
    """Return the tags in a bucket's metadata, a message of protobuf whose field 1 is a map."""
    tags = {}
    for number, value in _fields(content):
        if number == 1:
            pair = dict(_fields(value))
            tags[pair.get(1, b"").decode(errors="replace")] = pair.get(2, b"").decode(errors="replace")
    return tags


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of each field; all that SeaweedFS has there have a length."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        size, place = _varint(message, place)
        if key & 7 == 2:
            yield key >> 3, message[place : place + size]
            place += size
        elif key & 7:
            raise ReadError("the metadata of a bucket has another form")


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(message) and shift < 64:
        byte = message[place]
        value, place, shift = value | (byte & 0x7F) << shift, place + 1, shift + 7
        if byte < 0x80:
            return value, place
    raise ReadError("the metadata of a bucket has another form")


def _volumes(text: str) -> Iterator[str]:
    """Yield the copies and the expiry of each sort of volumes."""
    for line in text.splitlines():
        found = re.search(r"volume Id:\d+,.*ReplicaPlacement:(\d+), Collection:([^,]*),.*?Ttl:(\w*),", line)
        if found:
            yield f"{found[2] or 'names'}: copies {found[1]}{f', expiry {found[3]}' if found[3] else ''}"
        elif "ec volume" in line:
            yield line.strip().split(" ec volume")[0][:80] or "erasure coding"


def _walk(directory: str) -> Iterator[str]:
    yield directory
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path)
            elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
                yield entry.path


def _unit(root: str, part: str) -> str | None:
    """Return the command line of a part of the store, from its unit; None without one."""
    path = root + UNITS.format(part)
    if not os.path.exists(path):
        return None
    found = re.search(r"^ExecStart=(.*)$", read(path).replace("\\\n", " "), re.MULTILINE)
    if found is None:
        raise ReadError(f"{path} has no command")
    return found[1]


def _option(command: str, name: str) -> str:
    found = re.search(rf"\s-{re.escape(name)}=(\S+)", command)
    if found is None:
        raise ReadError(f"the unit of the store has no option {name}")
    return found[1]


def _program(command: str) -> str:
    """Return the path of the store's program, which belongs to root alone."""
    program = command.split(maxsplit=1)[0]
    status = os.stat(program)
    if status.st_uid != 0:
        owner = owner_name(status.st_uid, status.st_gid)
        raise ReadError(f"{program} belongs to {owner}, and the probe starts no such program")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = mode_text(status.st_mode)
        raise ReadError(f"{program} has mode {mode}: other accounts can write it, and the probe starts no such program")
    return program
