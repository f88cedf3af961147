"""A project for a long test: a fleet on its twin, the commands of an operator, and plain SSH."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import pytest
from ruamel.yaml import YAML

from rackwright.cli.twin import build
from rackwright.schema.fleet import Fleet
from rackwright.schema.secret import setting_command
from rackwright.stack import load_stack
from rackwright.toolchain import choose, shell
from rackwright.twin import Twin
from tests.support.expect import eventually, need
from tests.support.json_documents import check_printed
from tests.support.log import ROOT, Log
from tests.support.stack_settings import configure

PROJECT = """\
name: rackwright
runtime:
  name: python
  options: {virtualenv: .venv}
stackConfigDir: stacks
plugins:
  providers:
    - {name: rackwright, path: .rackwright/bin}
"""
CLAIM = re.compile(r'claims(?:\["((?:[^"\\]|\\")*)"\]|\.(\w+))')
STEP = re.compile(r"step \d+/\d+: .*")
Claimed = tuple[str, str]
"""A resource and one of its claims: ``("gpu-01/hot", "mount:/srv/hot")``."""


class Lab:
    """A project in *directory* with one fleet and one stack. Its twin is off after the ``with`` block."""

    def __init__(
        self,
        directory: Path,
        fleet: Path | str,
        log: Log,
        stack: str = "lab",
        target: str | None = None,
        containers: Sequence[str] = (),
        mirrors: bool = False,
        workloads: bool = False,
    ) -> None:
        """
        Args:
            directory: An empty or missing directory.
            fleet: A fleet's YAML file, or its text.
            target: The target of the stack; None for its own twin.
            containers: Names of the hosts that are containers.
            mirrors: Whether hosts install from the mirrors of this computer.
            workloads: Whether hosts use this computer's environment of the workloads.
        """
        self.directory, self.stack, self.log = directory, stack, log
        self.target = target or f"twin:{stack}"
        self.fleet_path = directory / "stacks" / "fleet.yaml"
        self.fleet_path.parent.mkdir(parents=True)
        self.fleet_path.write_text(fleet if isinstance(fleet, str) else fleet.read_text())
        settings: dict[str, Any] = {"containers": list(containers)} if containers else {}
        settings |= {name: "lent" for name, lent in (("mirrors", mirrors), ("workloads", workloads)) if lent}
        configure(directory, stack, self.fleet_path.name, self.target, **settings)
        (directory / "Pulumi.yaml").write_text(PROJECT)
        (directory / "__main__.py").write_text((ROOT / "__main__.py").read_text())
        (directory / ".venv").symlink_to(ROOT / ".venv")
        self._twins: dict[str, Twin] = {}
        self.environment = dict(os.environ)
        """Environment variables of all commands; a test may add some."""
        self.programs = ROOT / ".venv/bin"
        """Directory of the rackwright that the commands run."""
        if self.target == "rack":  # the passphrase of the lab does not protect a rack's secrets
            self.environment["PULUMI_CONFIG_PASSPHRASE"] = "of this check"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.target != "rack":
            self.twin.stop(self.log.write, grace_seconds=0)

    # --- the declaration

    @property
    def pins(self) -> Path:
        """File of the host keys of a rack."""
        return self.fleet_path.with_suffix(".known_hosts")

    @property
    def fleet(self) -> Fleet:
        """The fleet, adapted to the target of the stack."""
        return load_stack(self.stack, self.directory).fleet

    @property
    def twin(self) -> Twin:
        """The twin of the current fleet file. The result is cached, since a large file takes seconds to read."""
        text = self.fleet_path.read_text()
        if text not in self._twins:
            self._twins = {text: build(load_stack(self.stack, self.directory))}
        return self._twins[text]

    def add_stack(self, stack: str, fleet: str) -> None:
        """Add a stack of runs or servers on the hosts of this lab, with the text of its fleet file."""
        (self.fleet_path.parent / f"{stack}.yaml").write_text(fleet)
        configure(self.directory, stack, f"{stack}.yaml", self.target)

    def edit(self, change: Callable[[Any], None]) -> None:
        """Change the fleet's file. *change* gets its content as a mapping."""
        yaml = YAML()
        content = yaml.load(self.fleet_path)
        change(content)
        with self.fleet_path.open("w", encoding="utf-8") as file:
            yaml.dump(content, file)
        self.log.write(f"{self.fleet_path.name} now:\n{self.fleet_path.read_text()}")

    # --- commands

    def rackwright(self, *arguments: str, status: int | None = None) -> subprocess.CompletedProcess[str]:
        """Run rackwright in the project, and require the exit *status* unless it is None."""
        yes = ["--yes"] if arguments[0] in ("up", "destroy") else []  # the answer to the question
        argv = [str(self.programs / "rackwright"), *arguments, *yes]
        done = self.log.run(argv, self.directory, self.environment)
        self._check_status(done, "rackwright", arguments, status)
        check_printed(arguments, done.stdout)
        return done

    def pulumi(self, *arguments: str, status: int | None = None) -> subprocess.CompletedProcess[str]:
        """Run pulumi on the stack, in the environment that `rackwright env` prints."""
        argv = ["pulumi", "--non-interactive", "--color=never", *arguments, "--stack", self.stack]
        shell.prepare(self.directory)
        ours = shell.environment(self.directory, self._toolchain, self.environment)
        done = self.log.run(argv, self.directory, {**self.environment, **ours})
        return self._check_status(done, "pulumi", arguments, status)

    def set_secret(self, name: str, value: str) -> None:
        """Set the secret *name* on standard input, without writing it to the test's log."""
        shell.prepare(self.directory)
        ours = shell.environment(self.directory, self._toolchain, self.environment)
        argv = setting_command(self.stack, name).split()
        done = subprocess.run(
            argv, cwd=self.directory, env={**self.environment, **ours}, input=value, text=True, capture_output=True
        )
        need(done.returncode == 0, f"`{' '.join(argv)}` ended with {done.returncode}: {done.stderr}")

    def steps(self, *command: str, running: bool) -> dict[str, list[str]]:
        """Run a command of pulumi and return the step lines by resource, of running steps or of a plan."""
        events = self.directory / f"{command[0]}.events"
        self.environment["PULUMI_DEBUG_COMMANDS"] = "true"
        self.pulumi(*command, "--event-log", str(events), status=0)
        steps: dict[str, list[str]] = {}
        for line in events.read_text().splitlines():
            event = json.loads(line).get("diagnosticEvent") or {}
            if event.get("urn") and bool(event.get("ephemeral")) == running:
                lines = steps.setdefault(event["urn"].rpartition("::")[2], [])
                lines += STEP.findall(re.sub(r"<\{%.*?%\}>", "", event["message"]))
        return {name: _first_lines(lines) for name, lines in steps.items() if lines}

    def start(self) -> None:
        self.log("starting the twin")
        self.rackwright("twin", "start", self.stack, status=0)

    def up(self, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        return self.rackwright("up", self.stack, status=status)

    def create(self) -> None:
        """Create the stack, and change the hosts without the preview of `up`."""
        self.pulumi("stack", "init", status=0)
        self.apply()

    def apply(self) -> None:
        """Change the hosts without the preview of `up`, for a test of the change alone; the stack exists."""
        self.pulumi("up", "--yes", "--skip-preview", status=0)

    def down(self) -> None:
        self.rackwright("twin", "stop", self.stack, status=0)

    def ssh(self, host: str, script: str, status: int | None = 0) -> str:
        """Run *script* as root in *host* and return its output. Require the exit *status* unless it is None."""
        argv = self.twin.ssh(host, "sudo -n sh -e -s")
        return self._check_status(self.log.run(argv, input=script), f"{host}: sh", (script,), status).stdout.strip()

    def reboot(self, host: str) -> None:
        """Reboot *host* from inside, and return when its next boot answers."""
        before = self._boot(host)
        self.ssh(host, "systemctl reboot", status=None)
        eventually(lambda: self._boot(host) not in ("", before), f"{host} answers after its reboot", 300)
        self.ssh(host, "systemctl is-system-running --wait || true")

    def _boot(self, host: str) -> str:
        argv = [*self.twin.ssh(host)[:-1], "-o", "ConnectTimeout=5", self.twin.ssh(host)[-1]]
        command = [*argv, "cat /proc/sys/kernel/random/boot_id"]
        return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout.strip()

    @cached_property
    def _toolchain(self) -> choose.Toolchain:
        return choose.ensure(self.log.write)

    def _check_status(
        self,
        done: subprocess.CompletedProcess[str],
        program: str,
        arguments: tuple[str, ...],
        status: int | None,
    ) -> subprocess.CompletedProcess[str]:
        if status is not None and done.returncode != status:
            output = " / ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
            command = " ".join([program, *arguments]).replace("\n", "; ")
            pytest.fail(f"`{command}` ended with {done.returncode}, wanted {status}: {output}", pytrace=False)
        return done

    # --- differences

    def audit(self, status: int | None = None) -> dict[str, Any]:
        """Return the audit's JSON report."""
        done = self.rackwright("audit", self.stack, "--json", status=None if status == 0 else status)
        report: dict[str, Any] = json.loads(done.stdout)
        if status == 0 and done.returncode:
            pytest.fail(f"the audit is not clean: {'; '.join(_problems(report))}", pytrace=False)
        return report

    def audit_differences(self, status: int | None = None) -> set[Claimed]:
        """Return the differences that the audit reports, without unknown claims."""
        report = self.audit(status)
        return {
            (resource["name"], difference["claim"])
            for resource in report["resources"]
            for difference in resource["differences"]
            if not difference["unknown"]
        }

    def preview_differences(self, status: int | None = None) -> set[Claimed]:
        """Return the differences that a plain preview reports."""
        done = self.pulumi("preview", "--json", "--expect-no-changes", status=status)
        claimed = set()
        for step in json.loads(done.stdout)["steps"]:
            name = step["urn"].rpartition("::")[2]
            for path in step.get("detailedDiff") or {}:
                match = CLAIM.match(path)
                claimed.add((name, (match[1] or match[2]).replace('\\"', '"') if match else path))
        return claimed

    def differing(self) -> set[Claimed]:
        """Return the claims that differ. Audit and preview, with their exit statuses, have to agree on them."""
        from_audit = self.audit_differences()
        from_preview = self.preview_differences(status=7 if from_audit else 0)
        need(
            from_audit == from_preview,
            f"the audit says {format_claims(from_audit)}, the preview {format_claims(from_preview)}",
        )
        return from_audit


def _first_lines(lines: list[str]) -> list[str]:
    """Return the first line of each step; later lines of a step are its progress."""
    return list({line.partition(":")[0]: line for line in reversed(lines)}.values())[::-1]


def _problems(report: dict[str, Any]) -> Iterator[str]:
    """Yield what makes an audit end with another status than 0, a line each."""
    for each in report["findings"]:
        if each["severity"] != "notice" and not each["allowed"]:
            place = f"{each['host']} {each['path']} ({each['rule']})"
            yield f"{place} {each['state']}: {each['found']}, not {each['wanted']}"


def format_claims(claims: set[Claimed]) -> str:
    return ", ".join(f"{resource} {claim}" for resource, claim in sorted(claims)) or "nothing"


def json_lines(text: str) -> Iterator[Any]:
    """Yield the JSON documents in *text*, one after the other."""
    decoder = json.JSONDecoder()
    while text := text.strip():
        document, end = decoder.raw_decode(text)
        yield document
        text = text[end:]
