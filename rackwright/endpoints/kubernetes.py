"""The client of a cluster's API, which reads the facts of a cluster that others made. It changes nothing there."""

import http.client
import re
import ssl
from http import HTTPStatus
from typing import Any, NoReturn
from urllib.parse import urlsplit

from rackwright import __version__
from rackwright.core.contract import Call
from rackwright.endpoints import kubernetes_facts
from rackwright.endpoints.kubernetes_facts import AnswerRefused
from rackwright.errors import Diagnostic, EndpointUnreachable, StepFailed
from rackwright.facts.facts import Facts
from rackwright.foreign import EndableConnection, InvalidData, TooLarge, parse_json, parse_object, read_bounded
from rackwright.schema.cluster_api import ClusterApi
from rackwright.schema.secret import setting_command
from rackwright.stack import Stack

CONNECT_SECONDS = 5
ANSWER_SECONDS = 20
"""Time between two parts of an answer; a question of the probe has the same."""
READING_SECONDS = 120
"""Time for all questions together."""
ANSWER_LONGEST = 32 << 20
"""Bytes of one answer, of at most kubernetes_facts.PAGE_ITEMS objects."""
ANSWER_VALUES = 2_000_000
"""Values of one answer; an object with its managed fields has about 1,000."""
READING_LONGEST = 512 << 20
"""Bytes of all answers together: those about 5,000 nodes are about 150 MiB."""
_REASON_LONGEST = 300
_TOKEN = re.compile(r"[!-~]+")
_NETWORK = "Check the address, the network between, and the certificate in `ca`"


def connect(stack: Stack, name: str) -> "KubernetesClient":
    """Return the client of the cluster *name* of *stack*.

    Raises:
        EndpointUnreachable: The token has no known value, or is none.
    """
    token, api = token_of(stack, name), stack.cluster_apis[name]
    return KubernetesClient(f"kubernetes:{name}", api, token, setting_command(stack.name, api.secret))


def token_of(stack: Stack, name: str) -> str:
    """Return the token of the cluster *name* of *stack*.

    Raises:
        EndpointUnreachable: The stack has no such cluster; or the token has no known value, or is none.
    """
    api, where = stack.cluster_apis.get(name), f"kubernetes:{name}"
    if api is None:
        raise EndpointUnreachable(Diagnostic(where, "the stack has no such API", help="Declare it under clusters"))
    token = stack.repository.secrets.get(api.secret)
    if token is None:
        problem = f"the value of the secret {api.secret} is unknown"
        help = "Run the command where it can read the secrets of the stack"
        raise EndpointUnreachable(Diagnostic(where, problem, help=help))
    token = token.strip()
    if not _TOKEN.fullmatch(token):
        problem, expected = f"the secret {api.secret} is no token", "printable characters without blanks and lines"
        help = f"Run `{setting_command(stack.name, api.secret)}` with the token alone"
        raise EndpointUnreachable(Diagnostic(where, problem, expected, help))
    return token


class _Connection(EndableConnection):
    """A connection that counts the bytes of its answers."""

    received = 0
    """Bytes of all answers until now."""


class KubernetesClient:
    """One account's connection to the API of a cluster. Each reading has a connection of its own."""

    def __init__(
        self,
        where: str,
        api: ClusterApi,
        token: str,
        set_token: str,
        answer_seconds: float = ANSWER_SECONDS,
        reading_seconds: float = READING_SECONDS,
    ) -> None:
        """
        Args:
            where: The cluster in messages.
            set_token: The command that sets another token.
        """
        self._where, self._api, self._token, self._set_token = where, api, token, set_token
        self._answer_seconds, self._reading_seconds = answer_seconds, reading_seconds

    def read(self) -> Facts:
        """Return all facts of the cluster that the account may read."""
        connection = self._connection()
        try:
            with connection.end_after(self._reading_seconds):
                return Facts(kubernetes_facts.read(lambda target: self._get(connection, target)))
        except ssl.SSLCertVerificationError as error:
            problem = f"the certificate of the API is not valid: {error.verify_message}"
            expected = f"one that {'`ca`' if self._api.ca else 'an authority of this computer'} has signed"
            self._unreachable(problem, expected, "Find out what answers there; the token was not sent")
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = (
                f"all questions took more than {self._reading_seconds:g} s" if connection.is_over else _reason(error)
            )
            self._unreachable(f"no answer from the API: {reason}", "", _NETWORK)
        finally:
            connection.close()

    def call(self, id: str, step: Call) -> None:
        """Refuse *step*: others change the cluster."""
        raise StepFailed(Diagnostic(id, "others made the cluster, and it is never changed", help="Change it there"))

    def _connection(self) -> _Connection:
        try:
            context = ssl.create_default_context(cadata=self._api.ca)
        except (ssl.SSLError, ValueError):
            problem, help = "ca has no certificate that can be read", "Write the unchanged file of the authority"
            raise EndpointUnreachable(Diagnostic(self._where, problem, help=help)) from None
        address = urlsplit(self._api.url)
        host, port = address.hostname or "", address.port or 443
        return _Connection(host, port, context, CONNECT_SECONDS, self._answer_seconds)

    def _get(self, connection: _Connection, target: str) -> Any:
        """Return the content of the answer about *target*. No redirect is followed, since the token would go with it.

        Raises:
            AnswerRefused: This question is refused, or its answer cannot be used.
            EndpointUnreachable: The API refuses the token, or what answers is no API.
            OSError: No answer.
        """
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Accept": "application/json",
            "User-Agent": f"rackwright/{__version__}",
        }
        connection.request("GET", urlsplit(self._api.url).path + target, headers=headers)
        answer = connection.getresponse()
        try:
            body = read_bounded(answer, ANSWER_LONGEST)
        except TooLarge:
            body = None
        if connection.is_over:
            raise TimeoutError
        connection.received += ANSWER_LONGEST if body is None else len(body)
        if connection.received > READING_LONGEST:
            problem = f"all answers together are longer than {READING_LONGEST >> 20} MiB"
            self._unreachable(problem, "the lists of a cluster", "Find out what answers at this address")
        if body is None:
            connection.close()  # the rest of the answer is not read
            raise AnswerRefused(f"the answer is longer than {ANSWER_LONGEST >> 20} MiB")
        self._need_api(answer, body)
        if answer.status != HTTPStatus.OK:
            raise AnswerRefused(f"the API answers {_status(answer)}{self._message(body)}")
        try:
            return parse_json(body, ANSWER_LONGEST, max_items=ANSWER_VALUES)
        except InvalidData as error:
            raise AnswerRefused(f"the answer is refused: {error}") from None

    def _need_api(self, answer: http.client.HTTPResponse, body: bytes) -> None:
        """Return if the API of a cluster answers the account.

        Raises:
            EndpointUnreachable: It refuses the token, or another server answers.
        """
        if answer.status == HTTPStatus.UNAUTHORIZED:
            problem = f"the API refuses the token: {_status(answer)}"
            help = f"Find out whether it has expired, and set another one with `{self._set_token}`"
            self._unreachable(problem, "a valid token of an account of this cluster", help)
        if HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST:
            other = _netloc(answer.getheader("Location") or "")
            problem = f"the server sends elsewhere{f', to {_plain(other)}' if other else ''}: {_status(answer)}"
            help = "Write the address that the kubeconfig names as `server`; the token was sent nowhere else"
            self._unreachable(problem, "the API itself", help)
        if answer.status == HTTPStatus.OK and "json" not in answer.getheader("Content-Type", ""):
            problem = f"what answers is no API of Kubernetes: {_status(answer)} without JSON"
            self._unreachable(problem, "an answer in JSON", "Write the address that the kubeconfig names as `server`")

    def _unreachable(self, problem: str, expected: str, help: str) -> NoReturn:
        # the address stands in the note alone, which is in no state
        raise EndpointUnreachable(
            Diagnostic(self._where, problem, expected, help, f"the address is {self._api.url}")
        ) from None

    def _message(self, body: bytes) -> str:
        """Return the message in a Status of the API, such as the right that the account lacks."""
        try:
            message = str(parse_object(body, ANSWER_LONGEST)["message"])
        except (ValueError, KeyError):
            return ""
        return f": {_plain(message.replace(self._token, '(the token)'))}"


def _netloc(address: str) -> str:
    """Return the host and port in an address of others; empty if it is none."""
    try:
        return urlsplit(address).netloc
    except ValueError:
        return ""


def _status(answer: http.client.HTTPResponse) -> str:
    """Return the status of an answer in the words of the standard: a server may send any."""
    try:
        return f"{answer.status} {HTTPStatus(answer.status).phrase}"
    except ValueError:
        return str(answer.status)


def _plain(text: str) -> str:
    """Return *text* of the server in printable characters and of bounded length."""
    return "".join(each if each.isprintable() else " " for each in text[:_REASON_LONGEST])


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    return _plain(str(error) or type(error).__name__)
