"""The repository's templates, which jinja2 renders on this computer, and its roles."""

import io
import ipaddress
import re
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from rackwright import locations
from rackwright.facts import digest
from rackwright.schema import formats, secret, variables
from rackwright.schema.problem import Keys, Problem
from rackwright.schema.variables import constraint_problems

if TYPE_CHECKING:
    import jinja2

NAME_OF_HOST = "{{ host.name }}"
HEADER = re.compile(rf"[^{{}}\n]*{re.escape(NAME_OF_HOST)}[^{{}}\n]*\n")
UNVERIFIED, ACCEPTED = "unverified", "accepted"
"""The variable and its value with which a fleet accepts a role that was never tested on its hardware."""


@dataclass(frozen=True)
class RoleSource:
    """One folder of ``roles/``: variables, order and claims, as far as they do not depend on a host."""

    name: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    """Argument specifications of Ansible, by full variable name."""
    constraints: Mapping[str, Any] = field(default_factory=dict)
    """Constraints such as ``mutually_exclusive`` and ``required_together``, for Ansible's validator.

    The specification of a role in ``meta/argument_specs.yml`` has no place for them.
    """
    by_os: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Names of packages and services, by operating system; the role supports no other system."""
    after: tuple[str, ...] = ()
    """Resources of the host that must be right first: ``base``, or ``tier:NAME``."""
    unverified_reason: str = ""
    """The part that was never tested on the target hardware: the role is played only if the fleet accepts that."""
    follows: tuple[str, ...] = ()
    """Roles that come first if the host has them."""
    guarded: bool = False
    """Whether the role may break logins: the host restores the files by itself unless a new login succeeds."""
    reload: tuple[str, ...] = ()
    """Units that read the files again after the host has restored them."""
    formats: Mapping[str, str] = field(default_factory=dict)
    """Names of the variables' formats, by path without the indexes of lists: ``ntp_keys.servers``."""
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Minimum and maximum of each number in variables, by path without the indexes of lists: ``ntp_keys.id``."""
    secret_lengths: Mapping[str, int] = field(default_factory=dict)
    """Minimum length of the secrets in variables, by path without the indexes of lists: ``admin.password``."""
    secret_forms: Mapping[str, str] = field(default_factory=dict)
    """Names of the forms of secrets that a program parses, by the same paths: ``key``."""
    key_pairs: Mapping[str, str] = field(default_factory=dict)
    """The variable with the certificate of each private key, by the variable of the key, both by short names."""
    names: Mapping[str, Any] = field(default_factory=dict)
    """Expressions over the variables, by name, for claims and refusals."""
    claims: tuple[Mapping[str, Any], ...] = ()
    refusals: tuple[Mapping[str, Any], ...] = ()
    """Rules that refuse a combination of variables; see rackwright.kinds.role.refusals."""
    ports: tuple[Any, ...] = ()
    """TCP ports on which the role's programs listen beside those of its claims, as numbers or expressions."""
    url_template: str = ""
    """The URL of the role's service, as a text of jinja2 with the variables; empty for a role without a service."""
    health: tuple[Mapping[str, Any], ...] = ()
    """Services of the role with the URLs of their health; see rackwright.kinds.role.health."""
    vendor: str = ""
    """The vendor in the catalogue whose packages the role may install; empty for none."""
    vendor_when: str = ""
    """The expression over the variables that is true if it installs them."""
    problems_cache: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Problems by the variables that have them: see rackwright.fleet.roles."""

    @staticmethod
    def load(folder: Path) -> "RoleSource":
        """Read the role of *folder*."""
        specification = _yaml(folder / "meta/argument_specs.yml").get("argument_specs", {}).get("main", {})
        meta = _yaml(folder / "meta/claims.yml")
        return RoleSource(
            name=folder.name,
            defaults=_yaml(folder / "defaults/main.yml"),
            options=specification.get("options", {}),
            constraints=meta.get("constraints", {}),
            by_os={path.stem: _yaml(path) for path in sorted(folder.glob("vars/*.yml"))},
            after=tuple(meta.get("after", ())),
            unverified_reason=str(meta.get("unverified", "")),
            follows=tuple(meta.get("follows", ())),
            guarded=bool(meta.get("guarded")),
            reload=tuple(meta.get("reload", ())),
            formats=meta.get("formats", {}),
            ranges={path: (low, high) for path, (low, high) in meta.get("ranges", {}).items()},
            secret_lengths=meta.get("secret_lengths", {}),
            secret_forms=meta.get("secret_forms", {}),
            key_pairs=meta.get("key_pairs", {}),
            names=meta.get("names", {}),
            claims=tuple(meta.get("claims", ())),
            refusals=tuple(meta.get("refused", ())),
            ports=tuple(meta.get("ports", ())),
            url_template=str(meta.get("url", "")),
            health=tuple(meta.get("health", ())),
            vendor=str(meta.get("vendor", {}).get("name", "")),
            vendor_when=str(meta.get("vendor", {}).get("when", "")),
        )

    def shortest_secret(self, path: Keys) -> int:
        """Return the minimum length of the secret at *path* of the role's settings."""
        return self.secret_lengths.get(_without_indexes(path), secret.SHORTEST)

    def secret_form(self, path: Keys) -> secret.Form | None:
        """Return the form of the secret at *path* of the role's settings; None for any text."""
        name = self.secret_forms.get(_without_indexes(path))
        return None if name is None else secret.FORMS[name]

    def variables(self, os: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return all variables by full name: defaults, those of the system, and *settings* (by short name)."""
        return {**self.defaults, **self.by_os[os], **self._with_full_names(settings)}

    def url(self, os: str, settings: Mapping[str, Any]) -> str | None:
        """Return the URL of the role's service with *settings* (by short name); None for a role without a service."""
        if not self.url_template:
            return None
        return _expressions(()).template(self.url_template).render(self.variables(os, settings))

    def problems(self, os: str, settings: Mapping[str, Any]) -> Iterator[Problem]:
        """Yield the problems of *settings* (by short name), each at its keys."""
        if os not in self.by_os:
            systems = ", ".join(self.by_os)
            yield Problem(f"got it on {os}", f"role {self.name} supports {systems}", "Remove it from this host")
            return
        if self.unverified_reason and settings.get(UNVERIFIED) != ACCEPTED:
            problem = f"got no `{UNVERIFIED}: {ACCEPTED}`"
            expected = f"role {self.name} is not verified on hardware: {self.unverified_reason}"
            yield Problem(problem, expected, f"Write `{UNVERIFIED}: {ACCEPTED}` to use the role anyway, or remove it")
            return
        wrong = tuple(self._type_problems(settings)) or tuple(self._format_problems(settings))
        yield from wrong
        if not wrong and self.constraints:
            yield from constraint_problems(self._short_constraints, settings)

    def _type_problems(self, settings: Mapping[str, Any]) -> Iterator[Problem]:
        options = {name.removeprefix(f"{self.name}_"): option for name, option in self.options.items()}
        return variables.problems(options, secret.fill(settings, secret.placeholder))

    def _format_problems(self, settings: Mapping[str, Any]) -> Iterator[Problem]:
        usual = {name.removeprefix(f"{self.name}_"): value for name, value in self.defaults.items()}
        changed = {key: value for key, value in settings.items() if key not in usual or value != usual[key]}
        return formats.problems(self.formats, changed)

    def _with_full_names(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        return {f"{self.name}_{key}": value for key, value in settings.items()}

    @cached_property
    def _short_constraints(self) -> Mapping[str, Any]:
        """The constraints with the short names of variables, as a fleet writes them."""

        def shorten(value: Any) -> Any:
            match value:
                case str():
                    return value.removeprefix(f"{self.name}_")
                case Mapping():
                    return {shorten(key): shorten(item) for key, item in value.items()}
                case list() | tuple():
                    return [shorten(item) for item in value]
            return value

        return {sort: shorten(rules) for sort, rules in self.constraints.items()}


class Roles(Mapping[str, RoleSource]):
    """The roles in *root*, by name; each is read when it is first used."""

    def __init__(self, root: Path) -> None:
        self._folders = {
            path.parent.parent.name: path.parent.parent for path in sorted(root.glob("roles/*/meta/claims.yml"))
        }
        self._sources: dict[str, RoleSource] = {}

    def __getitem__(self, name: str) -> RoleSource:
        if name not in self._sources:
            self._sources[name] = RoleSource.load(self._folders[name])
        return self._sources[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._folders)

    def __len__(self) -> int:
        return len(self._folders)


@dataclass(frozen=True)
class Repository:
    """The templates of the files that rackwright writes to hosts, by name, and the roles."""

    templates: dict[str, str]
    roles: Mapping[str, RoleSource] = field(default_factory=dict)
    salt: bytes = b"\0"
    """The key of the content digests in claims."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Values of secrets by name; a secret that this computer cannot read is missing."""
    consents: Mapping[str, str] = field(default_factory=dict)
    """Consents of the running command, by serial of the drive, valid for this command only."""
    root: Path = field(default_factory=locations.repository)
    """The directory with roles/ and workloads/: see rackwright.locations."""
    claims_cache: dict[tuple[str, str], Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Claims of each resource, computed with this repository: see rackwright.core.contract.claims."""
    claims_by_id: dict[int, tuple[Any, Any]] = field(default_factory=dict, init=False, repr=False, compare=False)
    """The same, with its spec, by the id of the spec: the JSON of a spec is a key that takes long to compute."""
    promises_cache: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """The parts of roles' promises that all hosts with equal variables share: see rackwright.kinds.role.promise."""

    @staticmethod
    def load(root: Path, salt: bytes, secrets: Mapping[str, str] | None = None) -> "Repository":
        """Read ``templates/`` and ``roles/`` in *root*."""
        return Repository(load_templates(root), Roles(root), salt, secrets or {}, root=root)

    def digest(self, content: str | bytes) -> str:
        """Return the digest of a file's content, equal to that of a probe with the same salt."""
        return digest.digest(content.encode() if isinstance(content, str) else content, self.salt)

    @cached_property
    def workloads(self) -> bytes:
        """The package ``workloads`` as a zip archive that Python can import; equal files give equal bytes."""
        import zipfile

        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted((self.root / "workloads").rglob("*")):
                if path.suffix in (".py", ".yaml"):
                    entry = zipfile.ZipInfo(str(path.relative_to(self.root)))  # dated 1980: equal bytes for equal files
                    entry.external_attr = 0o644 << 16
                    archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
        return buffer.getvalue()

    @property
    def environment(self) -> "jinja2.Environment":
        return self.expressions.environment

    @cached_property
    def expressions(self) -> "Expressions":
        return _expressions(tuple(self.templates.items()))

    def render(self, template: str, **values: object) -> str:
        """Return the text of *template*.

        Raises:
            jinja2.UndefinedError: the template uses a name that is not in *values*.
        """
        return self.environment.get_template(template).render(values)

    def header(self, template: str, host: str) -> str:
        """Return the header of *template* on *host*; empty if the template has none.

        A header is a first line whose only expression is the name of the host. The text below it is often equal on all
        hosts.
        """
        header, _ = self._split_template(template)
        return header.replace(NAME_OF_HOST, host)

    def render_body(self, template: str, **values: object) -> str:
        """Return the text of *template* below its header.

        Raises:
            jinja2.UndefinedError: the template uses a name that is not in *values*.
        """
        header, body = self._split_template(template)
        return self.expressions.template(body).render(values) if header else self.render(template, **values)

    def _split_template(self, template: str) -> tuple[str, str]:
        if template not in self._parts:
            text = self.templates.get(template, "")
            header = HEADER.match(text)
            end = header.end() if header else 0
            self._parts[template] = text[:end], text[end:]
        return self._parts[template]

    @cached_property
    def _parts(self) -> dict[str, tuple[str, str]]:
        """Header and body of each template, once they were used."""
        return {}


class Expressions:
    """The environment of all templates, with a cache: each template and expression is compiled once for all hosts."""

    def __init__(self, templates: Mapping[str, str]) -> None:
        import jinja2

        class Environment(jinja2.Environment):
            def make_globals(self, d: MutableMapping[str, Any] | None) -> MutableMapping[str, Any]:
                return {**self.globals, **(d or {})}  # jinja's own ChainMap is walked at each rendering, in Python

        self.environment = Environment(
            loader=jinja2.DictLoader(templates),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            autoescape=False,  # the files are for systemd and mdadm, not for browsers
        )
        self.environment.tests["match"] = lambda text, pattern: re.match(pattern, str(text)) is not None  # as Ansible's
        self.environment.filters["canonical_address"] = canonical_address
        self.template = cache(self.environment.from_string)
        """Return the compiled template of a text."""
        self.expression = cache(partial(self.environment.compile_expression, undefined_to_none=False))
        """Return a function that evaluates the expression."""


def canonical_address(text: str) -> str:
    """Return an IP address in the form in which the kernel lists it; another text unchanged, for its own refusal."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text


@lru_cache(maxsize=8)
def _expressions(templates: tuple[tuple[str, str], ...]) -> Expressions:
    """Return one object for equal templates: repositories that differ only in secrets share it."""
    return Expressions(dict(templates))


def _without_indexes(path: Keys) -> str:
    return ".".join(key for key in path if isinstance(key, str))


def load_templates(root: Path) -> dict[str, str]:
    """Return the templates in *root* by name.

    A name is the path below ``templates/``. A template in ``roles/ROLE/templates/`` has ``ROLE/`` before its path.
    """
    of_roles = {path: f"{path.parent.name}/" for path in sorted(root.glob("roles/*/templates"))}
    return {
        f"{prefix}{path.relative_to(place)}": path.read_text()
        for place, prefix in {root / "templates": "", **of_roles}.items()
        for path in sorted(place.rglob("*.j2"))
    }


def _yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in the YAML file *path*; empty if the file does not exist."""
    loaded: dict[str, Any] = (yaml.load(path.read_text(), yaml.CSafeLoader) or {}) if path.exists() else {}
    return loaded
