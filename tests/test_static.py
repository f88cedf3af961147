"""Rules over our own source: exceptions to ruff's security rules have a reason, passwords have one way to a server."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from subprocess import run

import pytest
import yaml

from tests.support.sources import found_in

ROOT = Path(__file__).parents[1]
FOLDERS = ("rackwright", "stacks", "workloads")
TEXTS = ("templates", "roles", "playbooks")
HTTP = {
    "workloads/http_client.py": "the helper: no redirects",
    "workloads/serving/upstream.py": "requests to vLLM's Unix socket, without redirects",
    "workloads/tracking/server.py": "builds the requests that the helper sends",
    "workloads/evaluation/served.py": "builds the request that the helper sends",
    "rackwright/tiering/onhost/transfer.py": "runs on hosts, without our packages: no redirects",
    "rackwright/hosts/onhost/ask_alertmanager.py": "runs on hosts, and asks its own loopback address: no redirects",
    "rackwright/lock/vendor_keys.py": "downloads without a password a key that counts by its fingerprint alone",
    "rackwright/toolchain/release.py": "downloads without a password what has a pinned SHA-256; its site redirects",
    "roles/virtual_address/templates/usr/local/sbin/rackwright-virtual-address.j2": "asks its own host: no redirects",
    "roles/container_runtime/templates/opt/rackwright/images/Containerfile.j2": "asks its own loopback address",
}
"""Every file that may use urllib.request, and why."""
PARSERS = {
    "rackwright/core/repository.py": "declared addresses in refusals; a text that is no address stays as it is",
    "rackwright/schema/formats.py": "the parsers of declared texts, which look at the characters first",
    "rackwright/hosts/peer_account.py": "addresses of the kernel's table of sockets",
    "rackwright/audit/undeclared/services.py": "addresses that a host reports, compared with loopback alone",
    "rackwright/endpoints/kubernetes.py": "the declared URL, which passed its format, and redirects of an API",
    "rackwright/endpoints/registry.py": "the address in a command, and redirects, which stay at one origin",
    "rackwright/twin/mirrors.py": "package sources of the twin's own images",
    "rackwright/lock/wheels.py": "addresses in the report of pip, for the name of a file",
    "rackwright/log/places.py": "a second place that the operator's environment names",
    "rackwright/log/bucket.py": "a second place that the operator's environment names",
    "rackwright/cli/state.py": "the backend in the operator's environment",
    "rackwright/kinds/role/entries/services.py": "names of a certificate in the one form in which openssl prints them",
    "rackwright/facts/probe/netlink.py": "addresses of the kernel, on a host",
    "rackwright/facts/probe/packet_paths.py": "addresses of the kernel, on a host",
    "rackwright/audit/undeclared/packet_paths.py": "destinations that a host reports, compared with declared networks",
}
"""Every file of rackwright that may use Python's parsers of addresses and URLs, and why: they accept hostile texts."""
PARSING = re.compile(r"\bipaddress\b|\burl(?:split|parse)\b")
ANSIBLE = {
    "rackwright/hosts/ansible.py": "plays roles, with an inventory in which no text is a template",
}
"""Every file of rackwright that may import Ansible, and why: it takes all texts of an inventory for templates."""
IMPORTING_ANSIBLE = re.compile(r"^\s*(?:import|from) ansible|[\"']ansible-playbook[\"']", re.M)
REDIRECTING = re.compile(
    r"urllib\.request|urllib import request|\burlopen\b|^\s*(?:import|from) (?:requests|httpx|aiohttp)\b", re.M
)


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in sorted((ROOT / folder).rglob("*")) if path.is_file() and path.suffix != ".pyc")


def test_only_listed_files_use_an_http_client_that_follows_redirects():
    found = set()
    for path in sources(*FOLDERS, *TEXTS):
        if "requirements" in path.name or path.name.endswith(".txt.j2"):
            continue
        if REDIRECTING.search(path.read_text(errors="replace")):
            found.add(str(path.relative_to(ROOT)))

    assert found == set(HTTP)


def files_with(pattern: re.Pattern[str], *folders: str) -> set[str]:
    """Return the Python files in *folders* whose text has *pattern*."""
    return {
        str(path.relative_to(ROOT))
        for path in sources(*folders)
        if path.suffix == ".py" and pattern.search(path.read_text())
    }


def test_only_listed_files_parse_addresses_and_urls_by_themselves():
    """
    Declared texts have one module with parsers, which look at the characters first.
    """
    assert files_with(PARSING, "rackwright", "stacks") == set(PARSERS)


def test_only_listed_files_use_ansible():
    """
    One function writes inventories. No text of a fleet reaches Ansible in another way.
    """
    assert files_with(IMPORTING_ANSIBLE, "rackwright", "stacks", "workloads") == set(ANSIBLE)


@pytest.mark.parametrize("line", ["import ipaddress", "from urllib.parse import urlsplit", "x = urlparse(y)"])
def test_the_rule_about_parsers_catches(line):
    assert PARSING.search(line)


@pytest.mark.parametrize("line", ["    import ansible_runner", "from ansible.cli import x", "f(['ansible-playbook'])"])
def test_the_rule_about_ansible_catches(line):
    assert IMPORTING_ANSIBLE.search(line)


def test_the_helper_has_no_handler_of_redirects_files_or_ftp():
    tree = ast.parse((ROOT / "workloads/http_client.py").read_text())
    handlers = {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.endswith("Handler")
    }

    assert handlers == {"ProxyHandler", "HTTPHandler", "HTTPSHandler", "HTTPDefaultErrorHandler", "UnknownHandler"}
    assert "build_opener" not in (ROOT / "workloads/tracking/server.py").read_text()


def test_every_skip_of_ansible_lint_has_a_reason_in_the_line_above():
    settings = yaml.safe_load((ROOT / ".ansible-lint").read_text())
    bare = []
    for path in sources("playbooks", "roles"):
        lines = path.read_text(errors="replace").splitlines()
        skips = [number for number, line in enumerate(lines) if "# noqa" in line or "skip_ansible_lint" in line]
        bare += [f"{path}:{number + 1}" for number in skips if not re.match(r" *# \w+ \w+", lines[number - 1])]

    assert bare == []
    assert settings["profile"] == "production"
    assert not settings.keys() & {"skip_list", "warn_list", "mock_modules", "mock_roles"}, "a rule is off everywhere"


def lint() -> str:
    text = (ROOT / "pyproject.toml").read_text()
    return text[text.index("[tool.ruff.lint]") : text.index("[tool.mypy]")]


def test_ruffs_security_rules_are_on_for_all_of_our_code():
    settings = tomllib.loads(lint())["tool"]["ruff"]["lint"]
    ignored = {rule for rule in settings["ignore"] if rule.startswith("S")}

    assert "S" in settings["select"]
    assert ignored == {"S101", "S603", "S607"}
    assert not [rules for path, rules in settings["per-file-ignores"].items() if "S" in rules], "a whole class is off"


def test_every_exception_to_a_security_rule_has_a_reason():
    bare = [line for line in lint().splitlines() if re.search(r'"S\d+"', line) and not re.search(r"  # \S+ \S+", line)]
    for path in sources(*FOLDERS, "benchmarks", "tests"):
        if path.suffix == ".py":
            lines = enumerate(path.read_text().splitlines(), 1)
            bare += [f"{path}:{number}" for number, line in lines if re.search(r"noqa: S\d+(, S\d+)*\s*$", line)]

    assert bare == []


@pytest.mark.parametrize("name", ["subprocess.run(x, shell=True)", "eval(x)", "pickle.loads(x)", "yaml.load(x)"])
def test_the_security_rules_catch(name, tmp_path):
    (tmp_path / "x.py").write_text(f"import pickle, subprocess, yaml\n\n\ndef f(x):\n    {name}\n")
    ruff, settings = Path(sys.executable).with_name("ruff"), ROOT / "pyproject.toml"
    done = run(
        [ruff, "check", "--config", settings, "--select", "S", tmp_path / "x.py"], capture_output=True, text=True
    )

    assert done.returncode == 1 and name in done.stdout


CHANGING = re.compile(r"(time|random|secrets|tempfile|uuid)\.\w+|datetime\.now|os\.(getpid|urandom)")
"""Calls in the cases of a test that give each process other cases; the tests run in several."""


def changing_cases(text: str) -> list[str]:
    """Return the parts of the cases of the tests in *text* that each process computes for itself."""
    found: list[ast.AST] = []
    for function in ast.walk(ast.parse(text)):
        for decorator in getattr(function, "decorator_list", ()):
            nodes = [*ast.walk(decorator)]
            if not any(isinstance(each, ast.Attribute) and each.attr == "parametrize" for each in nodes):
                continue
            later = {id(each) for node in nodes if isinstance(node, ast.Lambda) for each in ast.walk(node)}
            calls = [each for each in nodes if isinstance(each, ast.Call) and id(each) not in later]
            found += [each for each in calls if CHANGING.fullmatch(ast.unparse(each.func))]
            starred = [each.value for each in nodes if isinstance(each, ast.Starred)]
            found += [each for each in starred if isinstance(each, ast.BinOp | ast.Set | ast.SetComp)]
    return [ast.unparse(each) for each in found]


def test_each_process_collects_the_same_cases():
    paths = (ROOT / "tests").rglob("test_*.py")
    assert found_in(paths, lambda path: changing_cases(path.read_text())) == {}


@pytest.mark.parametrize("cases", ["[random.random()]", "[*{1, 2}]", "[*(A | B)]"])
def test_cases_of_one_process_alone_are_found(cases):
    assert changing_cases(f"@pytest.mark.parametrize('a', {cases})\ndef test_b(a): ...\n")


def test_a_function_that_computes_the_id_of_a_case_is_no_case():
    assert not changing_cases("@pytest.mark.parametrize('a', [1], ids=lambda a: time.time())\ndef test_b(a): ...\n")


def test_no_test_replaces_the_clock_of_all_threads():
    """A replaced function of `module.time` is that of `time` itself, which threads of other tests use as well."""
    replaced = re.compile(r"setattr\((?:\w+\.)?time, ")
    found = [str(path) for path in (ROOT / "tests").rglob("*.py") if replaced.search(path.read_text())]

    assert found == []


def test_folders_that_need_pytorch_are_run_with_it():
    """Without PyTorch they are left out in silence, so that nothing would run them."""
    folders = {
        path.parent for path in (ROOT / "tests").rglob("conftest.py") if "collect_ignore_glob" in path.read_text()
    }
    models = re.findall(
        r"tests/\S+", (ROOT / "Makefile").read_text().partition("MODELS :=")[2].partition("\nMACHINES")[0]
    )

    assert folders and models
    for folder in folders:
        assert any(folder.is_relative_to(ROOT / each) for each in models), folder
    nested = {path.parent for folder in folders for path in folder.rglob("test_*.py")}
    assert nested == folders, "a conftest leaves out the files of its own folder alone"
