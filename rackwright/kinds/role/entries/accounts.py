"""Accounts of a host and of its servers, with their keys and second factors."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Json

from rackwright.core.contract import Between, Want, Within
from rackwright.core.repository import Repository
from rackwright.facts.probe.accounts import KEY, fingerprint
from rackwright.facts.probe.tracking import OWN
from rackwright.kinds.role.entries.entry import Entry, without_none


class UserEntry(Entry):
    """An account. *groups* is the complete list; *password* is none, locked or set."""

    sort = "user"
    user: str
    groups: tuple[str, ...] | None = None
    shell: str | None = None
    home: str | None = None
    password: Literal["none", "locked", "set"] | None = None
    present: bool = True

    def want(self, repository: Repository) -> Mapping[str, Want]:
        if not self.present:
            return {"present": False}
        groups = None if self.groups is None else tuple(sorted(self.groups))
        values = without_none(groups=groups, shell=self.shell, home=self.home, password=self.password)
        return values or {"present": True}


class GroupEntry(Entry):
    """A group; with *members*, exactly these accounts."""

    sort = "group"
    group: str
    members: tuple[str, ...] | None = None

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"present": True} if self.members is None else {"members": tuple(sorted(self.members))}


class AuthorizedKeys(Entry):
    """The keys that sshd accepts for an account, from every place that sshd reads: no others than *only*.

    With *noted*, also the keys that the account had before the first play of the role; the role notes them on the host.
    """

    sort = "authorized_keys"
    authorized_keys: str
    only: tuple[str, ...]
    """Lines of authorized_keys."""
    noted: bool = False

    def want(self, repository: Repository) -> Mapping[str, Want]:
        allowed = Within(tuple(sorted({fingerprint(key) for line in self.only for key in KEY.findall(line)})))
        return {"command": "none", "added" if self.noted else "keys": allowed}


class Factor(Entry):
    """A person's second factor: the PAM module has exactly these *options*, and at most *codes* emergency codes.

    With *key*, its key has this digest, which `rackwright enrol` prints: hosts alone have the key.
    """

    sort = "factor"
    factor: str
    options: tuple[str, ...]
    codes: int
    key: str = ""
    by_hand: bool = True

    def want(self, repository: Repository) -> Mapping[str, Want]:
        want: dict[str, Want] = {"options": tuple(sorted(self.options)), "codes": Between(None, self.codes)}
        return {**want, "other_lines": 0, **({"key": self.key} if self.key else {})}


ROLE_RIGHT = "role "
"""Beginning of the right of a function, which is a role of MLflow's."""


class Accounts(Entry):
    """All accounts in a server's own database, each with its function, and the rights of these functions.

    *functions*, *rights* and *makers* are JSON. A function in *makers* also has what MLflow gives to the account that
    makes a thing.
    """

    sort = "accounts"
    accounts: Literal["mlflow"]
    functions: Json[Mapping[str, str]]
    rights: Json[Mapping[str, Mapping[str, str]]]
    """Permission of MLflow's for all things of a kind, by function and kind."""
    makers: Json[tuple[str, ...]]

    def want(self, repository: Repository) -> Mapping[str, Want]:
        rights = [
            f"{ROLE_RIGHT}{function}: {permission} of every {kind}"
            for function, permissions in self.rights.items()
            for kind, permission in permissions.items()
        ]
        made = [f"account {name}: {OWN}" for name, function in self.functions.items() if function in self.makers]
        return {
            "functions": tuple(sorted(f"{name}: {is_}" for name, is_ in self.functions.items())),
            "rights": Within(tuple(sorted([*rights, *made]))),
            "lacking": (),
        }
