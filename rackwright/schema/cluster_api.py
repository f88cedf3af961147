"""The API of a cluster of Kubernetes that others made, as a kubeconfig has it: address, authority and token."""

from typing import Annotated

from pydantic import AfterValidator

from rackwright.schema.base import Schema
from rackwright.schema.certificate import Certificate
from rackwright.schema.formats import FORMATS, parse_url
from rackwright.schema.problem import Problem
from rackwright.schema.secret import Key, name_of

TOKEN_SHORTEST = 16
"""Minimum length of a token: each request carries it, and a shorter one can be guessed."""


def _url(text: str) -> str:
    if wrong := FORMATS["url"].problem(text):
        raise wrong
    address = parse_url(text)
    if address.scheme != "https":
        expected = "an address that begins with https://: the token could be read on its way"
        raise Problem(f"got {text!r}", expected, "Write the https address that the kubeconfig names as `server`")
    if address.username is not None or address.query or address.fragment:
        expected = "an address without an account, a query or a fragment"
        raise Problem("got an address with more than a server and a path", expected, "Write it like https://HOST:6443")
    return text.rstrip("/")


class ClusterApi(Schema):
    """The API of a cluster, with the account that reads it."""

    url: Annotated[str, AfterValidator(_url)]
    """Address of the API with https, which a kubeconfig names as `server`."""
    ca: Certificate | None = None
    """Certificate of the authority that signed the API's certificate, in PEM; by default those of this computer."""
    token: Key
    """Secret with the bearer token of an account that reads the cluster: `{secret: NAME}`."""

    @property
    def secret(self) -> str:
        """The name of the secret."""
        return str(name_of(self.token))
