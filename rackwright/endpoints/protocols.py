"""The table of protocols, with the function that connects to an endpoint of each."""

from collections.abc import Callable, Mapping

from rackwright.core.contract import EndpointProtocol
from rackwright.endpoints import kubernetes, s3
from rackwright.endpoints.pool import EndpointClient, Endpoints
from rackwright.stack import Stack

PROTOCOLS: Mapping[EndpointProtocol, Callable[[Stack, str], EndpointClient]] = {
    "s3": s3.connect,
    "kubernetes": kubernetes.connect,
}
"""A function of a stack and an endpoint's name for each protocol. A new protocol is a row here, a word of
EndpointProtocol, a reader beside s3.py, and the view of its facts in rackwright/facts."""


def open_endpoints(stack: Stack) -> Endpoints:
    """Return the endpoints of *stack*, each connected at its first use."""
    return Endpoints(lambda source: PROTOCOLS[source.protocol](stack, source.name))
