"""A stand-in of Metrics Server: an aggregated API that says how much each pod of a namespace uses."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.api_tier import HOST, ApiTier
from tests.support.expect import eventually

GROUP, VERSION = "metrics.k8s.io", "v1beta1"
PATH = f"/apis/{GROUP}/{VERSION}"


class MetricsApi:
    """The use of processors that the API reports for each pod."""

    def __init__(self, tier: ApiTier, namespace: str) -> None:
        self.tier, self.namespace = tier, namespace
        self.millicores = 0

    def answer(self, path: str) -> dict[str, Any] | None:
        """Return the answer to a request; None if there is none of that path."""
        if path == PATH:
            verbs = {"namespaced": True, "singularName": "", "verbs": ["get", "list"]}
            resources = [{"name": "pods", "kind": "PodMetrics", **verbs}]
            return {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": f"{GROUP}/{VERSION}",
                "resources": resources,
            }
        if path != f"{PATH}/namespaces/{self.namespace}/pods":
            return None
        pods = self.tier.read("pods", f"--namespace={self.namespace}")["items"]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        usage = {"cpu": f"{self.millicores}m", "memory": "1Mi"}
        items = [
            {
                "metadata": {key: pod["metadata"][key] for key in ("name", "namespace", "labels")},
                "timestamp": now,
                "window": "15s",
                "containers": [{"name": each["name"], "usage": usage} for each in pod["spec"]["containers"]],
            }
            for pod in pods
        ]
        return {"kind": "PodMetricsList", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {}, "items": items}


@contextmanager
def metrics_api(tier: ApiTier, namespace: str) -> Iterator[MetricsApi]:
    """Yield the stand-in once the API of *tier* answers with it."""
    metrics = MetricsApi(tier, namespace)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = metrics.answer(self.path.partition("?")[0])
            content = json.dumps(
                found or {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}
            ).encode()
            self.send_response(200 if found else 404)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer((HOST, 0), Handler)
    server.socket = _tls(tier).wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        service = {"name": "metrics", "namespace": "kube-system", "port": server.server_port}
        tier.set(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "metrics", "namespace": "kube-system"},
                "spec": {"type": "ExternalName", "externalName": "localhost"},
            },
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": f"{VERSION}.{GROUP}"},
                "spec": {
                    "service": service,
                    "group": GROUP,
                    "version": VERSION,
                    "insecureSkipTLSVerify": True,
                    "groupPriorityMinimum": 100,
                    "versionPriority": 100,
                },
            },
        )
        eventually(lambda: "PodMetrics" in tier.ask("get", "--raw", PATH, check=False), "the API has metrics")
        yield metrics
    finally:
        server.shutdown()
        thread.join()


def _tls(tier: ApiTier) -> ssl.SSLContext:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "metrics")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = tier.directory / "metrics.pem"
    private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, *private)
    path.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
