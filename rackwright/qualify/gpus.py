"""The measurements of NVIDIA's GPUs, with their programs and floors."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.hosts.transport import CommandResult
from rackwright.qualify import dcgm, floor, health, nccl, nvbandwidth, tool
from rackwright.qualify.bench import Bench, last_line
from rackwright.qualify.item import Figure, Item, MeasurementFailed, make_item
from rackwright.schema import nvidia
from rackwright.schema.catalogue import GPUS
from rackwright.schema.host import Host

PRESENCE, MEMORY, HOST_COPY, PEER_COPY = "GPUs", "GPU memory", "copies between host and GPU", "copies from GPU to GPU"
ALL_REDUCE, NETWORK, BURN_IN, DIAGNOSIS = "all-reduce", "all-reduce through the network", "burn-in", "DCGM diagnostics"
LEVEL = "2"
"""Level of DCGM's diagnostics, which takes some minutes. Source: DCGM documentation, run levels."""
BURN_IN_SECONDS, READ_SECONDS = 60, 5
LIMIT_SECONDS = 900
SIZES: Mapping[str, int] = {"16G": 70 * 10**9, "8G": 35 * 10**9, "1G": 0}
"""Data size of an all-reduce, with the GPU memory in bytes that must be exceeded: a GPU holds the data three times.
The floors apply to the largest size."""


def item_names(host: Host) -> tuple[str, ...]:
    """Return the names of the GPU items for *host*, as declared; empty for a host without a GPU."""
    hardware = host.minimum
    several = sum(hardware.gpus.values()) > 1
    return (
        *((PRESENCE, MEMORY, HOST_COPY) if hardware.gpus else ()),
        *((PEER_COPY, ALL_REDUCE) if several else ()),
        *((NETWORK,) if several and "rdma" in host.roles else ()),
        *((BURN_IN, DIAGNOSIS) if hardware.gpus else ()),
    )


def presence_item(host: Host, facts: Facts) -> Item:
    """Return the item that compares the number of working GPUs with the profile of *host*.

    Raises:
        UnknownFact: no driver answers.
    """
    expected = len(nvidia.gpus(host.minimum))
    working = [gpu.name for gpu in facts.gpus if gpu.condition == "working"]
    shortfalls = [f"GPU {gpu.index}: {gpu.condition}" for gpu in facts.gpus if gpu.condition != "working"]
    if len(facts.gpus) < expected:
        shortfalls.append(f"{len(facts.gpus)} of {expected} GPUs are there")
    summary = ", ".join(f"{count} {name}" for name, count in Counter(working).items())
    return make_item(
        PRESENCE, (), shortfalls, f"driver {facts.gpu_driver.version}; {summary}", other_checks_passed=True
    )


@dataclass(eq=False)
class Gpus:
    """The measurements of the GPUs of one host."""

    bench: Bench
    declared: Host
    before: Facts
    """Facts of the idle GPUs, read before the measurements."""
    tools: Mapping[str, str] = field(default_factory=dict)

    def measure(self, name: str) -> Item:
        """Measure *name*.

        Raises:
            MeasurementFailed: the program gave no result.
            UnknownFact: a required fact or program is missing.
        """
        measurements: Mapping[str, Callable[[str], Item]] = {
            MEMORY: self._memory,
            HOST_COPY: self._host_copy,
            PEER_COPY: self._peer_copy,
            ALL_REDUCE: self._all_reduce,
            NETWORK: self._network,
            BURN_IN: self._burn_in,
            DIAGNOSIS: self._diagnosis,
        }
        return measurements[name](name)

    def _memory(self, name: str) -> Item:
        least = floor.gpu_floor(self.before.gpus, "floor_memory_gb_per_s")
        parameters, details = [], "against DCGM's own floor"
        if least.value and least.source:
            parameters = [f"memory_bandwidth.minimum_bandwidth={least.value * 1000:.0f}"]  # in MB/s
            details = f"each at least {least.value:g} GB/s [{least.source}]"
        diagnosis = dcgm.parse(self._text(name, dcgm.argv(self._tool("dcgmi"), "memory_bandwidth", *parameters)))
        return _diagnosis_item(name, diagnosis, details)

    def _host_copy(self, name: str) -> Item:
        tests = (nvbandwidth.TO_GPU, nvbandwidth.FROM_GPU)
        rates = nvbandwidth.parse(self._text(name, nvbandwidth.argv(self._tool("nvbandwidth"), tests)))
        least = floor.gpu_floor(self.before.gpus, "floor_host_copy_gb_per_s")
        labels = zip(("to the slowest GPU", "from the slowest GPU"), tests, strict=True)
        return make_item(name, [_figure(label, rates, test, least) for label, test in labels])

    def _peer_copy(self, name: str) -> Item:
        test = nvbandwidth.BETWEEN_GPUS
        rates = nvbandwidth.parse(self._text(name, nvbandwidth.argv(self._tool("nvbandwidth"), [test])))
        least = floor.peer_floor(self.before.gpus, "floor_peer_copy_gb_per_s", self._has_nvswitch)
        return make_item(name, [_figure("the slowest pair", rates, test, least)])

    def _all_reduce(self, name: str) -> Item:
        result = self._run_all_reduce(name, {})
        transport = "NVLink" if self._has_nvswitch or self._has_nvlink() else None
        return all_reduce_item(name, result, transport, floor.all_reduce_floor(self.before.gpus, self._has_nvswitch))

    def _network(self, name: str) -> Item:
        return all_reduce_item(name, self._run_all_reduce(name, nccl.OVER_THE_NETWORK), "RDMA", floor.Floor())

    def _burn_in(self, name: str) -> Item:
        duration = f"targeted_power.test_duration={BURN_IN_SECONDS}"
        argv = dcgm.argv(self._tool("dcgmi"), "targeted_power", duration)
        result, during = self._under_load(lambda: self._run(name, argv))
        after, limit = self.bench.hosts.gpus(self.bench.host), self.declared.alerts.temperature_celsius
        return burn_in_item(name, result.stdout.decode(errors="replace"), self.before, during, after, limit)

    def _diagnosis(self, name: str) -> Item:
        diagnosis = dcgm.parse(self._text(name, dcgm.argv(self._tool("dcgmi"), LEVEL)))
        return _diagnosis_item(name, diagnosis, f"level {LEVEL}")

    def _run_all_reduce(self, name: str, environment: Mapping[str, str]) -> nccl.AllReduce:
        gpus = self.before.gpus
        smallest_memory = min(gpu.memory_bytes for gpu in gpus)
        size = next(size for size, minimum in SIZES.items() if smallest_memory > minimum)
        argv = nccl.argv(self._tool("all_reduce_perf"), len(gpus), size)
        return nccl.parse(self._text(name, argv, {**nccl.DEBUG, **environment}))

    @property
    def _has_nvswitch(self) -> bool:
        return self.declared.minimum.verified_value("nvswitch") is not None

    def _has_nvlink(self) -> bool:
        return nccl.has_nvlink(self._text("links between GPUs", (self._tool("nvidia-smi"), "topo", "-m")))

    def _tool(self, name: str) -> str:
        if name not in self.tools:
            raise UnknownFact(f"{name} is not installed: {tool.PROVIDERS.get(name, 'role nvidia_driver installs it')}")
        return self.tools[name]

    def _run(self, name: str, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> CommandResult:
        return self.bench.run(name, argv, LIMIT_SECONDS, environment)

    def _text(self, name: str, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
        """Return the output of a program, whose exit status does not show which test failed.

        Raises:
            MeasurementFailed: the program printed nothing.
        """
        result = self._run(name, argv, environment)
        if not result.stdout.strip():
            raise MeasurementFailed(f"`{argv[0]}` ended with {result.status}: {last_line(result)}")
        return result.stdout.decode(errors="replace")

    def _under_load(self, work: Callable[[], CommandResult]) -> tuple[CommandResult, list[Facts]]:
        """Return the result of *work*, and the facts of the GPUs read while it ran."""
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


def all_reduce_item(name: str, result: nccl.AllReduce, expected: str | None, least: floor.Floor) -> Item:
    """Return the item of an all-reduce.

    Args:
        expected: The only transport that the all-reduce may use; None for no requirement.
    """
    fallback = nccl.describe_fallback(result, expected) if expected else ""
    rate = Figure("bus bandwidth", result.gb_per_s, "GB/s", least.value, least.source)
    if fallback:
        return make_item(name, [rate], [fallback])
    return make_item(name, [rate], details=f"over {' and '.join(result.transports)}")


def burn_in_item(
    name: str, text: str, before: Facts, during: Sequence[Facts], after: Facts, limit_celsius: int
) -> Item:
    """Return the item of a burn-in with DCGM's output *text*; a fault takes precedence over an unknown value.

    Raises:
        MeasurementFailed: DCGM gave no result, and the GPUs show no fault.
        UnknownFact: the facts of the GPUs are incomplete, and DCGM found no fault.
    """
    shortfalls: list[str] = []
    figures: tuple[Figure, ...] = ()
    passed, reason_unknown = "", ""
    try:
        shortfalls += health.problems(before, during, after, limit_celsius)
        figures = health.figures(during)
    except UnknownFact as reason:
        reason_unknown = str(reason)
    try:
        diagnosis = dcgm.parse(text)
        shortfalls += diagnosis.failed
        passed = ", ".join(diagnosis.passed)
        reason_unknown = reason_unknown or (
            "" if passed or diagnosis.failed else f"DCGM skipped {', '.join(diagnosis.skipped)}"
        )
    except MeasurementFailed as error:
        if not shortfalls:
            raise
        shortfalls.append(str(error))
    if reason_unknown and not shortfalls:
        raise UnknownFact(reason_unknown)
    return make_item(
        name,
        figures,
        shortfalls,
        f"{BURN_IN_SECONDS} s at full power; passed: {passed or 'nothing'}",
        other_checks_passed=True,
    )


def reason_not_measured(host: Host) -> str:
    """Return why accelerators of *host* that NVIDIA's library does not report are not measured."""
    roles = {GPUS[name].role for name in host.minimum.gpus}
    tools = " and ".join(tool.OTHER_TOOLS[role] for role in sorted(roles & tool.OTHER_TOOLS.keys()))
    return f"only NVIDIA's PCI boards are measured; these boards have {tools}"


def _figure(name: str, rates: Mapping[str, float], test: str, least: floor.Floor) -> Figure:
    if test not in rates:
        raise MeasurementFailed(f"nvbandwidth printed no result of {test}")
    return Figure(name, rates[test], "GB/s", least.value, least.source)


def _diagnosis_item(name: str, diagnosis: dcgm.Diagnosis, details: str) -> Item:
    if not diagnosis.passed and not diagnosis.failed:
        raise UnknownFact(f"DCGM skipped {', '.join(diagnosis.skipped)}")
    return make_item(
        name,
        (),
        diagnosis.failed,
        f"{details}; passed: {', '.join(diagnosis.passed) or 'nothing'}",
        other_checks_passed=True,
    )
