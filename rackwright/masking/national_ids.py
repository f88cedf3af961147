"""National identifiers of people and companies: their shapes here, their check digits in python-stdnum."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

SEPARATOR = r"[ ./-]{0,6}"
"""Signs between two parts of an identifier, after all other signs have become blanks; none is one too."""
DIGITS: Mapping[str, tuple[tuple[str, tuple[int, ...]], ...]] = {
    "AT": (("at.vnr", (10,)),),
    "AU": (("au.tfn", (8, 9)),),
    "BE": (("be.nn", (11,)),),
    "BG": (("bg.egn", (10,)),),
    "BR": (("br.cpf", (11,)),),
    "CA": (("ca.sin", (9,)),),
    "CH": (("ch.ssn", (13,)),),
    "CZ": (("cz.rc", (9, 10)),),
    "DE": (("de.idnr", (11,)),),
    "DK": (("dk.cpr", (10,)),),
    "EE": (("ee.ik", (11,)),),
    "FR": (("fr.nir", (15,)),),
    "GB": (("gb.nhs", (10,)),),
    "GR": (("gr.amka", (11,)),),
    "HR": (("hr.oib", (11,)),),
    "ID": (("id.nik", (16,)),),
    "IL": (("il.idnr", (9,)),),
    "IN": (("in_.aadhaar", (12,)),),
    "IS": (("is_.kennitala", (10,)),),
    "KR": (("kr.rrn", (13,)),),
    "LT": (("lt.asmens", (11,)),),
    "MY": (("my.nric", (12,)),),
    "NL": (("nl.bsn", (9,)),),
    "NO": (("no.fodselsnummer", (11,)),),
    "PL": (("pl.pesel", (11,)),),
    "PT": (("pt.nif", (9,)),),
    "RO": (("ro.cnp", (13,)),),
    "SE": (("se.personnummer", (10, 12)),),
    "SK": (("sk.rc", (9, 10)),),
    "TH": (("th.pin", (13,)),),
    "TR": (("tr.tckimlik", (11,)),),
    "ZA": (("za.idnr", (13,)),),
}
"""Identifiers of digits alone: the module of stdnum and the numbers of digits."""
SHAPES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "CL": (("cl.rut", r"[0-9]{1,2}\.?[0-9]{3}\.?[0-9]{3}-?[0-9K]"),),
    "CN": (
        ("cn.ric", r"[1-9][0-9]{5}[ -]?(?:18|19|20)[0-9]{2}[ -]?[0-9]{4}[ -]?[0-9]{3}[0-9X]"),
        ("cn.uscc", r"[0-9A-HJ-NP-RTUW-Y]{2}[ -]?[0-9]{6}[ -]?[0-9A-HJ-NP-RTUW-Y]{9}[ -]?[0-9A-HJ-NP-RTUW-Y]"),
    ),
    "ES": (("es.dni", r"[0-9]{2}\.?[0-9]{3}\.?[0-9]{3}[ -]?[A-Z]"), ("es.nie", r"[XYZ][ -]?[0-9]{7}[ -]?[A-Z]")),
    "FI": (("fi.hetu", r"[0-9]{6}[-+ABCDEFYXWVU][0-9]{3}[0-9A-Y]"),),
    "FR": (("fr.nir", r"[12] ?[0-9]{2} ?[0-9]{2} ?2[AB] ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}"),),
    "IE": (("ie.pps", r"[0-9]{7}[A-W][ABHTWPIQ]?"),),
    "IN": (("in_.pan", r"[A-Z]{5}[0-9]{4}[A-Z]"),),
    "IT": (("it.codicefiscale", r"[A-Z]{6} ?[0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{2} ?[A-Z][0-9LMNP-V]{3}[A-Z]"),),
    "MX": (("mx.curp", r"[A-Z]{4}[0-9]{6}[HM][A-Z]{5}[0-9A-Z][0-9]"),),
    "PT": (("pt.cc", r"[0-9]{8} ?[0-9] ?[A-Z0-9]{2}[0-9]"),),
    "SE": (("se.personnummer", r"[0-9]{6}\+[0-9]{4}"),),
    "US": (
        ("us.ssn", r"[0-9]{3}(?P<sign>[ -])[0-9]{2}(?P=sign)[0-9]{4}"),
    ),  # without a check digit, so with its signs alone
}
"""Identifiers with letters or signs of their own: the module of stdnum and a regular expression, in capitals."""


@dataclass(frozen=True)
class NationalIds:
    """The national identifiers of some countries."""

    by_length: Mapping[int, tuple[tuple[str, str], ...]]
    """Country and module of the identifiers with this number of digits."""
    shapes: tuple[tuple[str, str, re.Pattern[str]], ...]
    """Country, module and pattern of the others."""

    def of_digits(self, digits: str) -> str | None:
        """Return the country of the valid identifier *digits*; None if it is none."""
        for country, module in self.by_length.get(len(digits), ()):
            if is_valid(module, digits):
                return country
        return None

    def of_shapes(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Yield begin, end and country of each valid identifier with letters in *text*, which is in capitals."""
        for country, module, pattern in self.shapes:
            for match in pattern.finditer(text):
                if is_valid(module, re.sub(r"[ ./]" if module == "fi.hetu" else r"[ ./-]", "", match["id"])):
                    yield *match.span("id"), country


def select(countries: Iterable[str]) -> NationalIds:
    """Return the identifiers of *countries*."""
    by_length: dict[int, list[tuple[str, str]]] = defaultdict(list)
    shapes = []
    for country in countries:
        for module, lengths in DIGITS.get(country, ()):
            for length in lengths:
                by_length[length].append((country, module))
        for module, shape in SHAPES.get(country, ()):
            # a look ahead, since a word before an identifier may look like its beginning
            spread = re.sub(r"\[ -\]\?|\\\.\?|-\?| \?", lambda _: SEPARATOR, shape)
            shapes.append((country, module, re.compile(rf"(?<![0-9])(?=(?P<id>{spread})(?![0-9]))")))
    return NationalIds({length: tuple(found) for length, found in by_length.items()}, tuple(shapes))


def is_valid(module: str, number: str) -> bool:
    """Return whether *number* is valid by the module of stdnum of that name."""
    return _checker(module)(number)


@cache
def _checker(module: str) -> Callable[[str], bool]:
    checks = import_module(f"stdnum.{module}")
    if module == "cn.ric":
        return lambda number: _is_resident_id(checks, number)
    check: Callable[[str], bool] = checks.is_valid
    return check


def _is_resident_id(checks: Any, number: str) -> bool:
    """Return whether *number* has the check digit and a date of a Chinese resident's identifier.

    `is_valid` also wants a county that existed at the birth; a number has that of its first registration.
    """
    try:
        checks.get_birth_date(number)
    except ValueError:
        return False
    return bool(number[-1] == checks.calc_check_digit(number))
