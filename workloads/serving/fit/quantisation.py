"""The quantisation of a model's weights, from the ``quantization_config`` of its ``config.json``.

Sources: the quantisation methods of vLLM 0.32; the OCP Microscaling Formats specification 1.0 (MXFP4: a scale of 8 bits
for 32 values); NVIDIA's ModelOpt (NVFP4: a scale of 8 bits for 16 values, and one of 32 bits for a matrix).
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from itertools import accumulate
from typing import Any

from workloads.errors import Diagnostic, UserError
from workloads.foreign import excerpt

PATTERNS_MAX = 100_000
"""The most names of modules without quantisation."""


@dataclass(frozen=True, slots=True)
class Format:
    """The format of a quantised matrix."""

    bits: int
    """Bits of a weight."""
    group: int = 0
    """Weights of a row that share a scale; 0: a whole row or matrix does."""
    scale_bits: int = 16
    """Bits of a scale, and of a zero point if there is one."""
    square: bool = False
    """Whether a scale is for a square block of `group` rows and columns."""
    padded: bool = False
    """Whether vLLM pads a part that is no multiple of `group`. Source: mxfp4.py of vLLM 0.32."""

    def weight_bytes(self, rows: int, columns: int) -> int:
        """Return the bytes of a matrix without its scales."""
        return math.ceil(rows * columns * self.bits / 8)

    def scale_bytes(self, rows: int, columns: int) -> int:
        """Return the bytes of the scales of a matrix, and of its zero points."""
        if self.square:
            scales = math.ceil(rows / self.group) * math.ceil(columns / self.group)
        else:
            scales = rows * math.ceil(columns / self.group) if self.group else 1
        return math.ceil(scales * self.scale_bits / 8)


NVFP4, MXFP4 = Format(4, 16, 8), Format(4, 32, 8, padded=True)


@dataclass(frozen=True, slots=True)
class Quantisation:
    """The formats of a model's matrices, by the names of their modules."""

    format: Format
    ignored: tuple[str, ...] = ()
    """Names and patterns of modules that keep their precision."""
    only_experts: bool = False
    """Whether routed experts alone have `format`."""
    other: Format | None = None
    """The format of the matrices that are no routed experts."""

    def format_of(self, module: str) -> Format | None:
        """Return the format of the matrix of *module*; None if it keeps its precision."""
        if module in _ignored_modules(self.ignored):
            return None
        return self.other if self.only_experts and ".experts." not in module else self.format


class _IgnoredModules:
    """Names and patterns of modules: ``re:…``, with wildcards, or plain names, also of a module around others."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        plain = [each.replace("language_model.", "").removesuffix(".") for each in patterns]
        wild = [each for each in plain if "*" in each and not each.startswith("re:")]
        expressions = [f"(?:{each[3:]})" for each in patterns if each.startswith("re:")]
        # a name of one part is that of modules anywhere
        self._names = {each for each in plain if "*" not in each and not each.startswith("re:")}
        self._wild = re.compile("|".join(f"{translate(each)}|{translate(each + '.*')}" for each in wild) or "(?!)")
        self._expression = re.compile("|".join(expressions) or "(?!)")

    def __contains__(self, module: object) -> bool:
        parts = str(module).split(".")
        around = accumulate(parts, lambda head, part: f"{head}.{part}")
        return (
            not self._names.isdisjoint((*parts, *around))
            or self._wild.match(str(module)) is not None
            or self._expression.search(str(module)) is not None
        )


_ignored_modules = lru_cache(maxsize=8)(_IgnoredModules)


def quantisation_of(config: Mapping[str, Any], expert_dtype: object = None) -> Quantisation | None:
    """Return the quantisation of *config*, a ``config.json``; None if it has none.

    Args:
        expert_dtype: The precision of routed experts that config.json names beside it.

    Raises:
        UserError: The method is not one whose bytes are known.
    """
    given = config.get("quantization_config")
    if given is None:
        return None
    settings = given if isinstance(given, Mapping) else {}
    method = str(settings.get("quant_method") or settings.get("quant_algo") or "").lower()
    ignored = tuple(_ignored_names(settings))
    found = _format(method, settings)
    if found is None:
        problem = f"the bytes of quantisation {excerpt(repr(method))} are not known"
        expected = "fp8, modelopt (NVFP4, FP8), mxfp4, awq, gptq or compressed-tensors"
        help = "Give the directory with its safetensors"
        raise UserError(Diagnostic("config.json, quantization_config", problem, expected, help))
    if settings.get("moe_quant_algo") == "NVFP4":
        return Quantisation(NVFP4, (), True, _fp8(settings))
    if expert_dtype == "fp4":
        return Quantisation(MXFP4, ignored, True, found)
    return Quantisation(found, ignored, method == "mxfp4")


def _ignored_names(settings: Mapping[str, Any]) -> Iterator[str]:
    for name in ("modules_to_not_convert", "ignore", "exclude_modules", "ignored_layers"):
        given = settings.get(name)
        if isinstance(given, list):
            yield from (each for each in given[:PATTERNS_MAX] if isinstance(each, str) and _is_sound(each))


def _is_sound(pattern: str) -> bool:
    """Return whether *pattern*, of a file of others, is no regular expression that costs much."""
    return len(pattern) < 500 and not (pattern.startswith("re:") and re.search(r"[+*}]\)?[+*{]", pattern))


def _fp8(settings: Mapping[str, Any]) -> Format:
    block = settings.get("weight_block_size")
    rows = block[0] if isinstance(block, list) and block else None
    return Format(8, rows, 32, square=True) if type(rows) is int and rows > 0 else Format(8, 0, 32)


def _format(method: str, settings: Mapping[str, Any]) -> Format | None:
    algorithm = str(settings.get("quant_algo") or "").upper()
    if method == "fp8" or (method == "modelopt" and algorithm == "FP8"):
        return _fp8(settings)
    if method in ("modelopt", "modelopt_fp4", "nvfp4") and algorithm in ("NVFP4", "W4A16_NVFP4"):
        return NVFP4
    if method == "mxfp4":
        return MXFP4
    if method in ("awq", "gptq", "auto_awq", "awq_marlin", "gptq_marlin"):
        bits, group = settings.get("bits", settings.get("w_bit", 4)), settings.get("group_size", 128)
        # a scale of 16 bits and a zero point of as many bits as a weight
        return Format(bits, max(group, 0), 16 + bits) if _is_size(bits, 16) and type(group) is int else None
    if method in ("compressed-tensors", "compressed_tensors"):
        return _compressed_format(settings)
    return None


def _compressed_format(settings: Mapping[str, Any]) -> Format | None:
    """Return the format of a config of compressed-tensors, if it has one for all its matrices."""
    groups = settings.get("config_groups")
    weights = [each.get("weights") for each in groups.values() if isinstance(each, Mapping)] if isinstance(
        groups, Mapping
    ) else []  # fmt: skip
    formats = {_group_format(each) for each in weights if isinstance(each, Mapping)}
    return formats.pop() if len(formats) == 1 else None


def _group_format(weights: Mapping[str, Any]) -> Format | None:
    bits, group, block = weights.get("num_bits"), weights.get("group_size"), weights.get("block_structure")
    if type(bits) is not int or not 1 <= bits <= 16:
        return None
    if bits == 4 and weights.get("type") == "float":
        return {16: NVFP4, 32: MXFP4}.get(group if type(group) is int else 0)
    if isinstance(block, list) and block and type(block[0]) is int and block[0] > 0:
        return Format(bits, block[0], 32, square=True)
    return Format(bits, group if type(group) is int and group > 0 else 0, 16)


def _is_size(value: object, most: int) -> bool:
    return type(value) is int and 1 <= value <= most
