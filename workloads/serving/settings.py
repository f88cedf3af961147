"""How a model is served, complete. ``python -m workloads.serving MODEL --print`` writes one to begin with."""

from ipaddress import ip_address
from typing import Annotated, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from workloads.serving.model import Strict


class Settings(Strict):
    host: str = "127.0.0.1"
    """The address that it listens on."""
    port: Annotated[int, Field(ge=0, lt=65536)] = 8080
    """0 takes a free one, which the log tells."""
    keys: str | None = None
    """File of API keys, as `python -m workloads.serving.keys` writes its lines."""
    anybody: bool = False
    """Serve without keys beyond this computer."""
    tls_certificate: str | None = None
    """File of the certificate and those that vouch for it, PEM; None: HTTP without TLS."""
    tls_key: str | None = None
    """File of its private key, PEM."""
    tls_client_authorities: str | None = None
    """File of the authorities one of which has to vouch for a client; None: clients need no certificate."""
    own_socket: str | None = None
    """Path of a Unix socket on which it answers as well, for the questions of its own host; without TLS."""
    watch: str | None = None
    """File in which a watch notes how much of a canary is right; /metrics tells it."""
    threads: Annotated[int, Field(ge=0)] = 0
    """That one inference may use; 0: as many as there are cores, and for a language model one less."""
    max_batch: PositiveInt = 32
    """Rows that are computed at once, and the most that a request may have."""
    parallel: Annotated[int, Field(ge=1, le=256)] = 4
    """Answers that a language model writes at once."""
    context_tokens: PositiveInt = 4096
    """Of a prompt and its answer together; memory for so many is taken for each of `parallel`."""
    tensor_parallel: PositiveInt = 1
    """GPUs over which vLLM divides a model; 1 for others."""
    queue: PositiveInt = 256
    """Requests that may wait; a further one gets 429 and is told when to come back."""
    deadline_seconds: PositiveFloat = 30
    """From the last byte of a request to its answer, of one that is streamed to its first piece; a request may say
    less where its protocol lets it."""
    body_bytes: PositiveInt = 16 << 20
    """The most that a request's body may have."""
    body_seconds: PositiveFloat = 30
    """How long a client may take to send it."""
    head_seconds: PositiveFloat = 10
    """How long a client may take to send a request's first lines."""
    idle_seconds: PositiveInt = 75
    """How long a connection stays open without a request: longer than a balancer in front keeps it."""
    connections: PositiveInt = 1024
    """Beyond so many, each gets 503."""
    drain_seconds: NonNegativeFloat = 5
    """How long, after SIGTERM, requests are still taken while /ready says 503: what a balancer takes to notice."""
    stop_seconds: PositiveInt = 30
    """How long, after that, requests under way have for their end."""

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if not self.keys and not self.anybody and not _is_loopback(self.host):
            raise ValueError(
                f"host {self.host} is beyond this computer and keys names no file; name one, or set anybody=true"
            )
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ValueError("tls_certificate and tls_key go together")
        if self.tls_client_authorities and not self.tls_certificate:
            raise ValueError("tls_client_authorities without tls_certificate would keep nobody out")
        return self


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
