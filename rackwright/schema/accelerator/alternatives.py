"""Alternatives for contradictory choices, from the catalogue, checked against all rules, the nearest first."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from itertools import combinations
from typing import Any

from rackwright.schema.accelerator.choices import Accelerators, is_written, place, torch_parts
from rackwright.schema.accelerator.rules import NVLSM_SINCE, RULES, Contradiction, Rule
from rackwright.schema.accelerator.versions import VERSION, branch, parts
from rackwright.schema.catalogue import MIG, SOFTWARE
from rackwright.schema.problem import Problem

Change = dict[str, Any]
"""New values of choices, by field."""
BrokenRule = tuple[Rule, Contradiction]
NEAR = {
    "fp4": ("fp8", "int8", "bf16", "fp16", "fp32"),
    "fp8": ("int8", "bf16", "fp16", "fp32"),
    "int8": ("fp8", "fp16", "fp32"),
    "bf16": ("fp16", "fp32"),
    "tf32": ("fp32", "fp16"),
    "fp16": ("bf16", "fp32"),
    "fp32": ("fp16",),
}
"""Alternatives for each precision: the same size first, then the next."""


def problems(a: Accelerators) -> Iterator[Problem]:
    """Yield the contradictions between choices, each with the fix that removes it; paths are relative to the host."""
    current = contradictions(a)
    for rule, contradiction in current:
        field, *item = contradiction.at
        path = (*place(a, str(field)), *item)
        also = None if contradiction.also is None else place(a, contradiction.also)
        yield Problem(
            contradiction.problem,
            contradiction.expected,
            _fix(a, current, (rule, contradiction)),
            path,
            contradiction.source,
            also=also,
        )


def contradictions(a: Accelerators) -> tuple[BrokenRule, ...]:
    return tuple((rule, contradiction) for rule in RULES for contradiction in rule.check(a))


def find_alternative(a: Accelerators, current: Sequence[BrokenRule], one: BrokenRule, field: str) -> Change | None:
    """Return the nearest change of *field* that removes the contradiction *one* and adds none; None without any."""
    before, partly = Counter(map(_identity, current)), None
    for change in CANDIDATES[field](a, one[1]):
        after = Counter(map(_identity, contradictions(replace(a, **change))))
        if not after:
            return change
        if partly is None and _identity(one) not in after and after < before:
            partly = change
    return partly


def _identity(broken: BrokenRule) -> tuple[str, ...]:
    """Return the identity of a contradiction across changes: for an item its value, for a single choice its field."""
    rule, contradiction = broken
    field, *item = contradiction.at
    return (rule.id, str(field), contradiction.problem) if item else (rule.id, str(field))


def _fix(a: Accelerators, current: Sequence[BrokenRule], one: BrokenRule) -> str:
    rule, contradiction = one
    ways = [
        _format_change(a, contradiction, field, change)
        for field in rule.choices
        if (change := find_alternative(a, current, one, field)) is not None
    ]
    text = ", or ".join(ways) or "take one of the two out"
    return text[0].upper() + text[1:]


def _format_change(a: Accelerators, contradiction: Contradiction, field: str, change: Change) -> str:
    """Return the instruction for *change*, without the name of the field if the message is about that field."""
    value = change[field]
    here = contradiction.at[0] == field and is_written(a, field)
    match field:
        case "roles":
            return f"take {' and '.join(role for role in a.roles if role not in value)} out"
        case "driver" if value is None:
            return "leave version out" if here else "leave the driver's version out"
        case "driver":
            text = f'write "{value}"' if here else f"take driver {value}"
            if change.get("driver_source", a.driver_source) == a.driver_source:
                return text
            if SOFTWARE.drivers[value].known_set and not change["driver_sets"]:
                return f'write `nvidia_driver: {{source: vendor, version: "{value}"}}`'
            return f"{text} of the vendor, and declare its packages in `sets`"
        case "driver_sets":
            return "declare your set, with nvlsm, in `sets`"
        case "cuda":
            (new,) = set(value) - set(a.cuda) or {None}
            text = f'write "{new}"' if here else f"install CUDA {new}"
            text = text if new else "take it out"
            return text if change.get("cuda_source", a.cuda_source) == a.cuda_source else f"{text} of the vendor"
        case "precision":
            new = [precision for precision in value if precision not in a.precision]
            return f"write {new[0]}" if new else "take it out"
        case "environments":
            return f"write {'' if a.environments else 'environments: '}[{', '.join(value)}], which has no PyTorch"
        case "clocks_mhz" if len(value) == 1:
            return f"write {value[0]}"
        case "mig" | "clocks_mhz" if value:
            return f"write [{', '.join(map(str, value))}]"
        case "driver_source" | "cuda_source":
            return f"write source: {value}"
        case "flavour" if not here:
            return f"write flavour: {value}"
        case "version" if value:
            return f"take a release of {value}"
        case "kernel":
            return f"take a kernel of {value}"
        case "torch" | "needs_cuda" if not here and value:
            return f"need {'torch' if field == 'torch' else 'CUDA'} {value}"
    return "leave it out" if value in (None, ()) else f"write {value}"


def _drivers(a: Accelerators, contradiction: Contradiction) -> Iterator[Change]:
    if a.driver and a.own_driver:
        yield {"driver": None}
    near = branch(a.runs) if a.runs else 0
    source = "vendor" if a.own_driver or a.nvswitch else a.driver_source
    lasting = [driver for driver, row in SOFTWARE.drivers.items() if row.designation != "new feature"]
    sets = a.driver_sets or (a.nvswitch is not None and a.nvswitch >= NVLSM_SINCE)

    def distance(driver: str) -> tuple[bool, int, str]:
        return source == "vendor" and not SOFTWARE.drivers[driver].known_set, abs(int(driver) - near), driver

    for driver in sorted(lasting, key=distance):
        yield {"driver": driver, "driver_source": source, "driver_sets": sets}


def _torches(a: Accelerators, contradiction: Contradiction) -> Iterator[Change]:
    release, tag = torch_parts(a.torch or "+")
    builds = [(release, build.tag) for build in SOFTWARE.torch for release in build.releases]
    at = parts(release) if release else (0,)

    def distance(other: tuple[str, str]) -> tuple[int, bool, int]:
        numbers, digits = parts(other[0]), _digits(other[1])
        return abs((numbers[0] - at[0]) * 100 + numbers[1] - at[1]), other[1][:2] != tag[:2], abs(digits - _digits(tag))

    for near, near_tag in sorted(builds, key=distance):
        yield {"torch": f"{near}+{near_tag}"}
    yield {"torch": None}


def _cudas(a: Accelerators, contradiction: Contradiction) -> Iterator[Change]:
    field, *item = contradiction.at
    source = "vendor" if a.own_cuda else a.cuda_source
    if field == "cuda" and not item:  # the system's own release, which is not declared
        yield from ({"cuda": (version,), "cuda_source": source} for version in SOFTWARE.cuda)
    for at in (a.cuda[int(index)] for index in item if field == "cuda"):
        own = [(a.own_cuda, a.cuda_source)] if a.own_cuda else []
        versions = sorted(SOFTWARE.cuda, key=lambda version: _distance(version, at))
        for version, of in [*own, *((version, source) for version in versions)]:
            changed = tuple(dict.fromkeys(version if each == at else each for each in a.cuda))
            default = version if a.cuda_default == at else a.cuda_default
            yield {"cuda": changed, "cuda_source": of, "cuda_default": default}


def _needed_cudas(a: Accelerators, contradiction: Contradiction) -> Iterator[Change]:
    if a.needs_cuda is not None:
        at = a.needs_cuda
        yield from ({"needs_cuda": version} for version in sorted(SOFTWARE.cuda, key=lambda each: _distance(each, at)))
        yield {"needs_cuda": None}


def _precisions(a: Accelerators, contradiction: Contradiction) -> Iterator[Change]:
    for index in map(int, contradiction.at[1:]):
        for near in NEAR[a.precision[index]]:
            yield {"precision": tuple(dict.fromkeys([*a.precision[:index], near, *a.precision[index + 1 :]]))}
        yield {"precision": a.precision[:index] + a.precision[index + 1 :]}


def _layouts(a: Accelerators, contradiction: Contradiction) -> Iterator[Change]:
    tables = [table for gpu, _ in a.nvidia if (table := MIG.get(gpu.mig or ""))]
    if tables:
        near = [next(iter(get_close_matches(name, tables[0].profiles, 1, 0)), name) for name in a.mig]
        most = max(table.compute_slices for table in tables)
        for count in range(min(len(near), most), 0, -1):
            yield from ({"mig": layout} for layout in dict.fromkeys(combinations(near[: 2 * most], count)))
    yield {"mig": ()}


def _limits(a: Accelerators, contradiction: Contradiction) -> Iterator[Change]:
    limit = a.power_limit_watts or 0
    bounds = [gpu.verified_value(bound) for gpu, _ in a.nvidia for bound in ("power_min_watts", "power_max_watts")]
    yield from ({"power_limit_watts": bound} for bound in sorted(filter(None, bounds), key=lambda b: abs(b - limit)))
    yield {"power_limit_watts": None}


def _clocks(a: Accelerators, contradiction: Contradiction) -> Iterator[Change]:
    most = [gpu.verified_value("clock_max_mhz") or max(a.clocks_mhz) for gpu, _ in a.nvidia] or [max(a.clocks_mhz)]
    yield {"clocks_mhz": tuple(sorted(min(clock, *most) for clock in a.clocks_mhz))}


def _releases(a: Accelerators, contradiction: Contradiction) -> Iterator[Change]:
    releases = SOFTWARE.stack_releases.get(a.stack or "", {})
    at = (a.version or "").partition("-")[0]
    yield from ({"version": release} for release in sorted(releases, key=lambda release: _distance(release, at)))
    if not releases:
        yield {"version": None}


def _kernels(a: Accelerators, contradiction: Contradiction) -> Iterator[Change]:
    releases = SOFTWARE.stack_releases.get(a.stack or "", {})
    own = [row for release, row in releases.items() if (a.version or "").startswith(f"{release}.")]
    rows = own or releases.values()
    yield from ({"kernel": series.rstrip("+")} for row in rows for series in row.kernels.get(a.os or "", ()))


def _roles(a: Accelerators, contradiction: Contradiction) -> Iterator[Change]:
    yield {"roles": tuple(role for role in a.roles if role not in contradiction.at)}


CANDIDATES: dict[str, Callable[[Accelerators, Contradiction], Iterator[Change]]] = {
    "driver": _drivers,
    "driver_sets": lambda a, contradiction: iter([{"driver_sets": True}]),
    "driver_source": lambda a, contradiction: iter([{"driver_source": "vendor"}]),
    "cuda_source": lambda a, contradiction: iter([{"cuda_source": "vendor"}]),
    "flavour": lambda a, contradiction: iter([{"flavour": "open"}, {"flavour": "proprietary"}]),
    "cuda": _cudas,
    "cuda_default": lambda a, contradiction: iter([{"cuda_default": version} for version in a.toolkits]),
    "needs_cuda": _needed_cudas,
    "torch": _torches,
    "environments": lambda a, contradiction: iter([{"environments": ("serving",)}]),
    "precision": _precisions,
    "mig": _layouts,
    "ecc": lambda a, contradiction: iter([{"ecc": None}]),
    "power_limit_watts": _limits,
    "clocks_mhz": _clocks,
    "fabric_manager": lambda a, contradiction: iter([{"fabric_manager": "auto"}]),
    "version": _releases,
    "kernel": _kernels,
    "peer_memory": lambda a, contradiction: iter([{"peer_memory": way} for way in (*SOFTWARE.peer_memory, "none")]),
    "roles": _roles,
}
"""Generators of alternatives for each field, the nearest first; the rules then check them."""


def _distance(version: str, other: str) -> int:
    """Return the distance of *version* from *other*; 0 if *other* is no version."""
    if not re.fullmatch(VERSION, other):
        return 0
    mine, theirs = (parts(f"{each}.0")[:2] for each in (version, other))
    return abs((mine[0] - theirs[0]) * 100 + mine[1] - theirs[1])


def _digits(tag: str) -> int:
    return int("".join(letter for letter in tag if letter.isdecimal())[:6] or 0)
