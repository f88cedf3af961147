"""The program that answers with the health of a host's services: each is asked at its health URL, as a client does.

systemd starts it for each connection to its Unix socket, which the account of the metrics proxy alone can reach. It has
an account of its own without rights, and no login to any service.
"""

from __future__ import annotations

import functools
import http.client
import json
import ssl
import sys
import time
from collections.abc import Iterator
from typing import Any

from rackwright.facts.metrics_text import Sample, collect, is_unknown, number_of, respond_with, to_text
from rackwright.facts.probe.isolate import isolate_all
from rackwright.facts.probe.observe import ReadError, read

SERVICES = "/etc/rackwright/health_exporter/services.json"
SERVICES_MAX = 64
SECONDS = 8
"""Time limit of all services together: Prometheus waits 10 s."""
CONNECT_SECONDS = 5
SERVER_ERROR = 500
"""The least status of an answer by which a service, or a balancer without a member, says that it cannot serve."""


def respond(path: str = SERVICES) -> None:
    """Answer one HTTP request of the proxy on standard input and output."""
    respond_with(lambda: metrics(json.loads(read(path))))


def metrics(services: list[dict[str, Any]]) -> str:
    """Return the health of *services* in Prometheus's text format."""
    readers = {each["service"]: functools.partial(check, each) for each in services[:SERVICES_MAX]}
    return to_text(collect(samples, isolate_all(readers, SECONDS).items()))


def check(service: dict[str, Any]) -> float:
    """Return the seconds until a service has answered as it should.

    Args:
        service: Its address, port and path; and the path of the certificate that it serves, if it has TLS.

    Raises:
        ReadError: it has another certificate, or answers with an error of its own.
    """
    began = time.monotonic()
    client = connection(service["address"], service["port"], bool(service["certificate"]))
    try:
        client.connect()
        # the certificate itself, so that no name or authority decides: another account may have taken the port
        if service["certificate"] and client.sock.getpeercert(binary_form=True) != leaf(read(service["certificate"])):
            raise ReadError(f"it has another certificate than {service['certificate']}")
        client.request("GET", service["path"], headers={"connection": "close"})
        status = client.getresponse().status
    finally:
        client.close()
    if status >= SERVER_ERROR:
        raise ReadError(f"it answers {status}")
    return time.monotonic() - began


def connection(address: str, port: int, encrypted: bool) -> Any:
    if not encrypted:
        return http.client.HTTPConnection(address, port, timeout=CONNECT_SECONDS)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(address, port, timeout=CONNECT_SECONDS, context=context)


def leaf(text: str) -> bytes:
    """Return the first certificate of *text*, without the encoding of PEM."""
    return ssl.PEM_cert_to_DER_cert(text[: text.index(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)])


def samples(service: str, seconds: Any) -> Iterator[Sample]:
    """Yield the samples of one service, whose answer took *seconds*, or is unknown with a reason."""
    labels = {"service": service}
    if is_unknown(seconds):
        print(f"{service}: {seconds['unknown']}", file=sys.stderr)  # the journal has the reason
    yield "rackwright_service_up", labels, float(not is_unknown(seconds))
    if (value := number_of({"seconds": seconds}, "seconds")) is not None:
        yield "rackwright_service_seconds", labels, round(value, 3)
