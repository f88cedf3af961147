"""Indexes that programs of packages make: each file that they name must be where the index says."""

from __future__ import annotations

import os
import re
import struct
from typing import Iterator

from rackwright.facts.probe.observe import ReadError, listing, read

CACHE = b"glibc-ld.so.cache1.1"
"""Beginning of /etc/ld.so.cache. Source: glibc, sysdeps/generic/dl-cache.h."""
HEADER, ENTRY, EXTENSION = struct.Struct("<20sIIB3xI12x"), struct.Struct("<iIIIQ"), 0xEAA42174
EXTENSION_HEAD, SECTION = struct.Struct("<II"), struct.Struct("<IIII")
GENERATOR, SUBFOLDERS = 0, 1
"""Sections of the extension: the program that wrote the cache, and the names of folders in glibc-hwcaps."""
IN_EXTENSION = 1 << 62
LIBRARY_FOLDERS = ("/lib", "/usr/lib", "/lib32", "/usr/lib32", "/lib64", "/usr/lib64", "/libx32", "/usr/libx32")
LIBRARY_SETTINGS, LIBRARY_SETTINGS_FOLDER = "/etc/ld.so.conf", "/etc/ld.so.conf.d"
"""Lists of more folders, which are rows of their own if no package installed them."""
HWCAPS = re.compile(
    r"/glibc-hwcaps/[\w-]+$|/(?:haswell|avx512_1|sse2|nosegneg|tls|x86_64)(?:/(?:haswell|x86_64|avx512_1))*$"
)
MODULE = re.compile(rb"(?:kernel|updates|extra|weak-updates)/[\w.+/-]*\.ko(?:\.(?:xz|gz|zst))?")
"""Path of a module below the folder of its kernel."""
POINTS = re.compile(r"(?:([\w.-]+\.so): [\w.,-]+)?")
LOADER = re.compile(r'#.*|"/[\w/.+-]+\.so"|(?:"(?:[^"\\/]|\\.|/(?!/))*" ?)+\d*|"[^"]*" \d+(?: "[^"]*"){3}|')
"""Lines of the caches of gio and of gdk-pixbuf. The latter has modules, their names, types, and beginnings of files."""
TRIE, TRIE_VERSION, TRIE_NODES = 0xB007F457, 2, 1_000_000
HAS_PREFIX, HAS_CHILDREN, HAS_VALUES = 0x80000000, 0x20000000, 0x40000000


def library_folders(root: str) -> set[str]:
    """Return the folders that ldconfig indexes. Source: ldconfig(8)."""
    paths = [
        LIBRARY_SETTINGS,
        *(f"{LIBRARY_SETTINGS_FOLDER}/{name}" for name in listing(root + LIBRARY_SETTINGS_FOLDER, "*.conf")),
    ]
    lines = [
        line.partition("#")[0].strip()
        for path in paths
        if os.path.exists(root + path)
        for line in read(root + path).split("\n")
    ]
    return {*LIBRARY_FOLDERS, *(line.rstrip("/") for line in lines if line.startswith("/"))}


def is_library_cache(root: str, data: bytes) -> bool:
    """Return whether each name in the cache of libraries leads to a file of that name in an indexed folder.

    Each such folder is packaged, or a row of a rule, and so is each file in it.
    """
    folders = library_folders(root)
    return all(
        name == os.path.basename(path)
        and os.path.normpath(path) == path
        and HWCAPS.sub("", os.path.dirname(path)) in folders
        and os.path.exists(root + path)
        for name, path in library_entries(data)
    )


def library_entries(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield the names of the libraries, each with its path.

    Raises:
        ReadError: the cache has another form than that of ldconfig, or bytes that no entry explains.
    """
    if len(data) < HEADER.size or not data.startswith(CACHE):
        raise ReadError("no cache of libraries")
    _, count, size, flags, extension = HEADER.unpack_from(data)
    start = HEADER.size + count * ENTRY.size
    end = start + size
    if end > len(data) or flags not in (0, 2) or data[HEADER.size - 12 : HEADER.size] != bytes(12):
        raise ReadError("the cache of libraries has another form")
    subfolders = check_extension(data, end, extension)
    used: set[int] = set()
    kinds: set[int] = set()
    for number in range(count):
        kind, key, value, version, features = ENTRY.unpack_from(data, HEADER.size + number * ENTRY.size)
        if not (start <= key < end and start <= value < end) or version:
            raise ReadError("the cache of libraries has an entry of another form")
        if (
            features
            and not (features & IN_EXTENSION and features & 0xFFFFFFFF < subfolders)
            and not features < IN_EXTENSION
        ):
            raise ReadError("the cache of libraries has an entry for a folder without a name")
        used.update((key, value))
        kinds.add(kind)
        yield text_at(data, key, end), text_at(data, value, end)
    if not kinds <= KINDS:
        raise ReadError("the cache of libraries has an entry of an unknown kind")
    position = start
    for key in sorted(used):  # names may share the ends of others
        if key > position:
            raise ReadError("the cache of libraries has bytes of no entry")
        position = max(position, data.index(b"\0", key) + 1)
    if position < end and data[position:end].strip(b"\0"):
        raise ReadError("the cache of libraries has bytes of no entry")


KINDS = {0x0003, 0x0303, 0x0803, 0x0A03, 0x0B03, 0x0903, 0x0503, 0x1003, 0x0001}
"""Flags of the libraries of the architectures. Source: glibc, sysdeps/generic/ldconfig.h."""


def check_extension(data: bytes, end: int, start: int) -> int:
    """Return the number of names of folders in the extension, behind the strings.

    Raises:
        ReadError: it has another form.
    """
    if start == 0:
        if len(data) != end:
            raise ReadError("the cache of libraries has more bytes at its end")
        return 0
    magic, count = EXTENSION_HEAD.unpack_from(data, start)
    if magic != EXTENSION or not end <= start < end + 8 or count > 2:
        raise ReadError("the cache of libraries has an extension of another form")
    position = start + EXTENSION_HEAD.size + count * SECTION.size
    names = 0
    for index in range(count):
        tag, flags, offset, size = SECTION.unpack_from(data, start + EXTENSION_HEAD.size + index * SECTION.size)
        if flags or tag not in (GENERATOR, SUBFOLDERS) or offset + size > len(data):
            raise ReadError("the cache of libraries has an extension of another form")
        if tag == GENERATOR and not re.fullmatch(rb"ldconfig \([^()\0]*\)[\w .~+-]*", data[offset : offset + size]):
            raise ReadError("another program wrote the cache of libraries")
        if tag == SUBFOLDERS:
            names = size // 4
        position = max(position, offset + size)
    if len(data) > position:
        raise ReadError("the cache of libraries has more bytes at its end")
    return names


def text_at(data: bytes, start: int, end: int) -> str:
    return data[start : data.index(b"\0", start, end)].decode("ascii")


def is_loader_cache(root: str, path: str, data: bytes) -> bool:
    """Return whether the cache of gdk-pixbuf or gio names modules of packages' folders alone, which exist."""
    folder = os.path.dirname(path)
    modules = set()
    for line in data.decode("ascii").split("\n"):
        if path.endswith("/giomodule.cache"):
            match = POINTS.fullmatch(line)
            modules.add(f"{folder}/{match[1]}" if match and match[1] else "")
        else:
            match = LOADER.fullmatch(line)
            name = line[1:-1] if line.startswith('"/') else ""
            if name and os.path.dirname(name) != f"{folder}/loaders":
                return False
            modules.add(name)
        if match is None:
            return False
    return all(os.path.isfile(root + module) for module in modules if module)


def is_module_index(data: bytes) -> bool:
    """Return whether the index of depmod names modules of its own folder alone, whose files are in the account."""
    names = {name for line in trie_values(data) for name in line.replace(b":", b"").split()}
    return all(MODULE.fullmatch(name) and b".." not in name for name in names)


def trie_values(data: bytes) -> Iterator[bytes]:
    """Yield the values of an index of depmod. Source: kmod, libkmod/libkmod-index.c.

    Raises:
        ReadError: it has another form.
    """
    magic, version, root = struct.unpack_from(">III", data)
    if magic != TRIE or version >> 16 != TRIE_VERSION:
        raise ReadError("no index of modules")
    left, seen = [root], 0
    while left:
        node = left.pop()
        seen += 1
        if seen > TRIE_NODES:
            raise ReadError("the index of modules has too many nodes")
        position = node & 0x0FFFFFFF
        if node & HAS_PREFIX:
            position = data.index(b"\0", position) + 1
        if node & HAS_CHILDREN:
            first, last = data[position], data[position + 1]
            count = max(0, last - first + 1)
            left += [child for child in struct.unpack_from(f">{count}I", data, position + 2) if child & 0x0FFFFFFF]
            position += 2 + 4 * count
        if node & HAS_VALUES:
            (count,) = struct.unpack_from(">I", data, position)
            position += 4
            for _ in range(count):
                end = data.index(b"\0", position + 4)
                yield data[position + 4 : end]
                position = end + 1
