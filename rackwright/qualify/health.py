"""How GPUs bear a load: their temperature, power and clocks under it, and whether errors came of it."""

from collections.abc import Iterable, Iterator, Sequence

from rackwright.facts.facts import Facts
from rackwright.facts.gpu import Gpu
from rackwright.facts.view import UnknownFact
from rackwright.qualify.item import Figure


def figures(during: Sequence[Facts]) -> tuple[Figure, ...]:
    """Return the extremes of what was read under load, over all GPUs.

    Raises:
        UnknownFact: nothing was read, or not all of it.
    """
    gpus = [gpu for facts in during for gpu in facts.gpus if gpu.condition == "working"]
    if not gpus:
        raise UnknownFact("no GPU was read under load")
    read = (
        ("hottest", "°C", max, [gpu.temperature_celsius for gpu in gpus]),
        ("most power", "W", max, [gpu.power_watts for gpu in gpus]),
        ("slowest clock", "MHz", min, [gpu.graphics_clock_mhz for gpu in gpus]),
    )
    told = (
        (name, unit, extreme, [value for value in values if value is not None]) for name, unit, extreme, values in read
    )
    return tuple(Figure(name, float(extreme(values)), unit) for name, unit, extreme, values in told if values)


def problems(before: Facts, during: Iterable[Facts], after: Facts, limit_celsius: int) -> tuple[str, ...]:
    """Return what a load brought to light.

    Args:
        limit_celsius: Of the fleet's alerts.

    Raises:
        UnknownFact: it cannot be told, because something was not read.
    """
    return (*dict.fromkeys(_problems(before, during, after, limit_celsius)),)


def _problems(before: Facts, during: Iterable[Facts], after: Facts, limit_celsius: int) -> Iterator[str]:
    for facts in (*during, after):
        for gpu in facts.gpus:
            if gpu.condition != "working":
                yield f"GPU {gpu.index}: {gpu.condition}"
            elif (celsius := gpu.temperature_celsius) is not None and celsius > limit_celsius:
                yield f"GPU {gpu.index} was hotter than {limit_celsius} °C"
    counted = {gpu.uuid: gpu for gpu in before.gpus}
    left = [gpu for gpu in after.gpus if gpu.condition == "working"]
    if gone := len(counted) - len(after.gpus):
        yield f"{gone} of {len(counted)} GPUs are gone"
    for gpu in left:
        if gpu.uuid in counted and (more := _errors(gpu) - _errors(counted[gpu.uuid])) > 0:
            yield f"GPU {gpu.index}: {more} uncorrected memory errors"
    for error in after.xids:
        if error.at > before.taken_at:
            yield f"{error.pci}: Xid {error.code}: {error.text}"


def _errors(gpu: Gpu) -> int:
    return gpu.uncorrected_errors or 0
