"""The settings of a server. ``python -m workloads.serving MODEL --print`` prints them all, to start from."""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from workloads.process_variables import COUNT_MAX, Value, variable_problem
from workloads.serving.model import StrictModel
from workloads.serving.vllm_settings import VllmSettings


class ServingSettings(StrictModel):
    host: str = "127.0.0.1"
    """The address that the server listens on."""
    port: Annotated[int, Field(ge=0, lt=65536)] = 8080
    """The port that the server listens on; 0: a free one, which the log names."""
    grpc_port: Annotated[int, Field(ge=0, lt=65536)] | None = None
    """The port for KServe's protocol over gRPC, on the same address, for models that take arrays; 0: a free one, which
    the log names. None: HTTP alone."""
    keys: str | None = None
    """File of API keys, with lines from `python -m workloads.serving.keys`."""
    quota_counts: str | None = None
    """File (SQLite) with the use of the keys' quotas, so that a restart does not forget it; None: in memory alone."""
    anybody: bool = False
    """Whether clients on other computers may use the server without keys."""
    tls_certificate: str | None = None
    """File of the certificate and its chain, PEM; None: HTTP without TLS."""
    tls_key: str | None = None
    """File of the certificate's private key, PEM."""
    tls_client_authorities: str | None = None
    """File of the authorities that sign client certificates; None: clients need no certificate."""
    own_socket: str | None = None
    """Path of a further Unix socket, for the server's own host; without TLS."""
    watch: str | None = None
    """File in which a watch records the canary's accuracy; /metrics exports it."""
    threads: Annotated[int, Field(ge=0)] = 0
    """Threads of one inference; 0: as many as there are cores, and for a language model one less."""
    max_batch: PositiveInt = 32
    """The most rows of a batch, and of one request."""
    parallel: Annotated[int, Field(ge=1, le=16384)] = 4
    """The most texts that a language model generates at once, over all data-parallel ranks of vLLM; at most 256 with
    llama.cpp."""
    context_tokens: PositiveInt = 4096
    """Tokens of a prompt and its answer together; each of `parallel` texts reserves memory for so many. For a GGUF
    file, the default is at most the context of the model, and a larger number is refused."""
    embeddings: Literal["model", "mean", "cls", "last"] | None = None
    """Serve a GGUF file as an embedding model: its texts become vectors of the pooling that the file has (`model`), of
    the mean of all tokens, or of the first (`cls`) or last one. None: it writes texts."""
    gpu_layers: NonNegativeInt = 0
    """Layers of a GGUF file that llama.cpp computes on GPUs, for a build of llama.cpp with GPUs; 999: all."""
    tensor_parallel: PositiveInt = 1
    """GPUs that vLLM divides each layer over; 1 for other runtimes."""
    vllm: VllmSettings = VllmSettings()
    """Settings of vLLM alone."""
    queue: PositiveInt = 256
    """The most requests that wait; a further one gets 429 with Retry-After."""
    deadline_seconds: PositiveFloat = 30
    """Seconds from the last byte of a request to its answer, and for a language model to the first token; a request may
    ask for less if its protocol has a field for that."""
    answer_seconds: PositiveFloat = 570
    """Seconds from the last byte of a request to the end of a text that is not streamed. The text so far is then the
    answer. The default is less than the 600 s for which OpenAI's client waits before it repeats a request."""
    stream_seconds: PositiveFloat = 3600
    """Seconds from the last byte of a request to the end of a streamed text."""
    body_bytes: PositiveInt = 16 << 20
    """The largest body of a request, in bytes."""
    body_seconds: PositiveFloat = 30
    """Seconds within which a client has to send the body."""
    head_seconds: PositiveFloat = 10
    """Seconds within which a client has to send a request's head."""
    idle_seconds: PositiveInt = 75
    """Seconds for which an idle connection stays open: longer than a load balancer in front keeps it."""
    connections: Annotated[int, Field(ge=2, le=30_000)] = 1024
    """The most connections; a further one gets 503. With `grpc_port` each port has half of them, and gRPC closes a
    further one."""
    key_requests: PositiveInt | None = None
    """The most requests of one key at a time, over both ports; a further one gets 429. None: half of the connections of
    a port. Always fewer than those, so that other keys have connections left."""
    drain_seconds: NonNegativeFloat = 5
    """Seconds after SIGTERM in which the server still accepts requests, while /ready answers 503 for load balancers."""
    stop_seconds: PositiveInt = 30
    """Seconds after that for requests that are still running."""
    variables: Annotated[dict[str, Value], Field(max_length=COUNT_MAX)] = Field(default_factory=dict)
    """Environment variables for the libraries that compute and communicate, such as NCCL_DEBUG."""

    @property
    def connections_of_port(self) -> int:
        """The most connections of one port."""
        return self.connections if self.grpc_port is None else self.connections // 2

    @property
    def requests_of_key(self) -> int:
        """The most requests of one key at a time."""
        return self.key_requests or max(1, self.connections_of_port // 2)

    @property
    def open_files(self) -> int:
        """The most open files of the server: a request may have a further connection to the runtime."""
        return 2 * self.connections + 512

    @field_validator("variables")
    @classmethod
    def _check_variables(cls, variables: dict[str, Value]) -> dict[str, Value]:
        if problems := [problem for item in variables.items() if (problem := variable_problem(*item))]:
            raise ValueError("; ".join(f"{problem}: {expected}" for problem, expected in problems))
        return variables

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if not self.keys and not self.anybody and not _is_loopback(self.host):
            raise ValueError(
                f"host {self.host} is reachable from other computers and there are no keys; set keys, or anybody=true"
            )
        if self.grpc_port and self.grpc_port == self.port:
            raise ValueError(f"grpc_port is {self.grpc_port}, the port of HTTP")
        if self.key_requests and self.key_requests >= self.connections_of_port:
            raise ValueError(
                f"key_requests is {self.key_requests}, and a port has {self.connections_of_port} connections: one key "
                "could hold all of them; raise connections, or lower key_requests"
            )
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ValueError("tls_certificate and tls_key go together")
        if self.tls_client_authorities and not self.tls_certificate:
            raise ValueError("tls_client_authorities needs tls_certificate: clients are not checked without")
        return self


def with_model_defaults(settings: ServingSettings, lineage: Mapping[str, Any]) -> ServingSettings:
    """Return *settings* with the defaults of a model for all that is not set.

    Args:
        lineage: The model's lineage, of its model.json; models of earlier versions have no defaults.
    """
    defaults = lineage.get("defaults", {})
    return settings.model_copy(
        update={name: value for name, value in defaults.items() if name not in settings.model_fields_set}
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
