"""Line 2: no import cycle, and the map of CONTRIBUTING is true."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import ROOT, Log
from tests.support.sources import errors_of_map

PACKAGES = ("rackwright", "workloads", "stacks")


@line("house", 2)
def test_imports_have_no_cycle_and_the_maps_are_true(log: Log) -> str:
    """The modules of all packages sorted by their imports; every folder in the map; every path of a step."""
    modules = {_name(path): path for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    graph = {name: set(_imports(path, modules)) - {name} for name, path in modules.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        need(False, f"an import cycle: {' -> '.join(error.args[1])}")
    wrong = errors_of_map()
    need(not wrong, f"the map has {', '.join(wrong)}")
    return f"{len(modules)} modules without a cycle, each folder of rackwright in the map"


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
