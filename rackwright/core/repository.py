"""What the repository itself brings to every host: templates, rendered once, here, by jinja2; and roles."""

import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import jinja2
import yaml

from rackwright.facts import digest
from rackwright.schema import secret
from rackwright.schema.problem import Problem, hint

UNVERIFIED, ACCEPTED = "unverified", "accepted"
"""The variable by which a fleet takes a role that was never tried on its hardware, and what it says."""


@dataclass(frozen=True)
class RoleSource:
    """One folder of ``roles/``, as far as it can be read without a host: variables, order, claims."""

    name: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    """Its variables by their full names, as Ansible's argument specifications have them."""
    constraints: Mapping[str, Any] = field(default_factory=dict)
    """``mutually_exclusive``, ``required_together`` and the like, for Ansible's validator; a role's specification in
    ``meta/argument_specs.yml`` has no place for them."""
    by_os: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What packages and services are called on each system; a system without an entry is not supported."""
    after: tuple[str, ...] = ()
    """What of its host must be right before it: ``base``, or ``tier:NAME``."""
    unverified: str = ""
    """What of it was never tried on the hardware that it is for: it is played only where the fleet accepts that."""
    follows: tuple[str, ...] = ()
    """Roles that it comes after where its host has them."""
    guarded: bool = False
    """It may lock everybody out, so that the host puts it back by itself unless somebody gets in anew."""
    reload: tuple[str, ...] = ()
    """Units that read its files again once they have been put back."""
    names: Mapping[str, Any] = field(default_factory=dict)
    """What is worked out of its variables, for claims and refusals."""
    claims: tuple[Mapping[str, Any], ...] = ()
    refused: tuple[Mapping[str, Any], ...] = ()
    """What it does not take; see rackwright.kinds.role.refusals."""

    @staticmethod
    def load(folder: Path) -> "RoleSource":
        specification = _yaml(folder / "meta/argument_specs.yml").get("argument_specs", {}).get("main", {})
        meta = _yaml(folder / "meta/claims.yml")
        return RoleSource(
            name=folder.name,
            defaults=_yaml(folder / "defaults/main.yml"),
            options=specification.get("options", {}),
            constraints=meta.get("constraints", {}),
            by_os={path.stem: _yaml(path) for path in sorted(folder.glob("vars/*.yml"))},
            after=tuple(meta.get("after", ())),
            unverified=str(meta.get("unverified", "")),
            follows=tuple(meta.get("follows", ())),
            guarded=bool(meta.get("guarded")),
            reload=tuple(meta.get("reload", ())),
            names=meta.get("names", {}),
            claims=tuple(meta.get("claims", ())),
            refused=tuple(meta.get("refused", ())),
        )

    def variables(self, os: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return all its variables by their full names: defaults, those of the system, those *given* by short names."""
        return {**self.defaults, **self.by_os[os], **self._long(given)}

    def problems(self, os: str, given: Mapping[str, Any]) -> Iterator[Problem]:
        """Yield what is wrong with variables *given* by short names, each at its key; judged by Ansible's own rules."""
        if os not in self.by_os:
            known = ", ".join(self.by_os)
            yield Problem(f"got it on {os}", f"role {self.name} knows {known}", "Take it away from this host")
            return
        if self.unverified and given.get(UNVERIFIED) != ACCEPTED:
            got = f"got no `{UNVERIFIED}: {ACCEPTED}`"
            want = f"role {self.name} is not verified on hardware: {self.unverified}"
            yield Problem(got, want, f"Write `{UNVERIFIED}: {ACCEPTED}` to have it all the same, or take it out")
            return
        known_keys = [name.removeprefix(f"{self.name}_") for name in self.options]
        unknown = [key for key in given if key not in known_keys]
        for key in unknown:
            fix = hint(key, known_keys, "Remove it")
            yield Problem("got an unknown key", f"keys of role {self.name}: {', '.join(known_keys)}", fix, (key,))
        wrong = False
        for key, value in given.items():
            if key in known_keys:
                name = f"{self.name}_{key}"
                for message in _judged({name: self.options[name]}, {}, {name: secret.filled(value, secret.stand_in)}):
                    wrong = True
                    yield Problem(f"got {value!r}", self._shortened(message), "Correct it", (key,))
        if not wrong and not unknown:
            for message in _judged(self.options, self.constraints, self._long(secret.filled(given, secret.stand_in))):
                yield Problem(f"got {', '.join(given) or 'nothing'}", self._shortened(message), "Correct it")

    def _long(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {f"{self.name}_{key}": value for key, value in given.items()}

    def _shortened(self, message: str) -> str:
        """Return *message* with the variables as a fleet writes them."""
        return re.sub(rf"\b{self.name}_(?=\w)", "", message).rstrip(".")


@dataclass(frozen=True)
class Repository:
    """The templates of the files that rackwright writes to hosts, by name, and the roles."""

    templates: dict[str, str]
    roles: Mapping[str, RoleSource] = field(default_factory=dict)
    salt: bytes = b"\0"
    """Keys the digests of contents that claims hold."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Values by name, as far as they are known here."""
    consents: Mapping[str, str] = field(default_factory=dict)
    """Consents of the running command by the drive's serial; they hold for this command only."""
    root: Path = Path(__file__).parents[2]
    """The checkout."""
    claimed: dict[tuple[str, str], Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Claims of each resource that were computed with this repository: see rackwright.core.contract.claims."""

    @staticmethod
    def load(root: Path, salt: bytes, secrets: Mapping[str, str] | None = None) -> "Repository":
        """Read ``templates/`` and ``roles/`` of the checkout *root*."""
        return Repository(load_templates(root), load_roles(root), salt, secrets or {}, root=root)

    def digest(self, content: str | bytes) -> str:
        """Return the digest of a file's content as a probe with the same salt finds it."""
        return digest.digest(content.encode() if isinstance(content, str) else content, self.salt)

    @cached_property
    def workloads(self) -> bytes:
        """What runs on the GPUs, as an archive that Python imports from: the same bytes for the same files."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted((self.root / "workloads").rglob("*")):
                if path.suffix in (".py", ".yaml"):
                    entry = zipfile.ZipInfo(str(path.relative_to(self.root)))  # of 1980, whatever the file's own date
                    entry.external_attr = 0o644 << 16
                    archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
        return buffer.getvalue()

    @property
    def environment(self) -> jinja2.Environment:
        return self.expressions.environment

    @cached_property
    def expressions(self) -> "Expressions":
        return _expressions(tuple(self.templates.items()))

    def render(self, template: str, **values: object) -> str:
        """Return the text of *template*.

        Raises:
            jinja2.UndefinedError: it uses a name that is not in *values*.
        """
        return self.environment.get_template(template).render(values)


class Expressions:
    """The environment of all templates, and what it compiles for roles: each text once, however many hosts have it."""

    def __init__(self, templates: Mapping[str, str]) -> None:
        self.environment = jinja2.Environment(
            loader=jinja2.DictLoader(templates),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            autoescape=False,  # the files are for systemd and mdadm, not for browsers
        )
        self.environment.tests["match"] = lambda text, pattern: re.match(pattern, str(text)) is not None  # as Ansible's
        self.template = cache(self.environment.from_string)
        """Return the template of a text."""
        self.expression = cache(partial(self.environment.compile_expression, undefined_to_none=False))
        """Return what evaluates an expression."""


@lru_cache(maxsize=8)
def _expressions(templates: tuple[tuple[str, str], ...]) -> Expressions:
    """Return the same object for the same templates: houses that differ in secrets share it."""
    return Expressions(dict(templates))


def load_templates(root: Path) -> dict[str, str]:
    """Return the templates of the checkout *root* by name.

    A name is the path below ``templates/``. A template in ``roles/ROLE/templates/`` has ``ROLE/`` before its path.
    """
    of_roles = {path: f"{path.parent.name}/" for path in sorted(root.glob("roles/*/templates"))}
    return {
        f"{prefix}{path.relative_to(place)}": path.read_text()
        for place, prefix in {root / "templates": "", **of_roles}.items()
        for path in sorted(place.rglob("*.j2"))
    }


def load_roles(root: Path) -> dict[str, RoleSource]:
    """Return the roles of the checkout *root* by name."""
    return {
        path.parent.parent.name: RoleSource.load(path.parent.parent)
        for path in sorted(root.glob("roles/*/meta/claims.yml"))
    }


def _yaml(path: Path) -> dict[str, Any]:
    """Return a mapping of ours, empty where there is no such file."""
    loaded: dict[str, Any] = (yaml.load(path.read_text(), yaml.CSafeLoader) or {}) if path.exists() else {}
    return loaded


def _judged(options: Mapping[str, Any], constraints: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Return what Ansible's validator says of *given*."""
    from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

    messages: list[str] = ArgumentSpecValidator(dict(options), **constraints).validate(dict(given)).error_messages
    return messages
