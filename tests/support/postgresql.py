"""PostgreSQL of role postgresql on loopback: the package's programs, with the files of the role."""

import os
import pwd
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rackwright.core.repository import Repository
from rackwright.kinds.role.promise import Promises, promises
from rackwright.kinds.role.spec import AboutFleet, AboutHost, RoleSpec
from tests.support.expect import eventually
from tests.support.object_store import certificates
from tests.support.our_roles import REPOSITORY

ETC, ACCOUNT = "/etc/rackwright/postgresql", "postgres"
AS_ACCOUNT = ("setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups")
"""Not by arguments of subprocess: it then forks, and a child with the threads of gRPC may end by SIGSEGV."""
PASSWORD = "password-of-the-tracking"
SECRETS = {"tracking": PASSWORD, "other": "password-of-another-one"}
TRACKING: dict[str, Any] = {
    "name": "mlflow", "account": "tracker", "password": {"secret": "tracking"}, "clients": ["127.0.0.1"],
}  # fmt: skip
OTHER: dict[str, Any] = {"name": "other", "account": "other", "password": {"secret": "other"}, "clients": ["::1"]}
PEM = "-----BEGIN CERTIFICATE-----\n…"


def spec(**variables: Any) -> RoleSpec:
    common = {"databases": [TRACKING], "certificate": PEM, "key": {"secret": "tls"}}
    return RoleSpec(
        host="alpha",
        role="postgresql",
        identity={"serial": "S1"},
        about=AboutHost(name="alpha", os="debian-12", profile="virtual"),
        fleet=AboutFleet(name="lab"),
        variables={**common, **variables},
    )


def promised(key: str = "the key", secrets: dict[str, str] | None = None, **variables: Any) -> Promises:
    """Return the promises of the role with *variables*, and *key* of its certificate."""
    values = {**SECRETS, "tls": key, **(secrets or {})}
    return promises(spec(**variables), Repository(REPOSITORY.templates, REPOSITORY.roles, REPOSITORY.salt, values))


def files(made: Promises) -> dict[str, str]:
    return {file.file: str(file.content) for file in made.files}


@dataclass
class Server:
    """A server with the arguments of its unit, below *directory*, which the account `postgres` may read."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    pem: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if os.geteuid() != 0 or not self.programs.exists() or not _has_account():
            pytest.skip("needs root, and Debian's package postgresql-15 with its account")
        self.pem = certificates(self.directory, ["127.0.0.1"])
        self.place("/srv/postgresql", "/srv/postgresql-backups", "/run/postgresql")
        self.write()

    @property
    def programs(self) -> Path:
        return Path("/usr/lib/postgresql/15/bin")

    @property
    def authority(self) -> Path:
        return self.directory / "authority.crt"

    @property
    def backups(self) -> Path:
        return self.directory / "srv/postgresql-backups"

    def place(self, *paths: str) -> None:
        """Make directories of the account."""
        for path in paths:
            made = self.directory / path.lstrip("/")
            made.mkdir(parents=True)
            shutil.chown(made, ACCOUNT, ACCOUNT)

    def write(self, secrets: dict[str, str] | None = None, **variables: Any) -> None:
        """Write the files of the role with *variables*."""
        common = {"port": self.port, "data": "/srv", "backup_directory": "/srv", "backups_kept": 2}
        made = promised(self.pem["host.key"], secrets, certificate=self.pem["host.crt"], **{**common, **variables})
        for file in made.files:
            path = self.directory / file.file.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._moved(str(file.content)))
            path.chmod(int(file.mode, 8))
            owner, group = file.owner.split(":")
            shutil.chown(path, owner, group)

    def _moved(self, text: str) -> str:
        return re.sub(r"/(etc/rackwright/postgresql|srv|run/postgresql)\b", rf"{self.directory}/\1", text)

    def unit(self, name: str) -> list[str]:
        """Return the command line of a unit."""
        text = (self.directory / f"etc/systemd/system/{name}.service").read_text().replace("\\\n", " ")
        [line] = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
        return shlex.split(line)

    def start(self) -> None:
        cluster = self.directory / "srv/postgresql/cluster"
        if not cluster.exists():
            locale = ("--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
            done = self.run([str(self.programs / "initdb"), "-D", str(cluster), "-U", ACCOUNT, "-A", "reject", *locale])
            assert done.returncode == 0, done.stderr
        with (self.directory / "log").open("ab") as log:
            command = self.unit("rackwright-postgresql")
            self.process = subprocess.Popen([*AS_ACCOUNT, *command], stdout=log, stderr=log, cwd="/")
        ready = [str(self.programs / "pg_isready"), "-qh", "127.0.0.1", "-p", str(self.port)]
        eventually(lambda: subprocess.run(ready).returncode == 0, "PostgreSQL answers")

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(2)
            self.process.wait()
            self.process = None

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def run(self, command: list[str], input: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run *command* as the account."""
        return subprocess.run([*AS_ACCOUNT, *command], input=input, cwd="/", capture_output=True, text=True)

    def write_accounts(self) -> str:
        """Run the unit of accounts, and return what it has printed."""
        text = (self.directory / "etc/rackwright/postgresql/accounts.sql").read_text()
        done = self.run(self.unit("rackwright-postgresql-accounts"), text)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def sql(self, command: str, database: str = "postgres") -> str:
        """Return the answer to *command* of the administrator."""
        at = ["-h", str(self.directory / "run/postgresql"), "-p", str(self.port), "-d", database]
        done = self.run([str(self.programs / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", *at, "-c", command])
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def connect(self, password: str = PASSWORD, **more: str) -> str:
        """Return the answer to a connection of a client: `1`, or the error."""
        at = {"host": "127.0.0.1", "port": str(self.port), "user": "tracker", "dbname": "mlflow"}
        at |= {"sslmode": "verify-full", "sslrootcert": str(self.authority), **more}
        text = " ".join(f"{name}={value}" for name, value in at.items())
        command = [str(self.programs / "psql"), "-wXAtc", "SELECT 1", text]
        done = subprocess.run(command, env={**os.environ, "PGPASSWORD": password}, capture_output=True, text=True)
        return (done.stdout or done.stderr).strip()

    def back_up(self) -> subprocess.CompletedProcess[str]:
        path = self.directory / "usr/local/sbin/rackwright-postgresql-backup"
        return self.run([str(path)])


def _has_account() -> bool:
    try:
        return pwd.getpwnam(ACCOUNT) is not None
    except KeyError:
        return False
