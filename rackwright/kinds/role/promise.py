"""What a role promises on one host: its entries with all texts rendered, and what of them is a secret.

What depends on a secret is found out, not declared: each entry is rendered once more with a stand-in where the value
would be, and whatever comes out otherwise depends on it. A stand-in is any text, so templates have to take any. Only
what a file contains, and whether something is promised at all, may depend on a secret: the rest is printed.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import jinja2
from pydantic import ValidationError

from rackwright.core.contract import Claim, UnknownValue
from rackwright.core.repository import Repository, RoleSource
from rackwright.errors import DeclarationError
from rackwright.facts.program import program
from rackwright.kinds.role.entries import SORTS, Directory, Entry, File
from rackwright.kinds.role.krl import krl
from rackwright.kinds.role.spec import RoleSpec
from rackwright.kinds.shared.secrets import Redactor, UnknownSecret
from rackwright.schema import secret

ALONE = re.compile(r"\{\{((?:(?!\}\}).)*)\}\}", re.DOTALL)
"""A text that is one expression and nothing else keeps the type of its value."""
Names = Mapping[str, Any]
"""What expressions and templates may use."""
T = TypeVar("T")


@dataclass(frozen=True)
class Promise:
    """An entry, and what of it is a secret."""

    entry: Entry = field(repr=False)
    secret: frozenset[str] = frozenset()
    """The properties that depend on one."""
    unknown: str = ""
    """Why these cannot be told here."""

    def claims(self, repository: Repository) -> Iterator[Claim]:
        """Yield the claim; where only some of it is secret, as two."""
        claim = self.entry.claim(repository)
        if plain := {name: want for name, want in claim.want.items() if name not in self.secret}:
            yield replace(claim, want=plain)
        if hidden := {name: want for name, want in claim.want.items() if name in self.secret}:
            told = {name: UnknownValue(self.unknown) for name in hidden} if self.unknown else hidden
            yield replace(claim, want=told, secret=True)


@dataclass(frozen=True)
class Promises:
    """All that a role promises on one host."""

    source: RoleSource
    variables: Mapping[str, Any] = field(repr=False)
    promised: tuple[Promise, ...]
    sealed: tuple[str, ...] = ()
    """Secrets whose value is not known here: what needs it cannot be written."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(promise.entry for promise in self.promised)

    @property
    def secret_files(self) -> frozenset[str]:
        """Paths of the files whose content depends on a secret."""
        return frozenset(
            promise.entry.file
            for promise in self.promised
            if isinstance(promise.entry, File) and "content" in promise.secret
        )

    @property
    def files(self) -> tuple[File, ...]:
        return tuple(entry for entry in self.entries if isinstance(entry, File))

    @property
    def closed(self) -> tuple[str, ...]:
        """Directories in which nothing may stand that it does not name."""
        return tuple(
            entry.directory for entry in self.entries if isinstance(entry, Directory) and entry.only is not None
        )


class Mistake(Exception):
    """What is wrong with an entry."""


def promises(spec: RoleSpec, repository: Repository) -> Promises:
    """Return what the role of *spec* promises, all texts rendered.

    Raises:
        DeclarationError: its ``meta/claims.yml`` or a template is wrong, or uses a name that is not there.
    """
    source = repository.roles[spec.role]
    names = {str(name) for _, name in secret.references(spec.variables)}
    sealed = tuple(sorted(names - repository.secrets.keys()))
    values = secret.fill(spec.variables, lambda name: repository.secrets.get(name, UnknownSecret()))
    variables = source.variables(spec.about.os, values)
    own, public = _scope(spec, source, variables, repository), None
    if names:
        shown = source.variables(spec.about.os, secret.fill(spec.variables, secret.placeholder))
        public = _scope(spec, source, shown, repository)
    unknown = f"the value of {', '.join(map(secret.placeholder, sealed))} is not known here"
    promised: list[Promise] = []
    for number, raw in enumerate(source.claims, start=1):
        try:
            promised += _promised(source, raw, own, public, repository, unknown)
        except (jinja2.TemplateError, ValidationError, KeyError, TypeError, Mistake) as error:
            where = f"roles/{spec.role}/meta/claims.yml, entry {number}"
            got = f"got {Redactor(repository.secrets.values())(_said(error))}"
            raise DeclarationError(where, got, "an entry says what holds", "Correct the role") from error
    internal = {name: own[name] for name in source.names if name.startswith("__")}
    return Promises(source, {**variables, **internal}, tuple(promised), sealed)


def _scope(spec: RoleSpec, source: RoleSource, variables: Names, repository: Repository) -> Names:
    common = {
        "host": spec.about,
        "fleet": spec.fleet,
        "probe_program": program(repository.salt),
        "krl": krl,
        "sha256": sha256,
    }
    return {**common, **named(source, {**variables, **common}, repository)}


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def named(source: RoleSource, variables: Names, repository: Repository) -> Names:
    """Return *variables* with the role's ``names`` beside them; what depends on a sealed secret is sealed as well."""
    names = dict(variables)
    for name, value in source.names.items():
        try:
            names[name] = evaluate(value, names, repository)
        except UnknownSecret.SecretAccessed:
            names[name] = UnknownSecret()
    return names


def _promised(
    source: RoleSource, raw: Mapping[str, Any], own: Names, public: Names | None, repository: Repository, unknown: str
) -> Iterator[Promise]:
    """Yield what one entry stands for: itself, or one for each item, where its condition holds.

    Args:
        own: The names as they are.
        public: The same with a stand-in for each secret; None where there are none.
        unknown: Why what depends on a sealed secret cannot be told.
    """
    if public is None:
        for names in _items(raw, own, repository):
            if _holds(raw, names, repository):
                yield Promise(_entry(source, raw, names, repository))
        return
    items, shown = _unless_sealed(lambda: _items(raw, own, repository)), _items(raw, public, repository)
    if items is None or len(items) != len(shown):
        raise Mistake("a list of things that depends on a secret")
    for names, stand_ins in zip(items, shown, strict=True):
        yield from _compared(source, raw, names, stand_ins, repository, unknown)


def _compared(
    source: RoleSource, raw: Mapping[str, Any], own: Names, public: Names, repository: Repository, unknown: str
) -> Iterator[Promise]:
    """Yield the one promise of *own*, with what of it is otherwise under *public*."""
    holds = _unless_sealed(lambda: _holds(raw, own, repository))
    if holds is False:
        return
    entry, told = _unless_sealed(lambda: _entry(source, raw, own, repository)), _entry(source, raw, public, repository)
    depends = {"content"} if entry is None else _otherwise(entry, told)
    if depends and (depends != {"content"} or not isinstance(told, File)):
        raise Mistake(
            f"{told.sort} with {', '.join(sorted(depends))} of a secret: only the content of a file may be one"
        )
    whole = holds is not _holds(raw, public, repository)
    hidden = frozenset(told.want(repository)) if whole else frozenset(depends)
    yield Promise(entry or told, hidden, unknown if holds is None or entry is None else "")


def _unless_sealed(told: Callable[[], T]) -> T | None:
    """Return what *told* gives; None where that depends on a value that is not known."""
    try:
        return told()
    except UnknownSecret.SecretAccessed:
        return None


def _otherwise(one: Entry, other: Entry) -> set[str]:
    return {name for name in type(one).model_fields if getattr(one, name) != getattr(other, name)}


def _items(raw: Mapping[str, Any], scope: Names, repository: Repository) -> list[Names]:
    """Return the names for each time that the entry stands."""
    if "each" not in raw:
        return [scope]
    return [{**scope, "item": item} for item in evaluate(raw["each"], scope, repository)]


def _holds(raw: Mapping[str, Any], names: Names, repository: Repository) -> bool:
    return "when" not in raw or bool(_expression(raw["when"], names, repository))


def _entry(source: RoleSource, raw: Mapping[str, Any], names: Names, repository: Repository) -> Entry:
    written = {key: value for key, value in raw.items() if key not in ("when", "each")}
    [sort] = [key for key in written if key in SORTS]
    values = evaluate(written, names, repository)
    if any(isinstance(value, UnknownSecret) for value in values.values()):
        raise UnknownSecret.SecretAccessed
    if sort == "file" and "content" not in values:
        template = values.pop("template", f"{source.name}{values['file']}.j2")
        values["content"] = repository.render(template, **names)
    return SORTS[sort].model_validate(values)


def evaluate(value: Any, names: Mapping[str, Any], repository: Repository) -> Any:
    """Return *value* with every text in it rendered; a text that is one expression becomes that expression's value."""
    match value:
        case str():
            if alone := ALONE.fullmatch(value):
                return _expression(alone[1], names, repository)
            return repository.expressions.template(value).render(names) if "{" in value else value
        case Mapping():
            return {key: evaluate(item, names, repository) for key, item in value.items()}
        case list():
            return [evaluate(item, names, repository) for item in value]
        case _:
            return value


def _expression(text: str, names: Mapping[str, Any], repository: Repository) -> Any:
    value = repository.expressions.expression(text.strip())(**names)
    if isinstance(value, jinja2.Undefined):
        str(value)  # StrictUndefined says by which name
    return value


def _said(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors())
    return str(error)
