"""The common keys of all sorts of entries."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from rackwright.core.contract import Claim, Scope, Severity, Want
from rackwright.core.repository import Repository

READER = r"^(pod:.+|.+\.service)$"
"""A reader has processes, whose start the facts have: a service, or a container of a static pod."""


class Entry(BaseModel):
    """The common keys of all sorts."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, defer_build=True)
    sort: ClassVar[str]
    usual_scope: ClassVar[Scope] = "host"

    owned: bool = True
    """Whether the role owns the thing. False: the thing is required, may be shared, and is never removed."""
    scope: Scope | None = None
    severity: Severity = "error"
    remedy: str = ""
    remedy_absent: str | None = None
    by_hand: bool = False
    restart: bool = False
    disturbs: tuple[str, ...] = ()
    read_by: tuple[Annotated[str, Field(pattern=READER)], ...] = ()

    @property
    def thing(self) -> str:
        return f"{self.sort}:{getattr(self, self.sort)}"

    def want(self, repository: Repository) -> Mapping[str, Want]:
        raise NotImplementedError

    @property
    def path(self) -> str:
        """The path of a file or directory; empty for other things."""
        sort, _, path = self.thing.partition(":")
        return path if sort in ("file", "directory") else ""

    def claim(self, repository: Repository) -> Claim:
        scope = self.scope or ("kernel" if self.restart else self.usual_scope)
        return Claim(
            self.thing,
            self.want(repository),
            self.owned,
            scope,
            severity=self.severity,
            remedy=self.remedy,
            remedy_absent=self.remedy_absent,
        )


def without_none(**values: Want | None) -> dict[str, Want]:
    """Return the *values* that are not None."""
    return {name: value for name, value in values.items() if value is not None}
