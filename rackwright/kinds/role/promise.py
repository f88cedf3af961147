"""The promises of a role on one host: its entries with all texts rendered, and which of their properties are secret.

rackwright detects which properties depend on a secret: it renders each entry a second time with a stand-in for the
value, and each property that changes depends on the secret. A stand-in is an arbitrary text, so templates must accept
any text. Only the content of a file, and the existence of an entry, may depend on a secret: other properties are
printed.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from pydantic import ValidationError

from rackwright.core.contract import Claim, UnknownValue
from rackwright.core.repository import Repository, RoleSource
from rackwright.errors import DeclarationError, Diagnostic
from rackwright.facts.program import (
    audit_metrics_program,
    cluster_metrics_program,
    drive_metrics_program,
    gpu_metrics_program,
    health_metrics_program,
    log_chain_program,
    program,
    service_metrics_program,
)
from rackwright.kinds.role.derived_certificates import (
    derived_authority,
    derived_certificate,
    derived_key,
    derived_public_key_pem,
)
from rackwright.kinds.role.entries import SORTS
from rackwright.kinds.role.entries.entry import Entry
from rackwright.kinds.role.entries.files import DirectoryEntry, FileEntry, PresentFile
from rackwright.kinds.role.krl import krl
from rackwright.kinds.role.password_hash import bcrypt_hash, scram_verifier
from rackwright.kinds.role.spec import AboutHost, RoleSpec
from rackwright.kinds.shared.secrets import Redactor, UnknownSecret
from rackwright.quarantine.program import verdict_reader_program, verdict_receiver_program
from rackwright.schema import secret

SINGLE_EXPRESSION = re.compile(r"\{\{((?:(?!\}\}).)*)\}\}", re.DOTALL)
"""A text that is one expression and nothing else keeps the type of its value."""
Names = Mapping[str, Any]
"""The names that expressions and templates may use."""
T = TypeVar("T")


@dataclass(frozen=True)
class Promise:
    """An entry, and which of its properties are secret."""

    entry: Entry = field(repr=False)
    secret: frozenset[str] = frozenset()
    """The properties that depend on a secret."""
    unknown_reason: str = ""
    """The reason why this computer does not know these; empty: they are known."""

    _claims: list[tuple[Claim, ...]] = field(default_factory=list, init=False, repr=False, compare=False)
    """The claims, once they are computed: hosts with equal variables share the promise."""

    def claims(self, repository: Repository) -> tuple[Claim, ...]:
        """Return the claim, split in two if only some properties are secret.

        Args:
            repository: The repository that rendered the promise.
        """
        if not self._claims:
            self._claims.append(tuple(self._compute_claims(repository)))
        return self._claims[0]

    def has_header(self, repository: Repository) -> bool:
        """Return whether the promise is a file whose content begins with a header: see `Repository.header`."""
        return isinstance(self.entry, FileEntry) and bool(repository.header(self.entry.rendered_from, ""))

    def hides_existence(self, repository: Repository) -> bool:
        """Return whether it depends on a secret whether the thing exists."""
        return bool(self.secret) and self.secret >= self.entry.want(repository).keys()

    def on_host(self, name: str, other: str, repository: Repository) -> "Promise":
        """Return the promise of the host *name* for the host *other*, where only the header of its file differs."""
        entry = self.entry
        if not isinstance(entry, FileEntry) or not isinstance(entry.content, str):
            return self
        template = entry.rendered_from
        body = entry.content.removeprefix(repository.header(template, name))
        content = repository.header(template, other) + body
        return replace(self, entry=entry.model_copy(update={"content": content}))

    def _compute_claims(self, repository: Repository) -> Iterator[Claim]:
        claim = self.entry.claim(repository)
        if not self.secret:
            if claim.want:
                yield claim
            return
        if plain := {name: want for name, want in claim.want.items() if name not in self.secret}:
            yield replace(claim, want=plain)
        if secret := {name: want for name, want in claim.want.items() if name in self.secret}:
            want = {name: UnknownValue(self.unknown_reason) for name in secret} if self.unknown_reason else secret
            yield replace(claim, want=want, secret=True)


@dataclass(frozen=True)
class Promises:
    """All promises of a role on one host."""

    source: RoleSource
    variables: Mapping[str, Any] = field(repr=False)
    items: tuple[Promise, ...]
    unknown_secrets: tuple[str, ...] = ()
    """Secrets whose value this computer does not know: files that need them cannot be written."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(promise.entry for promise in self.items)

    @property
    def secret_files(self) -> frozenset[str]:
        """Paths of the files whose content depends on a secret."""
        return frozenset(
            promise.entry.file
            for promise in self.items
            if isinstance(promise.entry, FileEntry) and "content" in promise.secret
        )

    @property
    def files(self) -> tuple[FileEntry, ...]:
        return tuple(entry for entry in self.entries if isinstance(entry, FileEntry))

    @property
    def leaving_files(self) -> tuple[str, ...]:
        """Paths of the files that the role's tasks make, and that leave the host with the role."""
        return tuple(entry.present for entry in self.entries if isinstance(entry, PresentFile) and entry.leaves)

    @property
    def exclusive_directories(self) -> tuple[str, ...]:
        """Directories that may hold only declared names."""
        return tuple(
            entry.directory for entry in self.entries if isinstance(entry, DirectoryEntry) and entry.only is not None
        )


class InvalidEntry(Exception):
    """An entry of a role's claims is wrong; the message says how."""


def promises(spec: RoleSpec, repository: Repository) -> Promises:
    """Return the promises of the role of *spec*, with all texts rendered.

    Raises:
        DeclarationError: ``meta/claims.yml`` or a template is wrong, or uses an undefined name.
    """
    import jinja2

    source = repository.roles[spec.role]
    names = {str(name) for _, name in secret.references(spec.variables)}
    unknown_secrets = tuple(sorted(names - repository.secrets.keys()))
    shared = repository.promises_cache.setdefault(_shared_key(spec), SharedPromises())
    host = HostNames(spec.about)
    variables, own, public = _scopes(spec, source, host, bool(names), shared, repository)
    reason = f"the value of {', '.join(map(secret.placeholder, unknown_secrets))} is not known here"
    items: list[Promise] = []
    for number, raw in enumerate(source.claims, start=1):
        if number in shared.entries:
            items += shared.entries[number]
            continue
        if number in shared.with_header:
            name, entries = shared.with_header[number]
            items += (promise.on_host(name, spec.about.name, repository) for promise in entries)
            continue
        host.is_used = False
        try:
            entries = tuple(_render_promises(source, raw, own, public, repository, reason))
        except (jinja2.TemplateError, ValidationError, KeyError, TypeError, InvalidEntry) as error:
            where = f"roles/{spec.role}/meta/claims.yml, entry {number}"
            problem = Redactor(repository.secrets.values())(_format_error(error))
            raise DeclarationError(
                Diagnostic(where, problem, "an entry that makes one claim", "Correct the role")
            ) from error
        items += entries
        if shared.scopes is not None and not host.is_used:
            if any(promise.has_header(repository) for promise in entries):
                shared.with_header[number] = spec.about.name, entries
            else:
                shared.entries[number] = entries
    internal = {name: own[name] for name in source.names if name.startswith("__")}
    return Promises(source, {**variables, **internal}, tuple(items), unknown_secrets)


class HostNames:
    """The value of ``host`` in claims and templates, which notes any use of a part that differs from host to host."""

    SHARED = frozenset(("os", "profile", "drivers"))
    """Parts that are in the key of shared promises."""

    def __init__(self, about: AboutHost) -> None:
        self._about, self.is_used = about, False

    def __getattr__(self, name: str) -> Any:
        if name not in self.SHARED:
            self.is_used = True
        return getattr(self._about, name)

    def header(self, template: str, repository: Repository) -> str:
        """Return the header of *template*, without a note of the use: `Promise.on_host` replaces it."""
        return repository.header(template, self._about.name)

    def __str__(self) -> str:
        self.is_used = True
        return str(self._about)

    def __repr__(self) -> str:
        self.is_used = True
        return repr(self._about)


Scopes = tuple[Names, Names, Names | None]
"""The variables; all names with the values of secrets; all names with stand-ins, None if no variable has a secret."""


@dataclass
class SharedPromises:
    """The parts of a role's promises that all hosts with equal variables share: nothing in them depends on the host."""

    scopes: Scopes | None = None
    """None before the first host, and if names depend on the host."""
    entries: dict[int, tuple[Promise, ...]] = field(default_factory=dict)
    """Promises by the number of their entry."""
    with_header: dict[int, tuple[str, tuple[Promise, ...]]] = field(default_factory=dict)
    """The same for entries with files whose header depends on the host, with the name of that host."""


def _shared_key(spec: RoleSpec) -> str:
    return spec.model_dump_json(include={"role": True, "about": {*HostNames.SHARED}, "fleet": True, "variables": True})


def _scopes(
    spec: RoleSpec,
    source: RoleSource,
    host: HostNames,
    has_secrets: bool,
    shared: SharedPromises,
    repository: Repository,
) -> Scopes:
    """Return the names for the entries of *source* on *host*, and share them if they do not depend on it."""
    if shared.scopes is not None:
        variables, own, public = shared.scopes
        return variables, {**own, "host": host}, None if public is None else {**public, "host": host}
    values = secret.fill(spec.variables, lambda name: repository.secrets.get(name, UnknownSecret()))
    variables = source.variables(spec.about.os, values)
    own, public = _scope(spec, source, host, variables, repository), None
    if has_secrets:
        stand_ins = source.variables(spec.about.os, secret.fill(spec.variables, secret.placeholder))
        public = _scope(spec, source, host, stand_ins, repository)
    if not host.is_used:
        shared.scopes = variables, own, public
    return variables, own, public


def _scope(spec: RoleSpec, source: RoleSource, host: HostNames, variables: Names, repository: Repository) -> Names:
    common = {
        "host": host,
        "fleet": spec.fleet,
        "probe_program": program(repository.salt),
        "log_chain_program": log_chain_program(),
        "audit_metrics_program": audit_metrics_program(),
        "cluster_metrics_program": cluster_metrics_program(),
        "drive_metrics_program": drive_metrics_program(),
        "gpu_metrics_program": gpu_metrics_program(),
        "health_metrics_program": health_metrics_program(),
        "service_metrics_program": service_metrics_program(),
        "verdict_reader_program": verdict_reader_program(),
        "verdict_receiver_program": verdict_receiver_program(),
        "krl": krl,
        "sha256": sha256,
        "sha256_base64": sha256_base64,
        "bcrypt": partial(bcrypt_hash, key=repository.salt),
        "scram": partial(scram_verifier, key=repository.salt),
        "derived_authority": derived_authority,
        "derived_certificate": derived_certificate,
        "derived_key": derived_key,
        "derived_public_key": derived_public_key_pem,
        "base64": to_base64,
    }
    return {**common, **add_names(source, {**variables, **common}, repository)}


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_base64(text: str) -> str:
    """Return the SHA-256 digest of *text* in base64: a key of 32 bytes."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def to_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def add_names(source: RoleSource, variables: Names, repository: Repository) -> Names:
    """Return *variables* with the role's ``names``; a name that depends on an unknown secret is an UnknownSecret."""
    names = dict(variables)
    for name, value in source.names.items():
        try:
            names[name] = evaluate(value, names, repository)
        except UnknownSecret.SecretAccessed:
            names[name] = UnknownSecret()
    return names


def _render_promises(
    source: RoleSource, raw: Mapping[str, Any], own: Names, public: Names | None, repository: Repository, reason: str
) -> Iterator[Promise]:
    """Yield the promises of one entry: one, or one for each item, if its condition holds.

    Args:
        own: The names with the values of secrets.
        public: The names with a stand-in for each secret; None if no variable refers to a secret.
        reason: The reason why unknown secrets are unknown.
    """
    if public is None:
        for names in _items(raw, own, repository):
            if _holds(raw, names, repository):
                yield Promise(_entry(source, raw, names, repository))
        return
    items, public_items = _unless_unknown(lambda: _items(raw, own, repository)), _items(raw, public, repository)
    if items is None or len(items) != len(public_items):
        raise InvalidEntry("a list of things that depends on a secret")
    for names, stand_ins in zip(items, public_items, strict=True):
        yield from _render_secret_promise(source, raw, names, stand_ins, repository, reason)


def _render_secret_promise(
    source: RoleSource, raw: Mapping[str, Any], own: Names, public: Names, repository: Repository, reason: str
) -> Iterator[Promise]:
    """Yield the promise of *own*; its properties that differ under *public* are secret."""
    holds = _unless_unknown(lambda: _holds(raw, own, repository))
    if holds is False:
        return
    entry = _unless_unknown(lambda: _entry(source, raw, own, repository))
    public_entry = _entry(source, raw, public, repository)
    depends = {"content"} if entry is None else _differing_fields(entry, public_entry)
    if depends and (depends != {"content"} or not isinstance(public_entry, FileEntry)):
        fields = ", ".join(sorted(depends))
        raise InvalidEntry(
            f"{public_entry.sort} with {fields} of a secret: only the content of a file may depend on one"
        )
    existence_is_secret = holds is not _holds(raw, public, repository)
    secret_properties = frozenset(public_entry.want(repository)) if existence_is_secret else frozenset(depends)
    yield Promise(entry or public_entry, secret_properties, reason if holds is None or entry is None else "")


def _unless_unknown(compute: Callable[[], T]) -> T | None:
    """Return the result of *compute*; None if it uses the value of an unknown secret."""
    try:
        return compute()
    except UnknownSecret.SecretAccessed:
        return None


def _differing_fields(one: Entry, other: Entry) -> set[str]:
    return {name for name in type(one).model_fields if getattr(one, name) != getattr(other, name)}


def _items(raw: Mapping[str, Any], scope: Names, repository: Repository) -> list[Names]:
    """Return the names for each repetition of the entry."""
    if "each" not in raw:
        return [scope]
    return [{**scope, "item": item} for item in evaluate(raw["each"], scope, repository)]


def _holds(raw: Mapping[str, Any], names: Names, repository: Repository) -> bool:
    return "when" not in raw or bool(_expression(raw["when"], names, repository))


def _entry(source: RoleSource, raw: Mapping[str, Any], names: Names, repository: Repository) -> Entry:
    keys = {key: value for key, value in raw.items() if key not in ("when", "each")}
    [sort] = [key for key in keys if key in SORTS]
    values = evaluate(keys, names, repository)
    if any(isinstance(value, UnknownSecret) for value in values.values()):
        raise UnknownSecret.SecretAccessed
    if sort == "file" and "content" not in values:
        template = values.pop("template", f"{source.name}{values['file']}.j2")
        values["rendered_from"] = template
        values["content"] = names["host"].header(template, repository) + repository.render_body(template, **names)
    return SORTS[sort].model_validate(values)


def evaluate(value: Any, names: Mapping[str, Any], repository: Repository) -> Any:
    """Return *value* with every text in it rendered; a text that is one expression becomes that expression's value."""
    match value:
        case str():
            if expression := SINGLE_EXPRESSION.fullmatch(value):
                return _expression(expression[1], names, repository)
            return repository.expressions.template(value).render(names) if "{" in value else value
        case Mapping():
            return {key: evaluate(item, names, repository) for key, item in value.items()}
        case list():
            return [evaluate(item, names, repository) for item in value]
        case _:
            return value


def _expression(text: str, names: Mapping[str, Any], repository: Repository) -> Any:
    import jinja2

    value = repository.expressions.expression(text.strip())(**names)
    if isinstance(value, jinja2.Undefined):
        str(value)  # StrictUndefined raises an error with the name
    return value


def _format_error(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
    return str(error)
