"""What is measured of NVIDIA's GPUs: by which program, and what its answer is held against."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.hosts.transport import Result
from rackwright.qualify import dcgm, floor, health, nccl, nvbandwidth, tool
from rackwright.qualify.bench import Bench, last_line
from rackwright.qualify.item import Figure, Item, Unusable, judged
from rackwright.schema import nvidia
from rackwright.schema.catalogue import GPUS, PROFILES
from rackwright.schema.host import Host

PRESENCE, MEMORY, HOST_COPY, PEER_COPY = "GPUs", "GPU memory", "copies between host and GPU", "copies from GPU to GPU"
ALL_REDUCE, NETWORK, BURN_IN, DIAGNOSIS = "all-reduce", "all-reduce through the network", "burn-in", "DCGM diagnostics"
LEVEL = "2"
"""Of DCGM's diagnostics: some minutes. Source: DCGM documentation, run levels."""
BURN_IN_SECONDS, READ_SECONDS = 60, 5
LIMIT_SECONDS = 900
SIZES: Mapping[str, int] = {"16G": 70 * 10**9, "8G": 35 * 10**9, "1G": 0}
"""Of an all-reduce, by how much memory each GPU has, which holds it three times. The floors are for the largest."""


def names(host: Host) -> tuple[str, ...]:
    """Return what is looked at on *host*, as it is declared; nothing where it has no GPU."""
    hardware = PROFILES[host.profile]
    several = sum(hardware.gpus.values()) > 1
    return (
        *((PRESENCE, MEMORY, HOST_COPY) if hardware.gpus else ()),
        *((PEER_COPY, ALL_REDUCE) if several else ()),
        *((NETWORK,) if several and "rdma" in host.roles else ()),
        *((BURN_IN, DIAGNOSIS) if hardware.gpus else ()),
    )


def presence(host: Host, facts: Facts) -> Item:
    """Return whether as many GPUs work as the profile of *host* says.

    Raises:
        UnknownFact: no driver answers.
    """
    wanted = len(nvidia.gpus(host.profile))
    working = [gpu.name for gpu in facts.gpus if gpu.condition == "working"]
    short = [f"GPU {gpu.index}: {gpu.condition}" for gpu in facts.gpus if gpu.condition != "working"]
    if len(facts.gpus) < wanted:
        short.append(f"{len(facts.gpus)} of {wanted} GPUs are there")
    told = ", ".join(f"{count} {name}" for name, count in Counter(working).items())
    return judged(PRESENCE, (), short, f"driver {facts.gpu_driver.version}; {told}", fine=True)


@dataclass(eq=False)
class Gpus:
    """The GPUs of a host at work for us."""

    bench: Bench
    declared: Host
    before: Facts
    """Nobody computes on them."""
    tools: Mapping[str, str] = field(default_factory=dict)

    def item(self, name: str) -> Item:
        """Measure *name*.

        Raises:
            Unusable: what was run came to no result.
            UnknownFact: the facts do not tell what is needed.
        """
        measure: Mapping[str, Callable[[str], Item]] = {
            MEMORY: self._memory,
            HOST_COPY: self._host_copy,
            PEER_COPY: self._peer_copy,
            ALL_REDUCE: self._all_reduce,
            NETWORK: self._network,
            BURN_IN: self._burn_in,
            DIAGNOSIS: self._diagnosis,
        }
        return measure[name](name)

    def _memory(self, name: str) -> Item:
        least = floor.of(self.before.gpus, "floor_memory_gb_per_s")
        given, told = [], "against DCGM's own floor"
        if least.value and least.source:
            given = [f"memory_bandwidth.minimum_bandwidth={least.value * 1000:.0f}"]  # in MB/s
            told = f"each at least {least.value:g} GB/s [{least.source}]"
        said = dcgm.parse(self._text(name, dcgm.argv(self._tool("dcgmi"), "memory_bandwidth", *given)))
        return _diagnosed(name, said, told)

    def _host_copy(self, name: str) -> Item:
        tests = (nvbandwidth.TO_GPU, nvbandwidth.FROM_GPU)
        rates = nvbandwidth.parse(self._text(name, nvbandwidth.argv(self._tool("nvbandwidth"), tests)))
        least = floor.of(self.before.gpus, "floor_host_copy_gb_per_s")
        told = zip(("to the slowest GPU", "from the slowest GPU"), tests, strict=True)
        return judged(name, [_figure(what, rates, test, least) for what, test in told])

    def _peer_copy(self, name: str) -> Item:
        test = nvbandwidth.BETWEEN_GPUS
        rates = nvbandwidth.parse(self._text(name, nvbandwidth.argv(self._tool("nvbandwidth"), [test])))
        least = floor.of_peers(self.before.gpus, "floor_peer_copy_gb_per_s", self._switched)
        return judged(name, [_figure("the slowest pair", rates, test, least)])

    def _all_reduce(self, name: str) -> Item:
        found = self._reduced(name, {})
        wanted = "NVLink" if self._switched or self._joined() else None
        return reduced(name, found, wanted, floor.of_all_reduce(self.before.gpus, self._switched))

    def _network(self, name: str) -> Item:
        return reduced(name, self._reduced(name, nccl.OVER_THE_NETWORK), "RDMA", floor.Floor())

    def _burn_in(self, name: str) -> Item:
        duration = f"targeted_power.test_duration={BURN_IN_SECONDS}"
        argv = dcgm.argv(self._tool("dcgmi"), "targeted_power", duration)
        done, during = self._under_load(lambda: self._run(name, argv))
        after, limit = self.bench.hosts.gpus(self.bench.host), self.declared.alerts.temperature_celsius
        return burnt(name, done.stdout.decode(errors="replace"), self.before, during, after, limit)

    def _diagnosis(self, name: str) -> Item:
        said = dcgm.parse(self._text(name, dcgm.argv(self._tool("dcgmi"), LEVEL)))
        return _diagnosed(name, said, f"level {LEVEL}")

    def _reduced(self, name: str, environment: Mapping[str, str]) -> nccl.AllReduce:
        gpus = self.before.gpus
        room = min(gpu.memory_bytes for gpu in gpus)
        size = next(size for size, least in SIZES.items() if room > least)
        argv = nccl.argv(self._tool("all_reduce_perf"), len(gpus), size)
        return nccl.parse(self._text(name, argv, {**nccl.DEBUG, **environment}))

    @property
    def _switched(self) -> bool:
        return PROFILES[self.declared.profile].known("nvswitch") is not None

    def _joined(self) -> bool:
        return nccl.joined_by_nvlink(self._text("links between GPUs", (self._tool("nvidia-smi"), "topo", "-m")))

    def _tool(self, name: str) -> str:
        if name not in self.tools:
            raise UnknownFact(f"{name} is not there: {tool.BROUGHT_BY.get(name, 'role nvidia_driver brings it')}")
        return self.tools[name]

    def _run(self, name: str, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> Result:
        return self.bench.run(name, argv, LIMIT_SECONDS, environment)

    def _text(self, name: str, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
        """Return what a program printed; its status says too little: a test that fails is told in the text."""
        done = self._run(name, argv, environment)
        if not done.stdout.strip():
            raise Unusable(f"`{argv[0]}` ended with {done.status}: {last_line(done)}")
        return done.stdout.decode(errors="replace")

    def _under_load(self, work: Callable[[], Result]) -> tuple[Result, list[Facts]]:
        """Return what *work* came to, and what was read of the GPUs meanwhile."""
        during: list[Facts] = []
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(work)
            try:
                while not wait([running], READ_SECONDS).done:
                    during.append(self.bench.hosts.gpus(self.bench.host))
            except BaseException:
                self.bench.stop()
                raise
            return running.result(), during


def reduced(name: str, found: nccl.AllReduce, wanted: str | None, least: floor.Floor) -> Item:
    """Return the item of an all-reduce.

    Args:
        wanted: What it has to go over, and nothing else; None where nobody says.
    """
    fallen = nccl.fallen_back(found, wanted) if wanted else ""
    rate = Figure("bus bandwidth", found.gb_per_s, "GB/s", least.value, least.source)
    if fallen:
        return judged(name, [rate], [fallen])
    return judged(name, [rate], said=f"over {' and '.join(found.transports)}")


def burnt(name: str, text: str, before: Facts, during: Sequence[Facts], after: Facts, limit_celsius: int) -> Item:
    """Return the item of a burn-in, of which DCGM printed *text*. What is wrong comes before what is not known.

    Raises:
        Unusable: DCGM came to no result, and the GPUs do not show why.
        UnknownFact: the GPUs were not read, and DCGM has nothing against them.
    """
    short: list[str] = []
    figures: tuple[Figure, ...] = ()
    passed, unknown = "", ""
    try:
        short += health.problems(before, during, after, limit_celsius)
        figures = health.figures(during)
    except UnknownFact as reason:
        unknown = str(reason)
    try:
        said = dcgm.parse(text)
        short += said.failed
        passed = ", ".join(said.passed)
        unknown = unknown or ("" if passed or said.failed else f"DCGM left it out: {', '.join(said.skipped)}")
    except Unusable as error:
        if not short:
            raise
        short.append(str(error))
    if unknown and not short:
        raise UnknownFact(unknown)
    return judged(name, figures, short, f"{BURN_IN_SECONDS} s at full power; passed: {passed or 'nothing'}", fine=True)


def others(host: Host) -> str:
    """Return why nothing is measured of accelerators that NVIDIA's library does not tell of."""
    roles = {GPUS[name].role for name in PROFILES[host.profile].gpus}
    there_is = " and ".join(tool.OTHERS[role] for role in sorted(roles & tool.OTHERS.keys()))
    return f"only NVIDIA's PCI boards are measured; for these there is {there_is}"


def _figure(name: str, rates: Mapping[str, float], test: str, least: floor.Floor) -> Figure:
    if test not in rates:
        raise Unusable(f"nvbandwidth told nothing of {test}")
    return Figure(name, rates[test], "GB/s", least.value, least.source)


def _diagnosed(name: str, said: dcgm.Diagnosis, told: str) -> Item:
    if not said.passed and not said.failed:
        raise UnknownFact(f"DCGM left it out: {', '.join(said.skipped)}")
    return judged(name, (), said.failed, f"{told}; passed: {', '.join(said.passed) or 'nothing'}", fine=True)
