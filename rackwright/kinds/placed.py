"""Files of something that has an account of its own on a host. All are root's: the account reads, and changes none."""

import base64
from dataclasses import dataclass
from typing import Protocol

from rackwright.kinds.contract import Claim, Put, Unknown
from rackwright.kinds.house import House

UNITS = "/etc/systemd/system"


class Holder(Protocol):
    """Whose files they are."""

    @property
    def account(self) -> str: ...


@dataclass(frozen=True, slots=True)
class File:
    path: str
    content: str | bytes | None
    """None: it depends on a secret that is not known here."""
    mode: int = 0o640
    secret: str | None = None
    """The names of the secrets that it is made of."""


def claim(file: File, holder: Holder, house: House) -> Claim:
    """Return the claim that *file* is there as it was written."""
    sealed = Unknown(f"it depends on the secret {file.secret}, which is not known here")
    content = sealed if file.content is None else house.digest(file.content)
    want = {"content": content, "mode": f"{file.mode:04o}", "owner": owner(file, holder)}
    return Claim(f"file:{file.path}", want, secret=file.secret is not None)


def owner(file: File, holder: Holder) -> str:
    return f"root:{holder.account}" if file.mode == 0o640 else "root:root"


def put(file: File, holder: Holder) -> Put:
    """Return the step that writes *file*, whose content is known."""
    assert file.content is not None
    text = f"write {file.path}"
    if isinstance(file.content, bytes):
        encoded = base64.b64encode(file.content).decode()
        return Put(text, file.path, encoded, file.mode, owner(file, holder), base64=True)
    return Put(text, file.path, file.content, file.mode, owner(file, holder))
