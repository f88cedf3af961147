"""The client of a registry of container images, which sends images there.

Source: OCI distribution specification, "Push".
"""

import base64
import http.client
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from rackwright.endpoints.oci_archive import Descriptor, Manifest, OciArchive
from rackwright.errors import ChangeRefused, Diagnostic, EndpointUnreachable, StepFailed, one_line
from rackwright.foreign import EndableConnection, excerpt, parse_object, read_bounded
from rackwright.progress import Progress

CONNECT_SECONDS = 30
ANSWER_SECONDS = 600
"""Time for one answer: a registry reads a layer again before it confirms it."""
LOWEST_RATE = 4 << 10
"""Lowest accepted rate of a body in bytes per second, beyond the time of an answer."""
ANSWER_BYTES = 64 << 10
"""Maximum size of an answer: a push gets none but errors."""
_MESSAGE_LONGEST = 300
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class PushResult:
    """An image in a registry."""

    reference: str
    """The name by which hosts pull it, with its digest."""
    sent: int
    """Layers and configurations that were sent."""
    present: int
    """Layers and configurations that the registry had."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class RegistryClient:
    """An account's connection to a registry."""

    def __init__(
        self,
        url: str,
        authority: str,
        account: str,
        password: str,
        proxy: str | None = None,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        """
        Args:
            url: Address of the registry, with https.
            authority: Certificate of the authority of the registry, in PEM.
            proxy: The address of an HTTP proxy that reaches it; None for none.
        """
        self._url, self._account, self._proxy = url, account, proxy
        self._answer_seconds = answer_seconds
        self.name = urlsplit(url).netloc
        """Name of the registry in the names of images."""
        self._context = ssl.create_default_context(cadata=authority)
        self._authorization = "Basic " + base64.b64encode(f"{account}:{password}".encode()).decode()

    def push(self, archive: OciArchive, repository: str, tag: str, progress: Progress) -> PushResult:
        """Send the image of *archive* as *repository* with *tag*; parts that the registry has are not sent again.

        Raises:
            ChangeRefused: The registry refuses the account.
            DeclarationError: A part of the archive is damaged. Nothing of it is in the registry.
            EndpointUnreachable: No answer.
            StepFailed: The registry refused a request, or has another content under a digest.
        """
        blobs = archive.manifest.all_blobs()
        sent = 0
        for number, blob in enumerate(blobs.values(), start=1):
            is_present = self._has(repository, blob)
            action = "is in the registry already" if is_present else "is sent"
            progress(f"part {number} of {len(blobs)}, {blob.size} bytes: {action}")
            if not is_present:
                with archive.open_blob(blob) as content:
                    self._send(repository, blob, content)
                sent += 1
        self._send_manifest(repository, archive.manifest, tag)
        digest = archive.manifest.descriptor.digest
        return PushResult(f"{self.name}/{repository}@{digest}", sent, len(blobs) - sent)

    def _has(self, repository: str, blob: Descriptor) -> bool:
        answer = self._request("HEAD", f"/v2/{repository}/blobs/{blob.digest}")
        if answer.status == HTTPStatus.NOT_FOUND:
            return False
        self._expect(answer, HTTPStatus.OK, f"look for {blob.digest}")
        if (size := one_line(str(answer.headers.get("content-length"))[:40])) != str(blob.size):
            problem = f"the registry has {blob.digest} with {size} bytes"
            help = "Stop the registry, remove the file of that digest from its directory, start it and push again"
            raise StepFailed(Diagnostic(self._url, problem, f"{blob.size} bytes", help))
        return True

    def _send(self, repository: str, blob: Descriptor, content: IO[bytes]) -> None:
        answer = self._request("POST", f"/v2/{repository}/blobs/uploads/", headers={"Content-Length": "0"})
        self._expect(answer, HTTPStatus.ACCEPTED, "begin to send a part")
        own, other = urlsplit(self._url), self._location(answer)
        if (own.scheme, own.netloc) != (other.scheme, other.netloc):  # the password would reach another server
            problem, expected = f"the registry wants parts at {other.netloc}", f"an address of {own.netloc}"
            raise StepFailed(Diagnostic(self._url, problem, expected, "Correct the address in the registry's settings"))
        joint = "&" if other.query else ""
        target = f"{other.path}?{other.query}{joint}digest={quote(blob.digest, safe='')}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
        answer = self._request("PUT", target, content, headers)
        self._expect(answer, HTTPStatus.CREATED, f"take {blob.digest}")
        self._compare(answer, blob.digest)

    def _location(self, answer: _Answer) -> SplitResult:
        """Return the address in the headers of *answer*.

        Raises:
            StepFailed: it is none.
        """
        text = answer.headers.get("location", "")
        try:
            if not (text.isascii() and text.isprintable() and " " not in text):
                raise ValueError("an address has printable ASCII characters alone")
            return urlsplit(urljoin(self._url, text))
        except ValueError:
            problem = f"the registry wants parts at {excerpt(text)}, which is no address"
            raise StepFailed(Diagnostic(self._url, problem, help="Check what answers at this address")) from None

    def _send_manifest(self, repository: str, manifest: Manifest, reference: str) -> None:
        """Send *manifest* after its children, which have no tag."""
        for child in manifest.children:
            self._send_manifest(repository, child, child.descriptor.digest)
        headers = {"Content-Type": manifest.descriptor.media_type, "Content-Length": str(len(manifest.content))}
        answer = self._request("PUT", f"/v2/{repository}/manifests/{reference}", manifest.content, headers)
        self._expect(answer, HTTPStatus.CREATED, f"take the manifest of {reference}")
        self._compare(answer, manifest.descriptor.digest)

    def _compare(self, answer: _Answer, digest: str) -> None:
        actual = one_line(str(answer.headers.get("docker-content-digest"))[:_MESSAGE_LONGEST])
        if actual != digest:
            problem, help = f"the registry answers with the digest {actual}", "Check what answers at this address"
            raise StepFailed(Diagnostic(self._url, problem, digest, help))

    def _expect(self, answer: _Answer, status: int, action: str) -> None:
        """Raise the error of *answer* unless it has *status*."""
        if answer.status == status:
            return
        if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            problem, expected = (
                f"the registry refuses the account {self._account}",
                "a declared account with its password",
            )
            raise ChangeRefused(Diagnostic(self._url, problem, expected, "Correct the account or the password"))
        problem = f"the registry refused to {action}: {_format_errors(answer)}"
        raise StepFailed(Diagnostic(self._url, problem, help="Check the log of `registry.service` on its host"))

    def _request(
        self, method: str, target: str, body: IO[bytes] | bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> _Answer:
        own = urlsplit(self._url)
        host, port = own.hostname or "", own.port or 443
        via = urlsplit(self._proxy) if self._proxy else own
        seconds = self._answer_seconds
        connection = EndableConnection(
            via.hostname or "", via.port or 443, self._context, CONNECT_SECONDS, seconds, blocksize=_BLOCK
        )
        if self._proxy:
            connection.set_tunnel(host, port)
        try:
            given = {"Authorization": self._authorization, "Host": own.netloc, **(headers or {})}
            with connection.end_after(seconds):
                connection.connect()
            with connection.end_after(seconds + int(given.get("Content-Length", 0)) / LOWEST_RATE):
                connection.request(method, target, body, given)
            with connection.end_after(seconds):
                answer = connection.getresponse()
                content = read_bounded(answer, ANSWER_BYTES)
            return _Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, content)
        except (OSError, http.client.HTTPException, ValueError) as error:  # InvalidData and codecs among them
            reason = one_line(str(error) or type(error).__name__)[:_MESSAGE_LONGEST]
            problem, note = f"no answer: {reason}", "parts that were sent stay, and are not sent again"
            help = "Check the address, the network and the certificate, and run the same command again"
            raise EndpointUnreachable(Diagnostic(self._url, problem, help=help, note=note)) from error
        finally:
            connection.close()


def _format_errors(answer: _Answer) -> str:
    """Return the errors in the body of *answer*, or its status."""
    try:
        errors = parse_object(answer.body, ANSWER_BYTES)["errors"]
        text = "; ".join(f"{each['code']}: {each['message']}" for each in errors)
    except (ValueError, KeyError, TypeError):
        text = ""
    return one_line(text[:_MESSAGE_LONGEST]) or f"status {answer.status}"
