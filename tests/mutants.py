"""Whether the tests of a package find small changes of its code.

    python -m tests.mutants [PACKAGE...] [--count 24] [--seed TEXT]

A mutant is one change of one place, and its id is a digest of the place and the change: it stays the same while that
function does. The ids that run are the first by their digests with the seed, so that one seed is one set. Whoever
chooses tests knows the set of the default seed; another seed gives a set that was no reason for a choice.

Each mutant runs in a process of its own, with the changed module alone in memory. A mutant is found if a test fails, or
if the tests need more than PROCESSOR_SECONDS or wait for an hour.
"""

import argparse
import ast
import copy
import importlib.abc
import importlib.machinery
import os
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
SEED = "rackwright"
PROCESSOR_SECONDS = 60
OPTIONS = ("-q", "-x", "-p", "no:cacheprovider", "-m", "not twin and not pulumi and not soak")
PACKAGES = {
    "core": (
        "rackwright/core",
        ("tests/core", "tests/kinds/tier", "tests/kinds/test_role.py", "tests/kinds/test_secrets.py"),
    ),
    "kinds/tier": ("rackwright/kinds/tier", ("tests/kinds/tier",)),
    "audit": ("rackwright/audit", ("tests/audit",)),
    "workloads/checkpoint": ("workloads/checkpoint", ("tests/workloads/checkpoint",)),
}
"""The directory of each package and the folders of its tests, by the name of the package."""
PRELOADED = ("hypothesis", "jinja2", "pydantic", "ruamel.yaml", "typer", "yaml")
"""Modules of others that each process needs."""
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    path: str
    """Path of the module in the repository."""
    number: int
    """Number of the change among those of the module."""
    line: int
    before: str
    after: str
    id: str


class _Changes(ast.NodeTransformer):
    """All changes of a module, of which the one with *number* is made."""

    def __init__(self, number: int | None = None) -> None:
        self.number, self.count = number, 0
        self.places: list[tuple[str, int, str, str]] = []
        self._scope = ""

    def _change(self, node: Any, changed: Any) -> Any:
        chosen = self.count == self.number
        self.count += 1
        self.places.append((self._scope, node.lineno, ast.unparse(node), ast.unparse(changed)))
        return changed if chosen else node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        scope, self._scope = self._scope, f"{self._scope}.{node.name}"
        node.body = [self.visit(each) for each in node.body]  # neither types nor defaults nor decorators
        self._scope = scope
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = [self.visit(each) for each in node.body]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value:
            node.value = self.visit(node.value)
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.value, ast.Call):
            return self._change(node, ast.copy_location(ast.Pass(), node))
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        changed = copy.deepcopy(node)
        changed.ops[0] = SWAPS[type(node.ops[0])]()  # type: ignore[call-overload]
        return self._change(node, changed)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        return self._change(node, ast.copy_location(ast.BoolOp(SWAPS[type(node.op)](), node.values), node))  # type: ignore[arg-type]

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if type(node.op) not in SWAPS:
            return node
        return self._change(node, ast.copy_location(ast.BinOp(node.left, SWAPS[type(node.op)](), node.right), node))  # type: ignore[arg-type]

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        return self._change(node, node.operand) if isinstance(node.op, ast.Not) else node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, bool):
            return self._change(node, ast.copy_location(ast.Constant(not node.value), node))
        if isinstance(node.value, int):
            return self._change(node, ast.copy_location(ast.Constant(node.value + 1), node))
        return node


def mutants(directory: str) -> Iterator[Mutant]:
    """Yield all mutants of the modules in *directory*."""
    for path in sorted((ROOT / directory).rglob("*.py")):
        changes = _Changes()
        changes.visit(ast.parse(path.read_text()))
        name = str(path.relative_to(ROOT))
        seen: dict[tuple[str, ...], int] = {}
        for number, (scope, line, before, after) in enumerate(changes.places):
            place = (name, scope, before, after)
            seen[place] = seen.get(place, -1) + 1
            digest = sha256("\0".join((*place, str(seen[place]))).encode()).hexdigest()
            yield Mutant(name, number, line, before, after, digest[:10])


def sample(directory: str, count: int, seed: str) -> list[Mutant]:
    """Return the *count* mutants of *directory* that *seed* chooses."""
    return sorted(mutants(directory), key=lambda mutant: sha256(f"{seed} {mutant.id}".encode()).digest())[:count]


class _Loader(SourceFileLoader):
    """Loads a module with one change, and neither reads nor writes compiled code."""

    number = 0

    def get_code(self, fullname: str) -> CodeType | None:
        changes = _Changes(self.number)
        tree = changes.visit(ast.parse(self.get_data(self.path)))
        return compile(ast.fix_missing_locations(tree), self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the changed module by its path."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin != str(ROOT / self._mutant.path):
            return None
        loader = _Loader(fullname, spec.origin)
        loader.number, spec.loader = self._mutant.number, loader
        return spec


def is_found(mutant: Mutant | None, tests: Sequence[str]) -> bool:
    """Return whether one of *tests* fails in a fork of this process that has *mutant*, or nothing changed."""
    process = os.fork()
    if not process:
        resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_SECONDS, PROCESSOR_SECONDS))
        signal.alarm(3600)
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        import pytest

        if mutant:
            sys.meta_path.insert(0, _Finder(mutant))
        os._exit(
            pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-m", "not twin and not pulumi and not soak", *tests])
        )
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) != 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help=f"of {', '.join(PACKAGES)}; default: all")
    parser.add_argument("--count", type=int, default=24, help="mutants of each package")
    parser.add_argument("--seed", default=SEED, help="text that chooses the mutants")
    arguments = parser.parse_args()
    for module in PRELOADED:
        importlib.import_module(module)
    for name in arguments.packages or PACKAGES:
        directory, tests = PACKAGES[name]
        assert not is_found(None, tests), f"{name}: tests fail without a mutant"
        chosen = sample(directory, arguments.count, arguments.seed)
        found = 0
        for mutant in chosen:
            if is_found(mutant, tests):
                found += 1
            else:
                change = " ".join(f"{mutant.before} -> {mutant.after}".split())
                print(f"  {mutant.id} {mutant.path}:{mutant.line}: {change}", flush=True)
        print(f"{name}: {found} of {len(chosen)} found", flush=True)


if __name__ == "__main__":
    main()
