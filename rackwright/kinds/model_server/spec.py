"""The declared server on one of its hosts, and the names and paths that follow from it."""

from typing import Any

from pydantic import Field

from rackwright.core.contract import Resource, SpecPart
from rackwright.core.declared import Declared
from rackwright.kinds.shared import gpu_assignment
from rackwright.kinds.shared.firewall import Firewall, table_name
from rackwright.kinds.shared.gpu_assignment import GpuAssignment
from rackwright.schema.server import Canary, Server, ServerKey, settings

CANARY_SECONDS = 600
SLACK_SECONDS = 15
"""Seconds beyond the server's own limits for its shutdown."""
ETC = "/etc/rackwright/servers"
LIB = "/var/lib/rackwright/servers"


class CanaryRows(SpecPart):
    """The canary's rows with labels, in a file of this computer."""

    source: str
    """The path on this computer."""
    sha256: str
    """The digest of the file."""


class AdapterPart(SpecPart):
    """A LoRA adapter on the host."""

    directory: str | None = None
    """The directory that the host has already; None: `up` copies the adapter."""
    sha256: str
    """The digest of its weights."""
    rank: int
    """The rank of its matrices."""
    version: str | None = None
    """The version of a copied adapter: the beginning of its files' digest."""
    source: str | None = None
    """The directory of a copied adapter on this computer."""
    manifest: str | None = None
    """The model.json of a copied adapter, with the digests of its files."""
    files: dict[str, str] = Field(default_factory=dict)
    """The sha256 of the files of a copied adapter, by name."""


class ReplicaPlace(SpecPart):
    """A host's place in a replica over several hosts."""

    addresses: tuple[str, ...]
    """The fabric addresses of all hosts; the first is the leader's."""
    rank: int
    """The host's place in `addresses`."""
    interface: str
    """The fabric of the host."""


class ExchangePeer(SpecPart):
    """A host with which another one exchanges caches."""

    address: str
    """The fabric address of the host."""
    port: int
    """The first port of its exchange."""
    ranks: int
    """The number of its ports."""


class ExchangePlace(SpecPart):
    """A host's place in an exchange of caches."""

    address: str
    """The fabric address of this host."""
    peers: tuple[ExchangePeer, ...]
    """The hosts of the servers of the other role."""


def unit_of(name: str) -> str:
    """Return the unit of the server *name*."""
    return f"server-{name}.service"


class ServerSpec(Resource):
    """A server on one of its hosts."""

    fleet: str
    """The name of the fleet, which owns the resource."""
    identity: dict[str, str]
    """The identity of the machine: serial, uuid, bmc_mac or device_tree_serial, as one entry."""
    name: str
    """The name of the server."""
    declared: Declared[Server]
    """The server as it is declared, with this host alone: another host of it is no change of this one."""
    address: str
    """The address on which the server listens."""
    interface: str | None = None
    """The interface with that address; None if the server listens on all."""
    model: str
    """The name of the model; empty if this computer knows only the version."""
    version: str
    """The version of the model."""
    source: str | None = None
    """The model's directory on this computer; None if it does not have this version."""
    files: dict[str, str] = Field(default_factory=dict)
    """The sha256 of the files in that directory, by name; model.json is one of them."""
    mount: str | None = None
    """The mount point of the tier with the model."""
    rows: CanaryRows | None = None
    """The rows of the canary."""
    tensor_parallel: int | None = None
    """The number of GPUs over which it divides each layer; None for a model that is not divided."""
    layout: dict[str, int | bool] = Field(default_factory=dict)
    """The other parts of the layout, as settings of vLLM; empty if the model is divided by tensor parallelism alone."""
    adapters: dict[str, AdapterPart] = Field(default_factory=dict)
    """The LoRA adapters, by the name of the model that clients ask for."""
    gpus: GpuAssignment | None = None
    """The host's GPUs for this server; None if it computes on processors."""
    replica: ReplicaPlace | None = None
    """The host's place in a replica over several hosts."""
    exchange: ExchangePlace | None = None
    """The host's place in an exchange of caches with other servers."""
    partners: tuple[str, ...] = ()
    """The names of the servers on this host with which it exchanges caches."""
    quotas: dict[str, dict[str, int]] = Field(default_factory=dict)
    """The host's part of the quotas, by the name of the key; without keys that have none."""
    runs_vllm: bool = False
    """Whether the processes of the unit are, or may be, those of vLLM."""
    key: str
    """The name of the secret from which the host's own key is derived."""
    environment: str
    """The path of a virtual environment on the host."""

    @property
    def id(self) -> str:
        return f"{self.host}/{self.name}"

    @property
    def below(self) -> str | None:
        """The model's directory on the host, on a tier."""
        return f"{self.mount}/{self.declared.model.path}" if self.mount else None

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the server, without those that follow from the other fields."""
        divided = {"tensor_parallel": self.tensor_parallel} if self.tensor_parallel else {}
        vllm, variables = self._vllm, self.declared.variables
        more = {**({"vllm": vllm} if vllm else {}), **({"variables": variables} if variables else {})}
        return {**self.declared.set, **divided, **more}

    @property
    def _vllm(self) -> dict[str, Any]:
        """The settings of vLLM alone."""
        declared = self.declared.vllm
        vllm = {**(declared.settings if declared else {}), **self.layout}
        if self.adapters:
            rank = max(adapter.rank for adapter in self.adapters.values())
            vllm |= {"adapters_file": self.adapters_file, "adapters_rank": rank}
        if self.replica:
            replica = {**self.replica.model_dump(mode="json"), "key_file": self.credential}
            vllm["replica"] = {**replica, **({"port": declared.port} if declared else {})}
        if self.exchange and declared and declared.kv_transfer:
            own = declared.kv_transfer
            vllm["kv_transfer"] = {**self.exchange.model_dump(mode="json"), "role": own.role, "port": own.port}
        return vllm

    @property
    def follows(self) -> bool:
        """Whether the host is a worker of a replica whose leader answers clients."""
        return self.replica is not None and self.replica.rank > 0

    @property
    def firewall(self) -> Firewall | None:
        """The table that closes the ports of vLLM to other hosts than those of the replica and of an exchange; None
        without vLLM."""
        if not (self.runs_vllm or self.replica or self.declared.vllm):
            return None
        return Firewall(
            id=self.id,
            table=table_name("server", self.name),
            unit=self.unit,
            path=f"{self.etc}/firewall.nft",
            programs="the ports of vLLM",
            addresses=self._allowed_addresses,
            port=None if self.follows else self.declared.port,
            partners=tuple(map(unit_of, self.partners)),
        )

    @property
    def _allowed_addresses(self) -> tuple[str, ...]:
        """The addresses of all hosts that reach the ports of vLLM, this one included; empty if no other one does."""
        exchange = (self.exchange.address, *(peer.address for peer in self.exchange.peers)) if self.exchange else ()
        return tuple(dict.fromkeys((*(self.replica.addresses if self.replica else ()), *exchange)))

    @property
    def adapters_file(self) -> str:
        """The path of the file with the adapters, which a running server reads again."""
        return f"{self.etc}/adapters.json"

    @property
    def adapter_versions(self) -> tuple[str, ...]:
        """The versions of the copied adapters, sorted, each once."""
        return tuple(sorted({adapter.version for adapter in self.adapters.values() if adapter.version}))

    def adapter_directory(self, name: str) -> str:
        """Return the directory of the adapter *name* on the host."""
        adapter = self.adapters[name]
        return adapter.directory or f"{self.lib}/adapters/{adapter.version}"

    @property
    def lease_key(self) -> str:
        """The path of the key for the leases of a replica, which root alone can read."""
        return f"{self.etc}/lease_key"

    @property
    def credential(self) -> str:
        """The path at which systemd gives that key to the server."""
        return f"/run/credentials/{self.unit}/lease_key"

    @property
    def keys(self) -> dict[str, ServerKey]:
        """The keys of clients by name, sorted; empty: any client is allowed."""
        return dict(sorted(self.declared.keys.items()))

    @property
    def stop_seconds(self) -> int:
        """Seconds that the server may take to stop: it completes running requests first."""
        options = settings(self.declared, "127.0.0.1")
        return round(options.drain_seconds) + options.stop_seconds + SLACK_SECONDS

    @property
    def account(self) -> str:
        return f"server-{self.name}"

    @property
    def etc(self) -> str:
        return f"{ETC}/{self.name}"

    @property
    def lib(self) -> str:
        """The directory of models and releases, and the link to the current one."""
        return f"{LIB}/{self.name}"

    @property
    def python(self) -> str:
        return f"{self.environment}/bin/python"

    @property
    def unit(self) -> str:
        return unit_of(self.name)

    @property
    def watch(self) -> Canary | None:
        """The canary, if it is checked while a release serves."""
        canary = self.declared.canary
        return canary if canary and canary.every_seconds else None

    @property
    def watch_units(self) -> tuple[str, str]:
        """The service that checks the canary, and its timer."""
        return f"watch-{self.name}.service", f"watch-{self.name}.timer"

    @property
    def switch_seconds(self) -> int:
        """Seconds that a switch to another release may take, with the return to the previous one."""
        return 2 * (self.declared.ready_seconds + self.stop_seconds) + (CANARY_SECONDS if self.declared.canary else 60)

    @property
    def watch_seconds(self) -> int:
        """Seconds that a canary check may take, with the return to the previous release."""
        return CANARY_SECONDS + self.switch_seconds

    @property
    def owner(self) -> str:
        """The name of the owner file."""
        return f"server-{self.name}"

    @property
    def gpus_file(self) -> str:
        """The path of the file with its GPUs."""
        return gpu_assignment.path(self.owner)

    @property
    def run(self) -> str:
        """The directory of `socket` below /run: systemd makes it for the account when the server starts."""
        return f"rackwright-servers/{self.name}"

    @property
    def socket(self) -> str:
        """The Unix socket on which the host queries its own server."""
        return f"/run/{self.run}/socket"

    @property
    def state_directory(self) -> str | None:
        """The directory of `quota_counts` below /var/lib, which systemd makes for the account; None without quotas."""
        return self.run if self.quotas else None

    @property
    def state(self) -> str:
        """The path of that directory, whether or not there are quotas."""
        return f"/var/lib/{self.run}"

    @property
    def quota_counts(self) -> str | None:
        """The path of the file with the use of the quotas."""
        return f"{self.state}/quotas.sqlite3" if self.quotas else None

    @property
    def watch_file(self) -> str | None:
        """The path of the file with the canary's accuracy."""
        return f"{self.lib}/watch.json" if self.watch else None

    @property
    def data(self) -> str | None:
        """The path of the canary's rows on the host, named by their digest."""
        return f"{self.lib}/data/{self.rows.sha256[:12]}.npz" if self.declared.canary and self.rows else None
