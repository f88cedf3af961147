"""The check that each private key belongs to the certificate beside it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rackwright.errors import Diagnostic
from rackwright.schema import secret

if TYPE_CHECKING:
    from rackwright.stack.stack import Stack


@dataclass(frozen=True)
class KeyPair:
    """A private key and its certificate in the declaration."""

    place: str
    """Place of the key, such as ``hosts.HOST.roles.registry.key``."""
    key: str
    """Name of the secret with the key."""
    certificate: Any
    """The certificate in PEM, or the reference to a secret with it."""

    @property
    def secrets(self) -> frozenset[str]:
        """Names of the secrets that the check needs."""
        names = (self.key, secret.name_of(self.certificate))
        return frozenset(name for name in names if name is not None)


def key_pairs(stack: "Stack") -> Iterator[KeyPair]:
    """Yield the keys of roles, as `key_pairs` in their ``meta/claims.yml`` says, and those of servers."""
    for name, server in stack.fleet.servers.items():
        if server.tls:
            yield KeyPair(f"servers.{name}.tls.key", secret.name_of(server.tls.key), server.tls.certificate)
    if stack.fleet.uses:
        return  # the other fleet has the roles of its hosts
    for host, spec in stack.fleet.hosts.items():
        for role, variables in spec.roles.items():
            for key, certificate in stack.repository.roles[role].key_pairs.items():
                pair = (variables or {}).get(key), (variables or {}).get(certificate)
                if (name := secret.name_of(pair[0])) and pair[1]:
                    yield KeyPair(f"hosts.{host}.roles.{role}.{key}", name, pair[1])


def key_pair_problems(stack: "Stack", values: Mapping[str, str]) -> Iterator[Diagnostic]:
    """Yield an error for each key of another certificate, where *values* of secrets, by name, has what it needs.

    A value of another form is left to the check of forms.
    """
    for pair in key_pairs(stack):
        if not pair.secrets <= values.keys():
            continue
        reference = secret.name_of(pair.certificate)
        certificate = values[reference] if reference else str(pair.certificate)
        if _belongs(values[pair.key], certificate):
            continue
        form = secret.FORMS["private_key"]
        problem = f"the secret {pair.key} is the key of another certificate than the declared one"
        expected = "the private key of the first certificate beside it"
        yield Diagnostic(pair.place, problem, expected, form.help(stack.name, pair.key))


def _belongs(key: str, certificate: str) -> bool:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from cryptography.x509 import load_pem_x509_certificates

    try:
        own = load_pem_x509_certificates(certificate.encode())[0]
        return load_pem_private_key(key.encode(), None).public_key() == own.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return True
