"""A client of MLflow's REST API, without MLflow's client library. Source: MLflow 3.17, REST API.

The library needs 50 packages and two seconds to import in each process of a run; we use a dozen requests.
"""

import base64
import configparser
import json
import os
import shlex
import ssl
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlencode, urlsplit

from workloads.errors import Diagnostic, UserError
from workloads.foreign import InvalidData, parse_object, read_bounded, within
from workloads.http_client import LOOPBACK, HttpClient, redirect_target

API = "/api/2.0/mlflow/"
FILES = "/api/2.0/mlflow-artifacts/artifacts/"
SECONDS = 30
"""Time limit for a response, and for each next part of it."""
URL, NAME, PASSWORD, CERTIFICATE = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_SERVER_CERT_PATH",
)
"""Environment variables, the same as those of MLflow's client."""
CREDENTIALS = "RACKWRIGHT_TRACKING_CREDENTIALS"
"""Variable with the path of a credentials file in MLflow's format; by default ``~/.mlflow/credentials``."""
CREDENTIALS_LONGEST = 1 << 16
AT_HOME = (".mlflow", "credentials")
ANSWER_BYTES = 64 << 20
"""Maximum size of a JSON response."""
ANSWER_VALUES = 2_000_000
"""Maximum number of values in it: a page has up to 50,000 metrics of 4 values."""
ERROR_BYTES = 2000
"""Bytes that are read of the response to a refused request."""
SLOWEST = 100_000
"""Bytes per second below which the download of an artifact ends."""


class TrackingUnreachable(UserError):
    """The server does not respond, or does not respond as an MLflow server."""

    exit_status = 3


class TrackingRefused(UserError):
    """The server, or a check before the request, refuses the account or the request."""

    def __init__(self, diagnostic: Diagnostic, status: int = 0) -> None:
        super().__init__(diagnostic)
        self.status = status
        """HTTP status; 0 if no request was sent."""


class TrackingServer:
    """An MLflow server and an account on it."""

    def __init__(self, url: str, name: str = "", password: str = "", certificate: str = "") -> None:
        """
        Args:
            certificate: Path of trusted certificates in PEM, the server's own or its authority's; empty for those that
                this computer trusts.
        """
        self.url = url.rstrip("/")
        self._head = {"User-Agent": "rackwright"}
        if name:
            self._head["Authorization"] = "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
        trusted = ssl.create_default_context(cafile=certificate or None)
        if certificate:
            trusted.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        self._client = HttpClient(urlsplit(url).hostname or "", trusted)

    def get(self, method: str, **query: str) -> dict[str, Any]:
        """Return the response to a GET request, such as ``runs/get``.

        Raises:
            TrackingUnreachable: The server does not respond.
            TrackingRefused: The server refuses the request, or the object does not exist (`status` 404).
        """
        return self._parse_response(self._request("GET", f"{API}{method}?{urlencode(query)}"))

    def post(self, method: str, **body: Any) -> dict[str, Any]:
        """Return the response to a POST request with *body*; raises the same errors as `get`."""
        text = json.dumps(body, allow_nan=False).encode()
        return self._parse_response(self._request("POST", f"{API}{method}", text, {"Content-Type": "application/json"}))

    def put_file(self, place: str, file: Path) -> None:
        """Upload *file* as an artifact to *place*, ``EXPERIMENT/RUN/artifacts/…``."""
        with file.open("rb") as content:
            length = {"Content-Length": str(file.stat().st_size), "Content-Type": "application/octet-stream"}
            self._request("PUT", FILES + quote(place), content, length).close()

    def get_file(self, place: str, target: Path, most: int) -> None:
        """Download the artifact at *place* to *target*.

        Raises:
            TrackingUnreachable: The artifact has more than *most* bytes; no part of it remains.
        """
        with self._request("GET", FILES + quote(place)) as answer, target.open("wb") as file:
            end = time.monotonic() + SECONDS + most / SLOWEST
            while part := answer.read1(1 << 20):
                if time.monotonic() > end:
                    target.unlink()
                    problem, help = f"the server sends {place} too slowly", "Check the server and the network"
                    raise TrackingUnreachable(Diagnostic(self.url, problem, f"{SLOWEST} bytes per second", help))
                if file.tell() + len(part) > most:
                    target.unlink()
                    problem, expected = f"the server sent too much of {place}", f"at most {most} bytes"
                    help = "Find out who changed this artifact"
                    raise TrackingUnreachable(Diagnostic(self.url, problem, expected, help))
                file.write(part)

    def _request(
        self, method: str, path: str, body: bytes | IO[bytes] | None = None, head: Mapping[str, str] | None = None
    ) -> Any:
        headers = {**self._head, **(head or {})}
        request = urllib.request.Request(self.url + path, body, headers, method=method)  # noqa: S310 - HTTP only
        try:
            return self._client.send(request, SECONDS)
        except urllib.error.HTTPError as error:
            try:
                refusal = self._error_for(error)
            except OSError as broken:
                refusal = self._no_answer(broken)
            raise refusal from None
        except (OSError, ValueError) as error:
            raise self._no_answer(error) from None

    def _no_answer(self, error: Exception) -> TrackingUnreachable:
        problem = f"the MLflow server does not answer: {getattr(error, 'reason', None) or error}"
        help = f"Check that the server runs, and that {CERTIFICATE} names its certificate"
        return TrackingUnreachable(Diagnostic(self.url, problem, help=help))

    def _error_for(self, error: urllib.error.HTTPError) -> UserError:
        if place := redirect_target(error):
            problem = f"the server answers {error.code}, a redirect to {place}"
            help = f"Set {URL} to the server's own address"
            return TrackingRefused(Diagnostic(self.url, problem, "an answer without a redirect", help), error.code)
        message = within(SECONDS, lambda: error.read(ERROR_BYTES)).decode(errors="replace").strip()
        try:
            message = str(parse_object(message)["message"])
        except (ValueError, KeyError):
            message = message.partition("\n")[0]
        problem = f"the server answers {error.code}: {message or error.reason}"
        if error.code >= 500 or error.code == 429:
            return TrackingUnreachable(Diagnostic(self.url, problem, help="Read the journal of the server"))
        if error.code == 401:
            help = f"Set {NAME} and {PASSWORD}, or name a file with them in {CREDENTIALS}"
            return TrackingRefused(Diagnostic(self.url, problem, "an account of the server", help), error.code)
        expected = "an object that exists, and that the account may use"
        help = "Ask the server's operator, or name another object"
        return TrackingRefused(Diagnostic(self.url, problem, expected, help), error.code)

    def _parse_response(self, answer: Any) -> dict[str, Any]:
        try:
            with answer:
                content = read_bounded(answer, ANSWER_BYTES, time.monotonic() + SECONDS)
            return parse_object(content or b"{}", ANSWER_BYTES, max_items=ANSWER_VALUES, lenient=True)
        except InvalidData as error:
            problem, help = f"the answer is not from an MLflow server: {error}", f"Name the server itself in {URL}"
            raise TrackingUnreachable(Diagnostic(self.url, problem, "JSON", help)) from None
        except (OSError, HTTPException) as error:
            raise self._no_answer(error) from None


def connect(url: str, environment: Mapping[str, str]) -> TrackingServer:
    """Return the server at *url* with the account in *environment* or in a credentials file, without a request.

    Raises:
        TrackingRefused: The address is invalid, the password would be sent unencrypted, or other accounts can read the
            credentials file.
    """
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.username
    except ValueError:
        is_valid = False
    if not is_valid:
        help = f"Write it like https://tracking.example:5000, and put the account into {CREDENTIALS}"
        problem = f"{url.rpartition('@')[2] or 'an empty text'} is not a URL of a server"
        raise TrackingRefused(Diagnostic("tracking", problem, "a URL without an account", help))
    name, password = environment.get(NAME, ""), environment.get(PASSWORD, "")
    if not name:
        name, password = _from_file(environment)
    if name and parts.scheme == "http" and parts.hostname not in LOOPBACK:
        problem, note = f"{url} is not encrypted", "a password is sent to another host over https only"
        raise TrackingRefused(Diagnostic("tracking", problem, "https", f"Write https://{parts.netloc}", note))
    certificate = environment.get(CERTIFICATE, "")
    if certificate and not Path(certificate).is_file():
        problem, expected = f"{certificate} is not a file", "a file of certificates in PEM"
        raise TrackingRefused(Diagnostic(CERTIFICATE, problem, expected, "Name tls.crt of the server's host"))
    return TrackingServer(url, name, password, certificate)


def _from_file(environment: Mapping[str, str]) -> tuple[str, str]:
    """Return name and password from the credentials file; empty if there is none."""
    configured = environment.get(CREDENTIALS, "")
    path = Path(configured) if configured else Path(environment.get("HOME", "/nonexistent"), *AT_HOME)
    try:
        with path.open() as file:
            status = os.fstat(file.fileno())
            # root may let a group read its file
            access_of_others = stat.S_IMODE(status.st_mode) & (0o037 if status.st_uid == 0 else 0o077)
            text = file.read(CREDENTIALS_LONGEST)
    except FileNotFoundError:
        if configured:
            problem = f"the file {path} does not exist"
            raise TrackingRefused(Diagnostic(CREDENTIALS, problem, help="Correct the path")) from None
        return "", ""
    except OSError as error:
        problem = f"the file cannot be read: {error.strerror}"
        raise TrackingRefused(Diagnostic(str(path), problem, help="Make this account its owner")) from None
    if access_of_others:
        problem, help = "other accounts may read or write the file", f"Run `chmod 0600 {shlex.quote(str(path))}`"
        raise TrackingRefused(Diagnostic(str(path), problem, "a file that only its owner can read", help))
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
        account = parser["mlflow"]
        return account["mlflow_tracking_username"], account["mlflow_tracking_password"]
    except (configparser.Error, KeyError):
        expected = "[mlflow], mlflow_tracking_username = … and mlflow_tracking_password = …"
        help = "Write these three lines"
        raise TrackingRefused(Diagnostic(str(path), "the file has no account", expected, help)) from None
