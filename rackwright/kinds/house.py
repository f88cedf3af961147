"""What the repository itself brings to every host: the templates, rendered once, here, by jinja2."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jinja2


@dataclass(frozen=True)
class House:
    """The files we put on hosts, as templates by their path below ``templates/``."""

    templates: dict[str, str]

    @staticmethod
    def load(root: Path) -> "House":
        """Read every template below *root*, the ``templates/`` of a checkout."""
        return House({str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*.j2"))})

    @cached_property
    def digest(self) -> str:
        return hashlib.blake2s(repr(sorted(self.templates.items())).encode(), digest_size=16).hexdigest()

    @cached_property
    def _environment(self) -> jinja2.Environment:
        return jinja2.Environment(
            loader=jinja2.DictLoader(self.templates),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            keep_trailing_newline=True,
            autoescape=False,  # the files are for systemd and mdadm, not for browsers
        )

    def render(self, template: str, **values: object) -> str:
        """Return the text of *template*.

        Raises:
            jinja2.UndefinedError: it uses a name that is not in *values*.
        """
        return self._environment.get_template(template).render(values)
