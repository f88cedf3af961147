"""HTML pages that load nothing from outside, in one style, light and dark."""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from rackwright import __version__
from rackwright.errors import visible

STYLE = Path(__file__).with_suffix(".css")


def render(
    folder: Path,
    template: str,
    names: Mapping[str, Any],
    *,
    style: str = "",
    script: str = "",
    filters: Mapping[str, Callable[..., object]] | None = None,
    shared: Sequence[Path] = (),
    longest: int | None = None,
) -> str:
    """Return the page of *template* in *folder* with *names*, ``version``, ``style``, ``script`` and ``policy``.

    Its policy allows only its own style and script, whatever the values in it say; control characters of values are
    shown.

    Args:
        style: Rules of this page, after those of all pages.
        script: The script of this page.
        filters: Further filters of the template.
        shared: Further folders with templates that this one imports.
        longest: Characters of a value that the page shows; None for all.
    """

    def finalize(value: object) -> object:
        if type(value) is not str:
            return value
        if longest is None or len(value) <= longest:
            return visible(value)
        return f"{visible(value[:longest])}…"

    style = STYLE.read_text() + style
    sources = [f"style-src '{_policy_hash(style)}'", *([f"script-src '{_policy_hash(script)}'"] if script else [])]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, *shared]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        finalize=finalize,
    )
    environment.filters.update(filters or {})
    return environment.get_template(template).render(
        names,
        version=__version__,
        style=Markup(style),  # noqa: S704 -- a file of this package
        script=Markup(script),  # noqa: S704 -- a file of this package
        policy=Markup(  # noqa: S704 -- digests
            "; ".join(("default-src 'none'", *sources, "base-uri 'none'", "form-action 'none'"))
        ),
    )


def _policy_hash(text: str) -> str:
    """Return the hash by which a Content-Security-Policy allows *text*. Source: W3C, CSP Level 3, section 6.7.2.3."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
