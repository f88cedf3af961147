"""The health of GPUs under load: temperature, power, clocks and errors."""

from collections.abc import Iterable, Iterator, Sequence

from rackwright.facts.facts import Facts
from rackwright.facts.gpu import GpuFacts
from rackwright.facts.view import UnknownFact
from rackwright.qualify.item import Figure


def figures(during: Sequence[Facts]) -> tuple[Figure, ...]:
    """Return the extreme readings of all GPUs under load.

    Raises:
        UnknownFact: there is no reading, or an incomplete one.
    """
    gpus = [gpu for facts in during for gpu in facts.gpus if gpu.condition == "working"]
    if not gpus:
        raise UnknownFact("no GPU was read under load")
    extremes = (
        ("hottest", "°C", max, [gpu.temperature_celsius for gpu in gpus]),
        ("most power", "W", max, [gpu.power_watts for gpu in gpus]),
        ("slowest clock", "MHz", min, [gpu.graphics_clock_mhz for gpu in gpus]),
    )
    known_values = (
        (name, unit, extreme, [value for value in values if value is not None])
        for name, unit, extreme, values in extremes
    )
    return tuple(Figure(name, float(extreme(values)), unit) for name, unit, extreme, values in known_values if values)


def problems(before: Facts, during: Iterable[Facts], after: Facts, limit_celsius: int) -> tuple[str, ...]:
    """Return the faults that GPUs showed under a load, each once.

    Args:
        limit_celsius: Temperature limit of the host's alerts.

    Raises:
        UnknownFact: a reading is incomplete.
    """
    return (*dict.fromkeys(_problems(before, during, after, limit_celsius)),)


def _problems(before: Facts, during: Iterable[Facts], after: Facts, limit_celsius: int) -> Iterator[str]:
    for facts in (*during, after):
        for gpu in facts.gpus:
            if gpu.condition != "working":
                yield f"GPU {gpu.index}: {gpu.condition}"
            elif (celsius := gpu.temperature_celsius) is not None and celsius > limit_celsius:
                yield f"GPU {gpu.index} was hotter than {limit_celsius} °C"
    gpus_before = {gpu.uuid: gpu for gpu in before.gpus}
    working = [gpu for gpu in after.gpus if gpu.condition == "working"]
    if missing := len(gpus_before) - len(after.gpus):
        yield f"{missing} of {len(gpus_before)} GPUs are gone"
    for gpu in working:
        if gpu.uuid in gpus_before and (increase := _errors(gpu) - _errors(gpus_before[gpu.uuid])) > 0:
            yield f"GPU {gpu.index}: {increase} uncorrected memory errors"
    for error in after.xids:
        if error.at > before.taken_at:
            yield f"{error.pci}: Xid {error.code}: {error.text}"


def _errors(gpu: GpuFacts) -> int:
    return gpu.uncorrected_errors or 0
