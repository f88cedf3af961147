"""Files, directories, links and mounts."""

from collections.abc import Mapping

from pydantic import Field

from rackwright.core.contract import Want, Within
from rackwright.core.repository import Repository
from rackwright.kinds.role.entries.entry import Entry, without_none


class FileEntry(Entry):
    """A file with exactly this content."""

    sort = "file"
    file: str
    content: str | bytes
    """The whole content. An entry may have ``template`` instead, or neither: then the template of the same path."""
    mode: str = "0644"
    owner: str = "root:root"
    rendered_from: str = ""
    """Name of the template of the content; empty for a content of another origin."""

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"content": repository.digest(self.content), "mode": self.mode, "owner": self.owner}


class LinkEntry(Entry):
    """A symbolic link."""

    sort = "link"
    link: str
    to: str

    @property
    def thing(self) -> str:
        return f"file:{self.link}"

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"content": f"-> {self.to}"}


NAMES = "names"
"""The property of the names in a directory; with an extension before it, of those that end so."""


class DirectoryEntry(Entry):
    """A directory; with *only*, no other names exist in it, or none with the *extension*."""

    sort = "directory"
    directory: str
    mode: str | None = None
    owner: str | None = None
    only: tuple[str, ...] | None = None
    extension: str = Field("", pattern="^[a-z]*$")
    """The end of names that count, without its dot; empty for all names."""

    def want(self, repository: Repository) -> Mapping[str, Want]:
        name = f"{self.extension}_{NAMES}" if self.extension else NAMES
        names = {} if self.only is None else {name: Within(tuple(sorted(self.only)))}
        return {**without_none(mode=self.mode, owner=self.owner), **names}


class PresentFile(Entry):
    """A file that another program writes: it exists, with this mode and owner."""

    sort = "present"
    present: str
    mode: str
    owner: str = "root:root"
    leaves: bool = False
    """Whether the file leaves the host with the role, as one that the role's tasks make from nothing."""

    @property
    def thing(self) -> str:
        return f"file:{self.present}"

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"mode": self.mode, "owner": self.owner}


class AbsentFile(Entry):
    """A path without a file."""

    sort = "absent"
    absent: str

    @property
    def thing(self) -> str:
        return f"file:{self.absent}"

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"present": False}


class StateEntry(Entry):
    """A directory of a service's own, with this mode and owner: no other account may change what is in it."""

    sort = "state"
    state: str
    mode: str
    owner: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"mode": self.mode, "owner": self.owner, "access_list": False, "open": ()}


class VariablesEntry(Entry):
    """A file with variables that the host itself makes: it has these names and no others."""

    sort = "variables"
    variables: str
    only: tuple[str, ...]

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"names": tuple(sorted(self.only))}


class MountOption(Entry):
    """An option of a mount point."""

    sort = "mount_option"
    mount_option: str
    at: str

    @property
    def thing(self) -> str:
        return f"mount-option:{self.at}:{self.mount_option}"

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"set": True}
