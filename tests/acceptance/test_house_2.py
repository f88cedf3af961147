"""Line 2: no import cycle, and the map of CONTRIBUTING is true."""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import ROOT, Log

PACKAGES = ("rackwright", "workloads", "stacks")
PATH = re.compile(r"`((?:rackwright|workloads|roles|playbooks|stacks|templates|tests|docs|benchmarks)/[a-z0-9_./-]*)`")


@line("house", 2)
def test_imports_have_no_cycle_and_the_maps_are_true(log: Log) -> str:
    """The modules of all packages sorted by their imports; every folder in the map; every path of a step."""
    modules = {_name(path): path for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    graph = {name: set(_imports(path, modules)) - {name} for name, path in modules.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        need(False, f"an import cycle: {' -> '.join(error.args[1])}")
    text = (ROOT / "CONTRIBUTING.md").read_text()
    map_ = text.partition("## The map")[2].partition("\n## ")[0]
    folders = sorted(path.name for path in (ROOT / "rackwright").iterdir() if (path / "__init__.py").exists())
    missing = [name for name in folders if not re.search(rf"`(?:rackwright/)?{name}/`", map_)]
    need(not missing, f"the map has no {', '.join(missing)}")
    gone = sorted({path for path in PATH.findall(text) if not (ROOT / path).exists()})
    need(not gone, f"the map names {', '.join(gone)}, which does not exist")
    return f"{len(modules)} modules without a cycle, {len(folders)} folders of rackwright in the map"


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imports(path: Path, modules: dict[str, Path]) -> Iterator[str]:
    """Yield the modules that *path* imports when it is imported itself."""
    for node in _executed(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                target = f"{node.module}.{name.name}"
                if target in modules:
                    yield target
                elif node.module in modules:
                    yield node.module


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes below *node* that run at import: neither functions nor blocks for type checkers."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _executed(child)
