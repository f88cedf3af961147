"""The pulumi that comes first in PATH: it gives the published passphrase of the lab to stacks of twins alone."""

import os
import subprocess
from pathlib import Path

import pytest

from rackwright.schema import secret
from rackwright.toolchain import Toolchain, environment, prepare, run_pulumi

TEXT, FILE = "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"
PULUMI = """#!/bin/sh
[ "$*" != "stack --show-name --non-interactive" ] || { cat selected; exit; }
if [ -n "${PULUMI_CONFIG_PASSPHRASE+set}" ]; then printf 'text:%s' "$PULUMI_CONFIG_PASSPHRASE"
elif [ -n "${PULUMI_CONFIG_PASSPHRASE_FILE+set}" ]; then printf 'file:'; cat "$PULUMI_CONFIG_PASSPHRASE_FILE"
else printf none; fi
"""
LAB = f"file:{secret.LAB_PASSPHRASE}"


class Checkout:
    """A project with a stack of a twin, which is selected, one of a rack, and a pulumi that prints its passphrase."""

    def __init__(self, root: Path) -> None:
        self.root = root
        tools = root / "tools"
        for directory in (tools, root / "stacks"):
            directory.mkdir()
        (tools / "pulumi").write_text(PULUMI)
        (tools / "pulumi").chmod(0o755)
        (root / "selected").write_text("lab\n")
        for name, target in {"lab": "twin:lab", "rack": "rack"}.items():
            (root / f"stacks/Pulumi.{name}.yaml").write_text(f"config:\n  rackwright:target: {target}\n")
        prepare(root)
        base = {"PATH": os.environ["PATH"]}
        self.environment = base | environment(root, Toolchain(tools, "v3", "path"), base)

    def pulumi(self, *arguments: str, cwd: Path | None = None, **variables: str) -> str:
        done = subprocess.run(
            ["pulumi", *arguments],
            env=self.environment | variables,
            cwd=cwd or self.root,
            text=True,
            capture_output=True,
            check=True,
        )
        return done.stdout


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def test_both_files_have_the_same_passphrase():
    assert run_pulumi.LAB_PASSPHRASE == secret.LAB_PASSPHRASE


@pytest.mark.parametrize(
    "arguments",
    [
        ("preview", "--stack", "lab"),
        ("preview", "--stack=lab"),
        ("-s", "lab", "preview"),
        ("preview",),
        ("stack", "select", "--create", "lab"),
        ("stack", "init", "lab"),
        ("stack", "rm", "--yes", "lab"),
    ],
)
def test_the_stack_of_a_twin_gets_the_passphrase_of_the_lab(checkout, arguments):
    assert checkout.pulumi(*arguments) == LAB


@pytest.mark.parametrize(
    "arguments",
    [
        ("config", "set", "--stack", "rack", "--secret", "--path", "rackwright:secrets.hot_key", "value"),
        ("up", "--stack=rack"),
        ("up", "-srack"),
        ("stack", "init", "rack"),
        ("stack", "init", "new"),
        ("stack", "init"),
        ("stack", "init", "--secrets-provider", "passphrase", "new"),
        ("stack", "select", "--create", "new"),
        ("new", "python"),
        ("config", "cp", "--stack", "lab", "--dest", "rack"),
        ("preview", "--stack", "lab", "--config-file", "stacks/Pulumi.rack.yaml"),
        ("preview", "--stack", "lab", "--cwd", "/"),
        ("preview", "--stack", "../stacks/lab"),
    ],
)
def test_no_other_stack_gets_it(checkout, arguments):
    assert checkout.pulumi(*arguments) == "none"


def test_another_directory_has_other_stacks(checkout, tmp_path_factory):
    assert checkout.pulumi("preview", "--stack", "lab", cwd=tmp_path_factory.mktemp("other")) == "none"


def test_the_selected_stack_counts_where_none_is_named(checkout):
    (checkout.root / "selected").write_text("rack\n")

    assert checkout.pulumi("preview") == "none"
    assert checkout.pulumi("preview", PULUMI_STACK="lab") == LAB


@pytest.mark.parametrize("stack", ["lab", "rack"])
def test_an_operators_own_passphrase_stays(checkout, stack):
    assert checkout.pulumi("preview", "--stack", stack, **{TEXT: "of my own"}) == "text:of my own"


def test_the_published_passphrase_is_taken_away_from_a_real_rack(checkout):
    """
    A shell may have it from an older version; only the command that encrypts anew may read with it.
    """
    file = str(checkout.root / ".rackwright/passphrase")

    assert checkout.pulumi("up", "--stack", "rack", **{FILE: file}) == "none"
    assert checkout.pulumi("up", "--stack", "rack", **{TEXT: secret.LAB_PASSPHRASE}) == "none"
    change = ("stack", "change-secrets-provider", "passphrase", "--stack", "rack")
    assert checkout.pulumi(*change, **{TEXT: secret.LAB_PASSPHRASE}) == f"text:{secret.LAB_PASSPHRASE}"


def test_without_a_pulumi_it_says_so(checkout):
    done = subprocess.run(
        [checkout.root / ".rackwright/bin/pulumi", "version"], env={"PATH": "/nowhere"}, text=True, capture_output=True
    )

    assert done.returncode == 1 and "run `rackwright toolchain`" in done.stderr


def test_a_launcher_of_another_project_is_no_pulumi(checkout, tmp_path_factory):
    """
    In the shell of one project, a second one finds the real pulumi, and not the two launchers each other.
    """
    other = tmp_path_factory.mktemp("other")
    prepare(other)
    path = f"{other}/.rackwright/bin:{checkout.environment['PATH']}"

    assert checkout.pulumi("preview", "--stack", "lab", PATH=path) == LAB


@pytest.mark.parametrize("named", ["venv", "/srv/venv"])
def test_the_virtual_environment_of_pulumi_yaml_is_first_in_path(checkout, named):
    """
    The language host finds Python there, in every directory of the project.
    """
    (checkout.root / "tools/pulumi").write_text('#!/bin/sh\nprintf %s "$PATH"\n')
    below = checkout.root / "a/b"
    below.mkdir(parents=True)

    def first() -> str:
        return checkout.pulumi("version", cwd=below).partition(":")[0]

    launchers = str(checkout.root / ".rackwright/bin")
    (checkout.root / "Pulumi.yaml").write_text("name: own\nruntime: python\n")
    assert first() == launchers
    (checkout.root / "Pulumi.yaml").write_text(f"runtime: {{name: python, options: {{virtualenv: {named}}}}}\n")
    assert first() == str(checkout.root / named / "bin")
