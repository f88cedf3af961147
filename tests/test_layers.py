"""The architecture: who may import whom, who may know of twins, and what runs on hosts."""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

from rackwright.fleet.source import read
from tests.support.sources import ROOT, RUN_ON_HOSTS, found_in, shown

LOWER = (
    "locations",
    "errors",
    "extras",
    "files",
    "foreign",
    "process_tree",
    "progress",
    "scratch",
    "terminal",
    "schema",
    "facts",
    "core",
    "quarantine",
    "kinds",
    "fleet",
    "stack",
    "lock",
    "hosts",
)
MAY_IMPORT = {
    # Dependencies point down: each of these may import those above it that it names.
    "rackwright.errors": ("workloads.errors",),
    "rackwright.locations": (),
    "rackwright.files": ("workloads.files",),
    "rackwright.foreign": ("workloads.foreign",),
    "rackwright.process_tree": ("locations", "scratch"),
    "rackwright.scratch": (),
    "rackwright.progress": (),
    "rackwright.terminal": ("errors",),
    "rackwright.extras": ("errors", "locations"),
    "rackwright.exit_status": (),
    "rackwright.html_page": ("errors",),
    "rackwright.schema": (
        "errors",
        "workloads.catalogue",
        "workloads.recipes",
        "workloads.privacy_settings",
        "workloads.training.privacy.refusals",
        "workloads.training.config",
        "workloads.serving.settings",
        "workloads.process_variables",
    ),
    "rackwright.facts": ("errors", "foreign", "files", "schema"),
    "rackwright.core": ("errors", "locations", "schema", "facts"),
    "rackwright.quarantine": ("errors", "files", "foreign", "schema", "core"),
    "rackwright.kinds": ("errors", "schema", "facts", "core", "quarantine"),
    "rackwright.fleet": ("errors", "foreign", "locations", "schema", "facts", "core", "quarantine", "kinds"),
    "rackwright.stack": (
        "errors",
        "extras",
        "foreign",
        "locations",
        "schema",
        "core",
        "kinds",
        "fleet",
        "workloads.training.config",
        "workloads.tracking.registry",
        "workloads.quantize.versions",
        "workloads.catalogue",
        "workloads.serving.fit",
        "workloads.serving.adapters",
        "workloads.serving.model",
        "workloads.serving.settings",
    ),
    "rackwright.lock": (
        "errors",
        "files",
        "foreign",
        "locations",
        "process_tree",
        "progress",
        "schema",
        "scratch",
        "kinds",
        "fleet",
        "stack",
        "toolchain.apt",
        "toolchain.cache",
    ),
    "rackwright.hosts": (
        "errors",
        "foreign",
        "process_tree",
        "progress",
        "schema",
        "scratch",
        "facts",
        "core",
        "quarantine",
        "kinds",
        "fleet",
        "stack",
        "files",
    ),
    "rackwright.endpoints": (
        "errors",
        "extras",
        "foreign",
        "progress",
        "scratch",
        "schema",
        "facts",
        "core",
        "stack",
        "hosts",
    ),
    "rackwright.tiering": (
        "errors",
        "foreign",
        "files",
        "progress",
        "html_page",
        "schema",
        "facts",
        "hosts",
        "endpoints",
    ),
    "rackwright.access": (
        "errors",
        "exit_status",
        "files",
        "progress",
        "scratch",
        "schema",
        "facts",
        "core",
        "kinds",
        "stack",
        "hosts",
    ),
    "rackwright.audit": (
        "errors",
        "foreign",
        "progress",
        "terminal",
        "html_page",
        "schema",
        "facts",
        "core",
        "kinds",
        "fleet",
        "stack",
        "hosts",
        "endpoints",
    ),
    "rackwright.status": (
        "errors",
        "extras",
        "files",
        "foreign",
        "html_page",
        "progress",
        "schema",
        "facts",
        "kinds",
        "fleet",
        "stack",
        "hosts",
        "audit",
        "workloads.tracking",
    ),
    "rackwright.log": ("errors", "foreign", "files", "locations", "scratch", "facts", "core", "stack", "endpoints"),
    "rackwright.provider": (*LOWER, "exit_status", "endpoints", "log"),
    "rackwright.masking": ("errors", "foreign", "files", "progress", "schema", "fleet", "workloads.masking_report"),
    "rackwright.qualify": LOWER,
    "rackwright.erase": LOWER,
    "rackwright.toolchain": ("errors", "files", "locations", "process_tree", "progress", "schema.secret", "scratch"),
    "rackwright.twin": (
        "errors",
        "files",
        "process_tree",
        "progress",
        "scratch",
        "terminal",
        "schema",
        "facts",
        "toolchain.apt",
        "toolchain.cache",
    ),
    "rackwright.iteration": (
        "errors",
        "foreign",
        "files",
        "locations",
        "process_tree",
        "progress",
        "scratch",
        "terminal",
        "stack",
        "status",
        "toolchain.cache",
        "workloads.checkpoint",
        "workloads.config_file",
        "workloads.tracking",
        "workloads.config_schema",
        "workloads.evaluation.data",
        "workloads.training.config",
        "workloads.quantize.config",
        "workloads.serving.model",
    ),
    "rackwright.cli": (
        *LOWER,
        "exit_status",
        "endpoints",
        "tiering",
        "access",
        "audit",
        "status",
        "log",
        "masking",
        "provider",
        "qualify",
        "erase",
        "iteration",
        "toolchain",
        "twin",
        "workloads.recipes",
        "workloads.checkpoint",
        "workloads.federation",
        "workloads.masking_report",
        "workloads.tracking",
        "workloads.training.privacy.report",
        "workloads.quantize.versions",
    ),
    "rackwright.program": (
        "errors",
        "locations",
        "core",
        "schema",
        "kinds",
        "stack",
        "provider.resources",
        "provider.state_format",
    ),
    "rackwright.__init__": ("locations", "program"),
    "stacks": ("schema",),
    "workloads": (),
}
KNOW_TWINS = (
    "rackwright/twin/", "rackwright/cli/", "rackwright/schema/twin.py",
    *(f"rackwright/stack/{name}.py" for name in ("endpoints", "load", "settings", "stack")),
)  # fmt: skip
"""All other code treats a virtual host as what it is: a host."""
HEAVY = {"paramiko", "qemu", "boto3", "botocore", "s3transfer", "ansible_runner", "torch", "pyarrow", "stdnum"} | {
    "opacus"
}
"""Imported where they are used: the provider starts twice per update."""

ON_HOSTS = {path for pattern in RUN_ON_HOSTS for path in ROOT.glob(pattern)}
FILES = sorted(path for folder in ("rackwright", "stacks", "workloads") for path in (ROOT / folder).rglob("*.py"))
"""Each rule is one test of all these files: thousands of tests would need longer than what they check."""


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted names that are imported anywhere below *tree*: ``from a import b`` is ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def package(path: Path) -> str:
    """Return the row of the table that *path* belongs to."""
    first, *rest = path.relative_to(ROOT).with_suffix("").parts
    return f"{first}.{rest[0]}" if first == "rackwright" else first


def starts(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def test_the_table_lists_every_folder() -> None:
    folders = {package(path) for path in FILES}
    assert folders <= MAY_IMPORT.keys()
    assert MAY_IMPORT.keys() == folders, "a row without a folder"


def wrong_imports(path: Path) -> list[str]:
    """Return what *path* imports from packages that its own row does not name."""
    own = package(path)
    allowed = [own, *(name if starts(name, "workloads") else f"rackwright.{name}" for name in MAY_IMPORT.get(own, ()))]
    return [
        name
        for name in imports(ast.parse(path.read_text()))
        if any(starts(name, ours) for ours in ("stacks", "workloads", "rackwright"))
        and name not in ("rackwright", "rackwright.__version__")
        and not any(starts(name, prefix) for prefix in allowed)
    ]


def test_dependencies_point_down() -> None:
    assert found_in(FILES, wrong_imports) == {}


def names_of_twins(path: Path) -> list[str]:
    """Return the names in the code of *path* that have a twin in them; comments and texts may name one."""
    text = path.read_text()
    if "twin" not in text.lower():
        return []
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [each.string for each in tokens if each.type == tokenize.NAME and "twin" in each.string.lower()]


def test_no_other_package_imports_twins() -> None:
    assert found_in([path for path in FILES if not shown(path).startswith(KNOW_TWINS)], names_of_twins) == {}


def test_the_lint_finds_a_twin_in_code_alone(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text('import my_Twin as x  # a twin\n"""Of a twin."""\n')

    assert names_of_twins(tmp_path / "x.py") == ["my_Twin"]


def foreign_imports(path: Path) -> list[str]:
    """Return what *path* imports beside the standard library and what is sent to hosts with it."""
    with_it = ("facts.digest", "facts.content", "facts.probe", "hosts.onhost", "tiering.onhost")
    sent = [f"rackwright.{name}" for name in with_it]
    names = imports(ast.parse(path.read_text()))
    return [
        name
        for name in names
        if name.split(".")[0] not in sys.stdlib_module_names and not any(starts(name, prefix) for prefix in sent)
    ]


def test_what_runs_on_hosts_needs_the_standard_library_alone() -> None:
    assert len(ON_HOSTS) > 50, "the patterns have become too few files"
    assert found_in(ON_HOSTS, foreign_imports) == {}


def heavy_imports(path: Path) -> set[str]:
    """Return the heavy packages that *path* imports at once."""
    text = path.read_text()
    if not any(name in text for name in HEAVY):
        return set()
    at_once = [node for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)]
    return {name.split(".")[0] for name in imports(ast.Module(at_once, []))} & HEAVY


def test_heavy_imports_stand_where_they_are_used() -> None:
    assert found_in([path for path in FILES if not shown(path).startswith("workloads/")], heavy_imports) == {}


def test_the_lint_finds_heavy_imports_at_the_top_alone(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("from torch import nn\n\n\ndef f():\n    import paramiko\n")

    assert heavy_imports(tmp_path / "x.py") == {"torch"}


def example_names() -> Iterator[str]:
    """Yield what the example fleets call their own: hosts, serials, addresses and mounts."""
    for path in sorted((ROOT / "stacks").glob("*.yaml")):
        fleet = read(path).data
        for name, host in fleet.get("hosts", {}).items():
            yield name
            yield host["address"]
            yield from host["identity"].values()
            yield from (drive["serial"] for drive in host.get("drives", ()))
            for nic in host.get("nics", ()):
                yield from (nic["name"], nic["mac"], *nic["addresses"])
        for part in (*fleet.get("groups", {}).values(), *fleet.get("hosts", {}).values()):
            yield from (tier["mount"] for tier in part.get("tiers", {}).values() if tier)


def test_no_code_knows_the_example() -> None:
    names = {*example_names()}
    assert len(names) > 10, "the example has become too small to be looked for"

    def known(path: Path) -> set[str]:
        text = path.read_text()
        return {name for name in names if name in text and re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)}

    assert found_in([path for path in FILES if shown(path).startswith("rackwright/")], known) == {}


NOT_SUPPORT = re.compile(r"^\s*(?:from|import) tests(?!\.support[. ])", re.M)
"""Begins each import from another place than tests/support: the other files need no syntax tree."""


def test_tests_share_helpers_by_support_only() -> None:
    """A test imports from its own folder and tests/support; nothing imports from an acceptance test."""
    wrong = []
    for path in (*ROOT.glob("tests/**/*.py"), *ROOT.glob("benchmarks/**/*.py")):
        if not NOT_SUPPORT.search(text := path.read_text()):
            continue
        own = path.parent.relative_to(ROOT).parts
        beside = (
            () if own == ("tests", "acceptance") else [".".join((*own, each.stem)) for each in path.parent.iterdir()]
        )
        names = [name for name in imports(ast.parse(text)) if starts(name, "tests")]
        wrong += [
            (shown(path), name) for name in names if not any(starts(name, each) for each in ("tests.support", *beside))
        ]

    assert wrong == []


ON_CONTROLLER = [path for path in FILES if shown(path).startswith("rackwright/") and path not in ON_HOSTS]
OUTLIVE = ("rackwright/process_tree.py", "rackwright/twin/control.py", "rackwright/twin/supervisor.py")
"""Beside the guard itself: programs of the machines of a twin, which go on after the command."""


def calls(tree: ast.AST, name: str) -> list[ast.Call]:
    """Return the calls in *tree* of a function whose dotted name begins with *name*."""
    return [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func).startswith(f"{name}")
    ]


def placeless(path: Path) -> list[str]:
    """Return the calls of tempfile in *path* without a directory, and its imports that hide such calls."""
    if "tempfile" not in (text := path.read_text()):
        return []
    tree = ast.parse(text)
    made = [each for each in calls(tree, "tempfile.") if not ast.unparse(each.func).endswith("gettempdir")]
    return [
        *(name for name in imports(tree) if name.startswith("tempfile.")),  # a call names its module
        *(ast.unparse(each) for each in made if "dir" not in [option.arg for option in each.keywords]),
    ]


def test_temporary_files_lie_in_a_directory_of_ours_or_beside_their_target() -> None:
    """The directories of rackwright/scratch.py are removed at every end of a process."""
    assert found_in(ON_CONTROLLER, placeless) == {}


def test_the_lint_finds_a_temporary_file_without_a_place(tmp_path: Path) -> None:
    text = "import tempfile\nfrom tempfile import mkstemp\ntempfile.mkdtemp()\ntempfile.mkdtemp(dir='x')\n"
    (tmp_path / "x.py").write_text(text)

    assert placeless(tmp_path / "x.py") == ["tempfile.mkstemp", "tempfile.mkdtemp()"]


def unguarded(path: Path) -> list[str]:
    """Return the calls in *path* that start a program without a guard."""
    if "Popen" not in (text := path.read_text()):
        return []
    return [ast.unparse(each) for each in calls(ast.parse(text), "subprocess.Popen")]


def test_a_program_that_takes_long_has_a_guard() -> None:
    """`subprocess.run` ends a program at once, and leaves its children; it is for programs that take a moment."""
    places = [path for path in ON_CONTROLLER if "/container/" not in shown(path) and shown(path) not in OUTLIVE]
    assert found_in(places, unguarded) == {}
    assert found_in([ROOT / path for path in OUTLIVE], unguarded), "the lint finds none"


READERS = [
    path
    for path in FILES
    if shown(path).startswith(("rackwright/audit/", "rackwright/status/")) or path.name.endswith("_facts.py")
]


def pools(path: Path) -> list[str]:
    """Return the pools of threads of *path* that Python waits for at its end."""
    text = path.read_text()
    if "facts/probe" in shown(path) or "with ThreadPoolExecutor" not in text:
        return []
    return [name for name in imports(ast.parse(text)) if name == "concurrent.futures.ThreadPoolExecutor"]


def test_code_that_only_reads_hosts_waits_for_no_thread_after_ctrl_c() -> None:
    assert found_in(READERS, pools) == {}
