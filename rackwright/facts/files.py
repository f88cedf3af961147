"""The view of the files and directories below the probe's roots."""

from collections.abc import Mapping
from fnmatch import fnmatch
from functools import cached_property
from typing import Any

from rackwright.facts.table import keys_starting_with
from rackwright.facts.view import Fact, UnknownFact, View, optional, texts


class DirectoryFacts(View):
    """One of the probe's fixed roots, or a directory below them."""

    mode = Fact(str, "Four octal digits.")
    owner = Fact(str, "user:group by name.")
    mtime_ns = Fact(int, "Time of the last change, in nanoseconds since 1970.")


class FileFacts(DirectoryFacts):
    """A file or link below the probe's fixed roots."""

    digest = Fact(str, "Keyed blake2s of the content; ``-> target`` for a link, with ``, which does not exist``.")

    @property
    def same_as(self) -> tuple[str, ...]:
        """Other paths of the file to which the link leads; the probe reads them for the time zone alone."""
        return self.value("same_as", texts) if self.has("same_as") else ()


def _is_link(raw: Any) -> bool:
    return isinstance(raw, Mapping) and str(raw.get("digest")).startswith("-> ")


class HostFiles(View):
    """The files and directories of a host."""

    def file(self, path: str) -> FileFacts | None:
        """Return a file or link below the probe's roots; None if there is no such file."""
        if path not in self._files:
            self.require_covered(path)
            self._files[path] = self.entry("files", path, FileFacts)
        return self._files[path]

    @cached_property
    def _files(self) -> dict[str, FileFacts | None]:
        return {}

    def directory(self, path: str) -> DirectoryFacts | None:
        """Return one of the probe's roots or a directory below them; None if there is no such directory."""
        self.require_covered(path)
        raw = self.find("directories", path)
        if raw is not None:
            return DirectoryFacts(raw, f"facts.directories.{path}")
        if _is_link(self.find("files", path)):
            raise UnknownFact(f"{path} is a link")
        return None

    def listing(self, path: str) -> tuple[str, ...] | None:
        """Return the names in a directory, sorted; None if there is no such directory."""
        if self.directory(path) is None:
            return None
        self.find("files", path)  # an unreadable directory has its reason in this table
        start = f"{path}/"
        paths = {path for key in ("files", "directories") for path in keys_starting_with(self.table(key), start)}
        return tuple(sorted(name for path in paths if "/" not in (name := path.removeprefix(start))))

    def paths_below(self, *folders: str) -> list[str]:
        """Return the paths of the files and links below *folders*, at any depth."""
        return keys_starting_with(self.table("files"), *(f"{folder}/" for folder in folders))

    def require_covered(self, path: str) -> None:
        """Raise UnknownFact for a path outside the probe's roots, so that an unread path never passes for absent."""
        roots, patterns = self._file_roots
        if not path.startswith(roots) and not any(fnmatch(path, pattern) for pattern in patterns):
            raise UnknownFact(f"the probe does not read {path}")
        if link := self._link_above(path):
            raise UnknownFact(f"{path} is below {link}, which is a link")

    @cached_property
    def _file_roots(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The beginnings of paths below the probe's roots, and the roots, which may be patterns."""
        patterns = self._covers("files")
        return tuple(f"{root}/" for root in patterns), patterns

    def _link_above(self, path: str) -> str:
        """Return the nearest link above *path*; empty without one. Facts are asked for many files of one directory."""
        parent = path.rpartition("/")[0] or "/"
        if parent not in self._links_above:
            if self.find("files", parent) is not None:
                self._links_above[parent] = parent
            else:
                self._links_above[parent] = "" if parent == "/" else self._link_above(parent)
        return self._links_above[parent]

    @cached_property
    def _links_above(self) -> dict[str, str]:
        return {}

    def text(self, path: str) -> str | None:
        """Return one of the texts that the probe reads, with passwords masked; None if there is no such file."""
        if not any(fnmatch(path, pattern) for pattern in self._covers("texts")):
            raise UnknownFact(f"the probe does not read the text of {path}")
        return optional(self.find("texts", path))

    def _covers(self, key: str) -> tuple[str, ...]:
        """Return the places that the probe reads; values elsewhere are unknown, not absent."""
        return View(self.read("covers"), "facts.covers").value(key, texts)
