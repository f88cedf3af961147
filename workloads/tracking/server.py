"""An MLflow server, asked over its REST interface, without its client library. Source: MLflow 3.17, REST API.

The library takes 50 packages and two seconds to import, in every process of a run, for the dozen questions we have.
"""

import base64
import configparser
import json
import os
import ssl
import stat
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlencode, urlsplit

from workloads.errors import WorkloadError
from workloads.http_client import LOOPBACK, HttpClient, redirect_target

API = "/api/2.0/mlflow/"
FILES = "/api/2.0/mlflow-artifacts/artifacts/"
SECONDS = 30
"""How long an answer, or the next part of it, is waited for."""
URL, NAME, PASSWORD, CERTIFICATE = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_SERVER_CERT_PATH",
)
"""Variables of the environment, as MLflow's own client has them."""
CREDENTIALS = "RACKWRIGHT_TRACKING_CREDENTIALS"
"""The path of a file in the form of MLflow's ``~/.mlflow/credentials``; without it, that one."""
AT_HOME = (".mlflow", "credentials")
ANSWER_BYTES = 64 << 20
"""The most that an answer in JSON may have."""


class NotReached(WorkloadError):
    """The server does not answer, or not as one."""

    exit_status = 3


class Refused(WorkloadError):
    """The server will not have it: who asks, or what."""

    def __init__(self, where: str, got: str, want: str, fix: str, status: int = 0) -> None:
        super().__init__(where, got, want, fix)
        self.status = status
        """Of HTTP; 0 where we did not get to ask."""


class Server:
    """A server, and who we are there."""

    def __init__(self, url: str, name: str = "", password: str = "", certificate: str = "") -> None:
        """
        Args:
            certificate: Path of those that are trusted, in PEM, be they the server's own or its authority's; empty:
                those that this computer trusts.
        """
        self.url = url.rstrip("/")
        self._head = {"User-Agent": "rackwright"}
        if name:
            self._head["Authorization"] = "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
        trusted = ssl.create_default_context(cafile=certificate or None)
        if certificate:
            trusted.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        self._client = HttpClient(urlsplit(url).hostname or "", trusted)

    def get(self, what: str, **query: str) -> dict[str, Any]:
        """Return the answer to a question: ``runs/get``.

        Raises:
            NotReached: nobody answers.
            Refused: it is refused, or about something that is not there (`status` 404).
        """
        return self._told(self._asked("GET", f"{API}{what}?{urlencode(query)}"))

    def post(self, what: str, **body: Any) -> dict[str, Any]:
        """Return the answer to a request with a *body*; raises as `get` does."""
        text = json.dumps(body, allow_nan=False).encode()
        return self._told(self._asked("POST", f"{API}{what}", text, {"Content-Type": "application/json"}))

    def put_file(self, place: str, file: Path) -> None:
        """Let the server have *file* as an artifact, at ``EXPERIMENT/RUN/artifacts/…``."""
        with file.open("rb") as content:
            length = {"Content-Length": str(file.stat().st_size), "Content-Type": "application/octet-stream"}
            self._asked("PUT", FILES + quote(place), content, length).close()

    def get_file(self, place: str, target: Path, most: int) -> None:
        """Write the artifact at *place* to *target*.

        Raises:
            NotReached: it has more than *most* bytes; nothing is left of it.
        """
        with self._asked("GET", FILES + quote(place)) as answer, target.open("wb") as file:
            while part := answer.read(1 << 20):
                if file.tell() + len(part) > most:
                    target.unlink()
                    want = f"{place} has at most {most} bytes"
                    raise NotReached(self.url, "got a longer file", want, "Check who has changed this artifact")
                file.write(part)

    def _asked(
        self, method: str, path: str, body: bytes | IO[bytes] | None = None, head: Mapping[str, str] | None = None
    ) -> Any:
        headers = {**self._head, **(head or {})}
        request = urllib.request.Request(self.url + path, body, headers, method=method)  # noqa: S310 - HTTP only
        try:
            return self._client.send(request, SECONDS)
        except urllib.error.HTTPError as error:
            raise self._refused(error) from None
        except (OSError, ValueError) as error:
            got = f"got {getattr(error, 'reason', None) or error}"
            fix = f"Look whether it runs, and whether {CERTIFICATE} names its certificate"
            raise NotReached(self.url, got, "an MLflow server answers there", fix) from None

    def _refused(self, error: urllib.error.HTTPError) -> WorkloadError:
        if place := redirect_target(error):
            got, want = (
                f"got {error.code}, a redirect to {place}",
                "the server answers itself, without a redirect",
            )
            return Refused(self.url, got, want, f"Set {URL} to the server's own address", error.code)
        said = error.read(2000).decode(errors="replace").strip()
        try:
            said = json.loads(said)["message"]
        except (ValueError, KeyError, TypeError):
            said = said.partition("\n")[0]
        got = f"got {error.code}: {said or error.reason}"
        if error.code >= 500 or error.code == 429:
            return NotReached(self.url, got, "an MLflow server answers there", "Look at its journal")
        if error.code == 401:
            fix = f"Set {NAME} and {PASSWORD}, or name a file with them in {CREDENTIALS}"
            return Refused(self.url, got, "it answers those who have an account", fix, error.code)
        want = "the account may do that, and what it is about is there"
        return Refused(self.url, got, want, "Ask whoever runs the server, or name another", error.code)

    def _told(self, answer: Any) -> dict[str, Any]:
        with answer:
            said = answer.read(ANSWER_BYTES + 1)
        try:
            told = json.loads(said or b"{}") if len(said) <= ANSWER_BYTES else None
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict):
            fix = f"Name the server itself in {URL}"
            raise NotReached(self.url, f"got {said[:40]!r}", "an MLflow server answers in JSON", fix)
        return told


def connect(url: str, environment: Mapping[str, str]) -> Server:
    """Return the server at *url*, with the account that *environment* or a file of credentials has; asks nothing yet.

    Raises:
        Refused: the address is none, a password would travel in the open, or others can read the file.
    """
    try:
        parts = urlsplit(url)
        named = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.username
    except ValueError:
        named = False
    if not named:
        fix = f"Write it like https://tracking.example:5000; the account goes into {CREDENTIALS}"
        raise Refused(
            "tracking", f"got {url.rpartition('@')[2]}", "a server is named by its URL, without an account", fix
        )
    name, password = environment.get(NAME, ""), environment.get(PASSWORD, "")
    if not name:
        name, password = _from_file(environment)
    if name and parts.scheme == "http" and parts.hostname not in LOOPBACK:
        want = "a password goes to another host by https alone"
        raise Refused("tracking", f"got {url}", want, f"Write https://{parts.netloc}")
    certificate = environment.get(CERTIFICATE, "")
    if certificate and not Path(certificate).is_file():
        want = "it names a file of certificates in PEM"
        raise Refused(CERTIFICATE, f"got {certificate}", want, "Take tls.crt of the server's host")
    return Server(url, name, password, certificate)


def _from_file(environment: Mapping[str, str]) -> tuple[str, str]:
    """Return name and password from the file of credentials; empty where there is none."""
    given = environment.get(CREDENTIALS, "")
    path = Path(given) if given else Path(environment.get("HOME", "/nonexistent"), *AT_HOME)
    try:
        with path.open() as file:
            found = os.fstat(file.fileno())
            # a group that root lets read it is of root's choosing
            others = stat.S_IMODE(found.st_mode) & (0o037 if found.st_uid == 0 else 0o077)
            text = file.read()
    except FileNotFoundError:
        if given:
            raise Refused(CREDENTIALS, f"got {path}: no such file", "it names a file", "Correct the path") from None
        return "", ""
    except OSError as error:
        raise Refused(str(path), f"got {error.strerror}", "it can be read", "Let its owner be who trains") from None
    if others:
        want = "only its owner can read it"
        raise Refused(str(path), "got a file that others may read or write", want, f"Run `chmod 0600 {path}`")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
        account = parser["mlflow"]
        return account["mlflow_tracking_username"], account["mlflow_tracking_password"]
    except (configparser.Error, KeyError):
        want = "it says [mlflow], mlflow_tracking_username = … and mlflow_tracking_password = …"
        raise Refused(str(path), "got no account in it", want, "Write these three lines") from None
