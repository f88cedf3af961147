"""Which toolchain is taken: PATH, release, modules, in this order; once made, never again."""

import os
import platform
import re
import shutil
import signal
import subprocess
import sys

import pytest

from rackwright.errors import SetupError
from rackwright.toolchain import build, ensure, pins
from rackwright.toolchain.sources import PROGRAMS

ENSURE = """\
from rackwright.toolchain import ensure, pins
pins.RELEASE_SHA256 = {}
print(ensure(lambda text: print(text, flush=True)).directory, flush=True)
"""


@pytest.fixture
def start(computer):
    """Return a function that starts ensure() in a process of its own; whatever is left of them ends with the test."""
    started = []

    def start() -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", ENSURE], env=computer.environment,
            stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        kill(process)


def kill(process):
    """Kill *process* and its children, as a machine that loses its power does."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    process.stdout.close()


def wait_for(process, words):
    """Read what *process* says until it says *words*."""
    for line in process.stdout:
        if words in line:
            return line
    raise AssertionError(f"it ended without saying: {words}")


def test_a_new_enough_pulumi_on_path_is_taken(computer):
    """
    Nothing is made then.
    """
    computer.put_pulumi("v3.999.0")

    toolchain = ensure(print)

    assert (toolchain.directory, toolchain.version, toolchain.origin) == (computer.programs, "v3.999.0", "path")
    assert not computer.cache.exists()


@pytest.mark.parametrize(
    ("version", "programs", "why"),
    [("v3.258.9", PROGRAMS, "older than 3.259.0"), ("v3.999.0", PROGRAMS[:1], "no pulumi-language-python beside it")],
)
def test_a_pulumi_that_will_not_do_is_passed_over(computer, version, programs, why):
    """
    Too old, or without its language host; when there is no other way, the error says so.
    """
    computer.put_pulumi(version, programs)

    with pytest.raises(SetupError, match=re.escape(why)):
        ensure(print)

    computer.put_go()
    assert ensure(print).origin == "modules"


def test_what_was_made_is_found_again(computer):
    """
    The second call needs no go, and neither does one in a shell that has the toolchain on its PATH.
    """
    computer.put_go()
    made = ensure(print)
    (computer.programs / "go").unlink()

    assert ensure(print) == made
    assert made.directory.parent == computer.cache / "toolchain"
    assert sorted(str(path.relative_to(made.directory)) for path in made.directory.rglob("*")) == [
        "pulumi", "pulumi-language-nodejs", "pulumi-language-python", "runtime", "runtime/pulumi-language-nodejs",
        "runtime/pulumi-language-python", "runtime/pulumi-language-python-exec",
    ]  # fmt: skip
    assert not (computer.cache / "go" / "toolchain").exists()  # three gigabytes that nobody needs any more


def test_our_own_toolchain_on_path_keeps_its_origin(computer, monkeypatch):
    """
    In a shell with the environment, pulumi on PATH is the one we made.
    """
    computer.put_go()
    made = ensure(print)
    monkeypatch.setenv("PATH", f"{made.directory}:/usr/bin:/bin")

    assert ensure(print) == made


def test_other_sources_are_another_toolchain(computer, monkeypatch):
    """
    One that an earlier version of rackwright built is passed over, in the cache and on PATH.
    """
    computer.put_go()
    earlier = ensure(print)
    monkeypatch.setattr(build, "digest", lambda: "another")
    monkeypatch.setenv("PATH", f"{earlier.directory}:{os.environ['PATH']}")

    made = ensure(print)

    assert (made.origin, made.version) == (earlier.origin, earlier.version)
    assert made.directory.name == f"{pins.CLI}-modules-another-{platform.machine()}"


def test_the_digest_follows_the_sources(tmp_path, monkeypatch):
    """
    A changed line of the language host, and nothing else, changes the name of the toolchain.
    """
    shutil.copytree(build.MODULES, tmp_path / "modules")
    before = build.digest()
    monkeypatch.setattr(build, "MODULES", tmp_path / "modules")
    assert build.digest() == before

    with (tmp_path / "modules/cli/language-host/main.go").open("a") as file:
        file.write("// more\n")

    assert build.digest() != before


def test_a_go_that_is_too_old_is_named(computer):
    """
    Debian 12 has go 1.19, which cannot fetch the newer one it would need.
    """
    computer._put("go", "#!/bin/sh\necho go1.19.8\n")

    with pytest.raises(SetupError, match=r"go1\.19\.8, Go 1\.21 or newer is needed"):
        ensure(print)


def test_a_failed_build_says_go_s_last_words_and_where_the_rest_is(computer):
    """
    And leaves nothing that could be taken for a toolchain.
    """
    computer.put_go(before="echo no such module >&2; exit 1")

    with pytest.raises(SetupError, match=r"no such module \(log .*/logs/toolchain\.log\)"):
        ensure(print)

    assert [path.name for path in (computer.cache / "toolchain").iterdir()] == ["lock"]


def test_a_build_with_another_version_stamped_is_refused(computer):
    """
    Pulumi's libraries ask the program for its version, so a wrong one would fail much later.
    """
    computer.put_go(version="v0.0.0")

    with pytest.raises(SetupError, match=r"pulumi reports v0\.0\.0"):
        ensure(print)


def test_nothing_is_written_outside_the_cache(computer, tmp_path, monkeypatch):
    """
    Go counts its commands below XDG_CONFIG_HOME, and pulumi logs each command below PULUMI_HOME.
    """
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    home.mkdir()
    for name in ("XDG_CONFIG_HOME", "GOENV", "PULUMI_HOME"):
        monkeypatch.delenv(name, raising=False)
    counts = (
        '[ "$GOENV" = "$HOME/.config/go/env" ] || exit 1; mkdir -p "${XDG_CONFIG_HOME:-$HOME/.config}/go/telemetry"'
    )
    computer.put_go(before=counts, version=f"'{pins.CLI} | tee ${{PULUMI_HOME:-$HOME}}/log'")

    ensure(print)

    assert list(home.iterdir()) == []


def test_two_at_once_build_once(computer, start):
    """
    The second one says that it waits, and takes what the first one made.
    """
    gate = computer.cache.parent / "gate"
    computer.put_go(before=f"until [ -e {gate} ]; do sleep 0.05; done")
    first = start()
    wait_for(first, "building pulumi-language-python")
    second = start()
    assert "waiting for another rackwright" in second.stdout.readline()

    gate.touch()

    directory = first.stdout.readlines()[-1]
    assert second.stdout.read() == directory
    assert computer.builds.count("built") == 2  # the runtimes, and pulumi with the language host


def test_an_interrupted_build_leaves_nothing_and_is_resumed(computer, start):
    """
    Killed in the middle: no toolchain is there, and the next run goes on with go's own caches.
    """
    computer.put_go(before='case "$*" in */language-host) exec sleep 600 ;; esac')
    broken = start()
    wait_for(broken, f"building pulumi, language-host {pins.CLI}")
    kill(broken)
    halves = [path.name for path in (computer.cache / "toolchain").iterdir() if path.name != "lock"]
    assert all(name.startswith(".") for name in halves), halves

    computer.calls.unlink()
    computer.put_go()
    made = ensure(print)

    assert "resumed" in computer.builds
    assert {path.name for path in (computer.cache / "toolchain").iterdir()} == {"lock", made.directory.name}


def test_the_modules_are_those_of_the_pinned_versions():
    """
    The version is stamped from here, the source comes from go.mod: they have to be the same.
    """
    sources = (
        (build.CLI, "github.com/pulumi/pulumi/pkg/v3", pins.CLI),
        (build.RUNTIMES, build.SDK, pins.LANGUAGE_RUNTIMES),
    )
    for programs, module, version in sources:
        assert list(programs.stamps.values()) == [version]
        assert f"\t{module} {version}" in (programs.module / "go.mod").read_text()
        assert f"{module} {version} h1:" in (programs.module / "go.sum").read_text()
    assert f"\t{build.SDK} {pins.CLI}" in (build.CLI.module / "go.mod").read_text()
