"""The page of the facts, from the views of rackwright/facts."""

import inspect
from collections.abc import Iterator
from types import ModuleType

from rackwright.facts import (
    container,
    facts,
    files,
    gpu,
    inventory,
    kubernetes,
    log_chain,
    network,
    run,
    s3,
    server,
    storage,
)  # fmt: skip
from rackwright.facts.view import Fact, View
from tests.reference.markdown import code, page, table

MODULES: dict[str, ModuleType] = {
    "Machine, packages": facts,
    "Files": files,
    "Network": network,
    "Drives, arrays, filesystems": storage,
    "Accelerators": gpu,
    "Containers": container,
    "Beside the packages": inventory,
    "Audit log": log_chain,
    "Kubernetes": kubernetes,
    "Training runs": run,
    "Model servers": server,
    "Object stores": s3,
}
INTRODUCTION = """\
One read-only probe reports these facts about a host, and one reading those about an object store.
`rackwright audit STACK --save DIR` writes them to files, and `--snapshot DIR` compares a declaration with such files. A
value that cannot be read is `{"unknown": REASON}`, and never counts as absent."""


def views(module: ModuleType) -> Iterator[type[View]]:
    """Yield the views that *module* defines, in the order of the file."""
    for value in vars(module).values():
        if inspect.isclass(value) and issubclass(value, View) and value.__module__ == module.__name__:
            yield value


def names(view: type[View]) -> Iterator[tuple[str, str]]:
    """Yield the name and the description of each fact of *view* and of its bases."""
    for base in reversed(view.__mro__):
        for name, value in vars(base).items():
            if isinstance(value, Fact):
                yield name, " ".join((value.__doc__ or "").split())


def render() -> str:
    """Return docs/reference/facts.md."""
    return page("Facts", "the views in rackwright/facts", INTRODUCTION, *map(_section, MODULES.items()))


def _section(item: tuple[str, ModuleType]) -> str:
    title, module = item
    parts = [f"## {title}"]
    for view in views(module):
        if rows := [(code(name), text) for name, text in names(view)]:
            parts += [f"### {_words(view.__name__)}", _purpose(view), table(("fact", "meaning"), rows)]
    return "\n\n".join(parts)


def _words(name: str) -> str:
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name.removesuffix("Facts"))
    return words.strip().capitalize().replace("gpu", "GPU").replace("Gpu", "GPU")


def _purpose(view: type[View]) -> str:
    return " ".join((view.__doc__ or "").split("\n\n")[0].split())
