"""Views of the files of accounts: lines that programs read in different ways, and rights of groups without members."""

from collections.abc import Mapping
from functools import cached_property

from rackwright.facts.view import Fact, View, optional_number, texts


class OddLine(View):
    """A line of another form than programs write."""

    file = Fact(str, "Path of the file.")
    line = Fact(int, "Number of the line, from 1.")
    name = Fact(str, "First field of the line.")
    reason = Fact(str, "Why programs may read it in different ways, as a noun.")


class Duplicate(View):
    """A name or an id that several lines have."""

    file = Fact(str, "Path of the file.")
    sort = Fact(str, "name or id.")
    key = Fact(str, "The name or the id.")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the lines with one id."""
        return self.value("names", texts) if self.has("names") else ()


class GroupRights(View):
    """Ways into a group beside its members."""

    @property
    def has_password(self) -> bool:
        return self.has("password")

    @property
    def administrators(self) -> tuple[str, ...]:
        """Accounts that give the group members."""
        return self.value("administrators", texts) if self.has("administrators") else ()

    @property
    def other_members(self) -> tuple[str, ...]:
        """Members that only one of /etc/group and /etc/gshadow has."""
        return self.value("other_members", texts) if self.has("other_members") else ()

    @property
    def is_without_group(self) -> bool:
        return self.has("without_group")


class AccountDates(View):
    """Dates that end or limit the logins of an account, in days since 1970 or in days."""

    def days(self, name: str) -> int | None:
        return self.value(name, optional_number) if self.has(name) else None


class HomeFacts(View):
    """A home directory."""

    owner = Fact(str, "user:group by name.")
    uid = Fact(int, "Id of its owner.")
    mode = Fact(str, "Four octal digits.")
    sort = Fact(str, "directory, link or file.")


class BaseUser(View):
    """An account of each system of the distribution, as its package has it."""

    uid = Fact(int, "Numeric id.")
    gid = Fact(int, "Numeric id of its first group.")
    home = Fact(str, "Home directory.")
    shell = Fact(str, "Program that a login starts.")


class AccountFiles(View):
    """The contents of the files of accounts beside accounts and groups."""

    @property
    def odd_lines(self) -> tuple[OddLine, ...]:
        return self.rows("odd_lines", OddLine)

    @property
    def duplicates(self) -> tuple[Duplicate, ...]:
        return self.rows("duplicates", Duplicate)

    @property
    def group_rights(self) -> Mapping[str, GroupRights]:
        """The groups with another way in, by name."""
        return {name: GroupRights(raw, f"{self._where}.{name}") for name, raw in self.table("group_rights").items()}

    @property
    def dates(self) -> Mapping[str, AccountDates]:
        """The accounts whose logins end or are limited, by name."""
        return {name: AccountDates(raw, f"{self._where}.{name}") for name, raw in self.table("dates").items()}

    def home(self, account: str) -> HomeFacts | None:
        """Return the home directory of an account; None if it does not exist."""
        return self.entry("homes", account, HomeFacts)

    @property
    def base_users(self) -> Mapping[str, BaseUser]:
        return {name: BaseUser(raw, f"{self._where}.{name}") for name, raw in self.table("base_users").items()}


class HostAccountFiles(View):
    """The files of accounts of a host."""

    @cached_property
    def account_files(self) -> AccountFiles:
        return AccountFiles(self.read("account_files"), "facts.account_files")
