"""The services of a role whose health an exporter reads, from the role's claims.yml.

An entry of ``health`` has the name of a ``service``, its ``address``, ``port`` and ``path``, and the path of the
``certificate`` that it serves, empty without TLS. ``when`` and ``each`` are those of claims.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from rackwright.core.repository import Repository, RoleSource
from rackwright.schema import secret

_BARE = Repository({})
"""Entries need no templates."""


def services(source: RoleSource, os: str, settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the services of a role with *settings*, variables by short name, as role health_exporter takes them."""
    from rackwright.kinds.role.promise import add_names, evaluate

    if not source.health:
        return  # names of other roles may need what is known on their hosts alone
    names = add_names(source, source.variables(os, secret.fill(settings, secret.placeholder)), _BARE)
    for entry in source.health:
        parts = {key: value for key, value in entry.items() if key not in ("when", "each")}
        for item in evaluate(entry.get("each", [None]), names, _BARE):
            scope = {**names, "item": item}
            if evaluate(f"{{{{ {entry.get('when', 'true')} }}}}", scope, _BARE):
                yield {"certificate": "", **evaluate(parts, scope, _BARE)}
