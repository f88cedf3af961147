"""Masking of personal data: the rule of each column, and the identifiers that texts are searched for."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from rackwright.schema.base import Count, Many, Schema
from rackwright.schema.host import Name
from rackwright.schema.problem import Problem, excerpt, hint, raise_any
from rackwright.schema.secret import Key

Rule = Literal["pseudonym", "drop", "generalise", "shift_dates", "keep", "text"]
# fmt: off
Country = Literal[
    "AT", "AU", "BE", "BG", "BR", "CA", "CH", "CL", "CN", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GB", "GR",
    "HR", "ID", "IE", "IL", "IN", "IS", "IT", "KR", "LT", "MX", "MY", "NL", "NO", "PL", "PT", "RO", "SE", "SK",
    "TH", "TR", "US", "ZA",
]
# fmt: on
"""Countries with a national identifier of people that texts can be searched for, by ISO 3166."""
Delimiter = Literal["comma", "semicolon", "tab", "pipe"]
LONGEST_SHIFT = 3650
"""Largest shift of a person's dates in days."""
RECORD_PLACES = 5
"""Fewest signs of a record number's form that vary: a shorter number is any number."""
RECORD = r"[#@A-Za-z0-9 ./_-]+"

_KEYS: Mapping[str, tuple[str, ...]] = {
    "pseudonym": ("domain",),
    "generalise": ("to", "length", "edges", "form"),
    "shift_dates": ("person", "days", "form", "placeholders"),
}
"""Further keys of each rule; the others have none."""
_NEEDED = {"generalise": ("to",), "shift_dates": ("person",), "prefix": ("length",), "bins": ("edges",)}
"""Keys that a rule, or a value of `to`, needs."""
_EXAMPLES = {"to": "year", "person": "patient_id", "length": "2", "edges": "[18, 40, 65]"}
"""Values that messages propose."""


class MaskedColumn(Schema):
    """The rule of a column."""

    rule: Rule
    """Treatment of the values: `pseudonym` replaces each by a keyed one, `drop` leaves the column out, `generalise`
    makes them coarser, `shift_dates` moves a person's dates by the same secret offset, `keep` leaves them, and `text`
    replaces the identifiers in them."""
    domain: Name | None = None
    """Name of the pseudonyms of `pseudonym`: columns of one domain give a value the same one. Without it, that of the
    column."""
    to: Literal["year", "month", "decade", "prefix", "bins"] | None = None
    """The coarser form of `generalise`."""
    length: Count | None = None
    """Characters that `prefix` keeps."""
    edges: Many[float] = ()
    """Ascending edges of `bins`: an edge belongs to the bin that it begins."""
    person: str | None = None
    """The column of `shift_dates` that names the person."""
    days: Annotated[int, Field(ge=1, le=LONGEST_SHIFT)] = 365
    """Largest offset of `shift_dates` in days, into past or future: the same for all columns of a policy."""
    placeholders: Many[Annotated[str, Field(pattern=r"^([0-9]{4}-)?(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$")]] = ()
    """Dates of `shift_dates` that stand for an unknown one, such as `1900-01-01`, or `01-01` for that day of each year.
    They are left empty: moved, they would show the offset. Common ones of programs are known."""
    form: str | None = None
    """Form of the dates as in Python's strptime, such as `%d.%m.%Y`; without it, ISO 8601."""

    @model_validator(mode="after")
    def _keys_fit_the_rule(self) -> Self:
        raise_any(self._key_problems())
        return self

    def _key_problems(self) -> Iterator[Problem]:
        own = _KEYS.get(self.rule, ())
        for key in sorted(self.model_fields_set - {"rule", *own}):
            expected = f"the rule {self.rule} has {', '.join(own) or 'no further key'}"
            yield Problem(f"got the key {key}", expected, f"Remove {key}", (key,))
        needed = (*_NEEDED.get(self.rule, ()), *(_NEEDED.get(self.to or "", ()) if self.rule == "generalise" else ()))
        for key in needed:
            if getattr(self, key) in (None, ()):
                owner = self.rule if key in _NEEDED.get(self.rule, ()) else str(self.to)
                expected = f"{owner} needs {key}"
                yield Problem(f"got no {key}", expected, f"Write {key}, like `{key}: {_EXAMPLES[key]}`")
        if list(self.edges) != sorted({*self.edges}):
            found = ", ".join(f"{each:g}" for each in self.edges)
            yield Problem(f"got {found}", "each edge is larger than the one before", "Sort them", ("edges",))
        if self.form is not None and not {"%Y", "%y"} & {*re.findall("%.", self.form)}:
            expected = "a form of strptime with the year, such as %d.%m.%Y"
            yield Problem(f"got {excerpt(self.form)}", expected, "Write %Y in it", ("form",))
        if self.rule == "shift_dates" and {"%z", "%Z"} & {*re.findall("%.", self.form or "")}:
            expected = "a form without a zone: the offset from UTC shows the season"
            yield Problem(f"got {excerpt(self.form or '')}", expected, "Drop the zone from the data", ("form",))


def _record_form(text: str) -> str:
    if re.fullmatch(RECORD, text) and "#" in text and sum(map(text.count, "#@")) >= RECORD_PLACES:
        return text
    expected = (
        f"# for each digit, @ for each letter, {RECORD_PLACES} of them or more, and letters, digits and ./_- as such"
    )
    raise Problem(f"got {excerpt(text)}", expected, "Write it like MRN-#######")


class TextRules(Schema):
    """The identifiers that texts are searched for, beside e-mail, telephone, IBAN, card, IP and MAC."""

    countries: Many[Country]
    """Countries whose national identifiers are searched for, by ISO 3166; `[]` for none. Each makes it likelier that an
    ordinary number looks like one."""
    records: dict[Name, Many[Annotated[str, AfterValidator(_record_form)]]] = Field(default_factory=dict)
    """Forms of record numbers of your own, by name: `#` is a digit, `@` a letter, such as `MRN-#######`."""

    @model_validator(mode="after")
    def _lists_are_sensible(self) -> Self:
        twice = [index for index, each in enumerate(self.countries) if each in self.countries[:index]]
        empty = [name for name, forms in self.records.items() if not forms]
        raise_any(
            [
                *(
                    Problem(
                        f"got {self.countries[index]} twice", "each country once", "Remove it", ("countries", index)
                    )
                    for index in twice
                ),
                *(Problem("got no form", "one form or more", f"Remove {name}", ("records", name)) for name in empty),
            ]
        )
        return self


class QuasiIdentifiers(Schema):
    """Columns that together point at a person, and how many records at least share their values."""

    columns: Annotated[Many[str], Field(min_length=1)]
    """Columns of the masked data."""
    k: Annotated[int, Field(ge=2, le=10_000)]
    """Fewest records with the same values of these columns (k-anonymity)."""
    person: str | None = None
    """The column of the masked data that names the person: k then counts persons instead of records. The default is the
    `person` of `shift_dates`, if the output has it."""
    sensitive: str | None = None
    """The column whose values differ among these records."""
    l: Annotated[int, Field(ge=2, le=100)] | None = None  # noqa: E741 -- the name of the measure
    """Fewest different values of the sensitive column among records that share the others (l-diversity)."""

    @model_validator(mode="after")
    def _diversity_is_whole(self) -> Self:
        if (self.sensitive is None) != (self.l is None):
            missing = "l" if self.l is None else "sensitive"
            raise Problem(f"got no {missing}", "l-diversity needs sensitive and l", f"Write {missing}, or remove both")
        if self.l is not None and self.l > self.k:
            raise Problem(
                f"got {self.l}",
                f"l is at most k, {self.k}: k records have k values at most",
                f"Write {self.k} or less",
                ("l",),
            )
        return self


class MaskingPolicy(Schema):
    """The masking of one sort of data."""

    policy: Name
    """Name of the policy, which reports name."""
    key: Key
    """Secret of the stack that keys the pseudonyms and the offsets of dates."""
    columns: dict[str, MaskedColumn]
    """The rule of each column. In JSON Lines and Parquet a name is a path, such as `patient.id` or
    `messages[].content`. A column without a rule is refused."""
    text: TextRules | None = None
    """Identifiers that columns with the rule `text` are searched for; required with such a column."""
    quasi_identifiers: QuasiIdentifiers | None = None
    """Columns that together point at a person; data with too few equal records are refused."""
    delimiter: Delimiter = "comma"
    """Sign between the columns of CSV."""

    @model_validator(mode="after")
    def _columns_agree(self) -> Self:
        raise_any(self.problems())
        return self

    @property
    def groups(self) -> QuasiIdentifiers | None:
        """The quasi-identifiers, with the column of the person if there is one."""
        quasi = self.quasi_identifiers
        if quasi is None or quasi.person:
            return quasi
        persons = [column.person for column in self.columns.values() if column.person]
        kept = [each for each in persons if each not in quasi.columns and self._value_problem(each) is None]
        return quasi.model_copy(update={"person": kept[0] if kept else None})

    def problems(self) -> Iterator[Problem]:
        """Yield the problems of columns and settings that do not fit each other."""
        if not self.columns:
            yield Problem("got no column", "one column or more", "Name each column of the data", ("columns",))
        for name, column in self.columns.items():
            yield from self._column_problems(name, column)
        yield from self._offset_problems()
        texts = [name for name, column in self.columns.items() if column.rule == "text"]
        if texts and self.text is None:
            help = "Write `text: {countries: [CN, DE]}` with the countries of the people in the data, or []"
            yield Problem("got no text", f"text says what {texts[0]} is searched for", help)
        if quasi := self.quasi_identifiers:
            yield from self._quasi_problems(quasi)

    def _offset_problems(self) -> Iterator[Problem]:
        """Yield the problems of columns by which a person would have two offsets."""
        moved = [(name, column.days) for name, column in self.columns.items() if column.rule == "shift_dates"]
        for name, days in moved[1:]:
            if days != moved[0][1]:
                expected = f"{moved[0][1]}, as {moved[0][0]} has: a person has one offset for all columns"
                yield Problem(f"got {days}", expected, "Write one number", ("columns", name, "days"))

    def _quasi_problems(self, quasi: QuasiIdentifiers) -> Iterator[Problem]:
        for index, name in enumerate(quasi.columns):
            if problem := self._value_problem(name):
                yield problem.below("quasi_identifiers", "columns", index)
        if quasi.sensitive and (problem := self._value_problem(quasi.sensitive)):
            yield problem.below("quasi_identifiers", "sensitive")
        if quasi.person and (problem := self._value_problem(quasi.person)):
            yield problem.below("quasi_identifiers", "person")
        if quasi.sensitive in quasi.columns:
            expected, place = "the sensitive column is none of columns", ("quasi_identifiers", "sensitive")
            yield Problem(f"got {quasi.sensitive!r}", expected, "Remove it from columns", place)

    def _column_problems(self, name: str, column: MaskedColumn) -> Iterator[Problem]:
        if not name.strip():
            yield Problem("got an empty name", "the name of a column", "Name the column", ("columns", name))
        below = next((each for each in self.columns if each.startswith((f"{name}.", f"{name}[]"))), None)
        if below is not None:
            expected = f"either a rule for {name}, or rules for its parts, such as {below}"
            yield Problem(f"got the rule {column.rule}", expected, "Remove one of the two", ("columns", name))
        person = column.person
        if person is not None and (person not in self.columns or "[]" in person):
            expected = "a column of this policy with one value in each record"
            help = hint(person, [each for each in self.columns if "[]" not in each], "Name that column")
            yield Problem(f"got {person!r}", expected, help, ("columns", name, "person"))

    def _value_problem(self, name: str) -> Problem | None:
        """Return the problem of the column *name* as one with a value in each masked record; None if it has one."""
        known = [each for each, column in self.columns.items() if column.rule != "drop" and "[]" not in each]
        if name in known:
            return None
        expected = "a column of this policy that the output has, with one value in each record"
        return Problem(f"got {name!r}", expected, hint(name, known, "Name such a column"))


COUNTRIES: tuple[str, ...] = get_args(Country)
