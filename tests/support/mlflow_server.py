"""The server that the role mlflow puts on a host, from the same files, on a port of the loopback interface."""

import os
import re
import shlex
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from rackwright.core.repository import Repository
from rackwright.kinds.role.promise import promises
from rackwright.kinds.role.spec import AboutFleet, AboutHost, RoleSpec
from tests.support.our_roles import REPOSITORY
from tests.support.preloaded import preloaded
from workloads.tracking.server import CERTIFICATE, NAME, PASSWORD, TrackingServer, connect

FUNCTIONS = {"tina": "trainer", "rita": "reviewer", "axel": "auditor", "gate": "serving"}
PLACES = ("/etc/rackwright/mlflow", "/opt/rackwright/mlflow", "/var/lib/mlflow")


class ServedModel:
    """Running from the beginning of the ``with`` block to its end; its accounts are those of `FUNCTIONS` and an admin.

    Everything of it lies in *directory*, and its processes are ours: there is no systemd here.
    """

    def __init__(self, directory: Path, python: Path) -> None:
        """
        Args:
            python: Interpreter of an environment with the packages of the role's lock; the processes that the role
                starts are forks of one that has imported MLflow with their variables.
        """
        self.directory, self.python = directory, python
        self._stack = ExitStack()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"https://localhost:{self.port}"
        self.passwords = {name: f"{name}-has-her-own-word" for name in (*FUNCTIONS, "admin")}
        self.certificate = self._place("/etc/rackwright/mlflow/tls.crt")

    def __enter__(self) -> Self:
        self._lay()
        program = preloaded(self.python, self.directory, ("mlflow.cli", "mlflow.server.auth"), self._environment)
        self.python = self._stack.enter_context(program)
        self.accounts()
        unit = self._place("/etc/systemd/system/mlflow.service").read_text().replace("\\\n", " ")
        [line] = re.findall(r"^ExecStart=\S+ (.*)$", unit, re.MULTILINE)
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self.python), *shlex.split(line)], env=self._environment, cwd=self._state, stdout=log, stderr=log
            )
        try:
            answers = [str(self.python), str(self._place("/opt/rackwright/mlflow/answers.py"))]
            subprocess.run(answers, check=True, timeout=900)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._stack.close()

    def accounts(self) -> str:
        """Apply the declared accounts, as the role's unit does, and return the reported changes."""
        passwords = self._place("/etc/rackwright/mlflow/accounts.json").read_text()
        argv = [str(self.python), str(self._place("/opt/rackwright/mlflow/accounts.py"))]
        done = subprocess.run(
            argv, input=passwords, env=self._environment, cwd=self._state, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def environment(self, name: str) -> dict[str, str]:
        """Return the variables by which a client is *name*."""
        return {NAME: name, PASSWORD: self.passwords[name], CERTIFICATE: str(self.certificate)}

    def as_(self, name: str) -> TrackingServer:
        return connect(self.url, self.environment(name))

    # --- how it comes to be

    @property
    def _state(self) -> Path:
        return self._place("/var/lib/mlflow")

    @property
    def _environment(self) -> dict[str, str]:
        lines = self._place("/etc/rackwright/mlflow/server.env").read_text().splitlines()
        content = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
        return {**os.environ, **content, "MLFLOW_FLASK_SERVER_SECRET_KEY": "of this test"}

    def _place(self, path: str) -> Path:
        return self.directory / path.lstrip("/")

    def _lay(self) -> None:
        """Write the role's files, and make the certificate as its tasks do."""
        for file in promises(self._spec(), self._repository()).files:
            text = str(file.content)
            for place in PLACES:
                text = text.replace(place, str(self._place(place)))
            self._place(file.file).parent.mkdir(parents=True, exist_ok=True)
            self._place(file.file).write_text(text)
        (self._state / "artifacts").mkdir(parents=True, exist_ok=True)
        made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]
        made += ["-days", "2", "-config", "tls.cnf", "-keyout", "tls.key", "-out", "tls.crt"]
        subprocess.run(made, cwd=self.certificate.parent, check=True, capture_output=True)

    def _spec(self) -> RoleSpec:
        users = [{"name": name, "function": function, **_secret(name)} for name, function in FUNCTIONS.items()]
        variables = {"port": self.port, "workers": 1, "admin": {"name": "admin", **_secret("admin")}, "users": users}
        return RoleSpec(
            host="alpha",
            role="mlflow",
            identity={"serial": "S1"},
            about=AboutHost(name="alpha", os="debian-12", profile="virtual"),
            fleet=AboutFleet(name="lab"),
            variables=variables,
        )

    def _repository(self) -> Repository:
        values = {f"mlflow_{name}": password for name, password in self.passwords.items()}
        return Repository(REPOSITORY.templates, REPOSITORY.roles, REPOSITORY.salt, values)


def _secret(name: str) -> dict[str, Any]:
    return {"password": {"secret": f"mlflow_{name}"}}
