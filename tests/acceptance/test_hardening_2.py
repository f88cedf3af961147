"""Hardening, line 2: no secret of a real rack is encrypted with the published passphrase of the lab."""

import os
import re
import subprocess
from pathlib import Path

from rackwright.schema.secret import LAB_PASSPHRASE, setting_command
from rackwright.toolchain import choose
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.lab import PROJECT
from tests.support.log import ROOT, Log
from tests.support.stack_settings import configure

VALUE, ANOTHER = "a secret of a real rack", "another secret of it"
STACKS = {"real": "rack", "rehearsal": "twin:rehearsal"}
OWN = "of an operator's own"


@line("hardening", 2)
def test_secrets_of_a_real_rack_are_not_encrypted_with_the_published_passphrase(log: Log) -> str:
    """A person's shell has what `rackwright env` prints, and nothing else of pulumi's."""
    directory = _project(log.empty_directory())
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("PULUMI", "RACKWRIGHT"))}
    settings = directory / "stacks/Pulumi.real.yaml"

    def typed(command: str, value: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        line = f'eval "$({ROOT}/.venv/bin/rackwright env)" && {command}'
        return log.run(["sh", "-c", line], directory, {**bare, **variables}, value)

    log("a real rack without a passphrase of its own")
    for command in ("pulumi --non-interactive stack init real", setting_command("real", "hot_key")):
        need(typed(command, VALUE).returncode != 0, f"`{command}` encrypts for a real rack")
    for command in ("preview", "up"):
        done = typed(f"{ROOT}/.venv/bin/rackwright {command} real")
        refused = done.returncode == 2 and "rackwright explain passphrase-unsafe" in done.stderr
        need(refused, f"{command}: {done.returncode} {done.stderr}")
    need("encryptionsalt" not in settings.read_text(), "a passphrase was chosen for it")

    log("a real rack that has the published one")
    real = choose.ensure(log.write).directory / "pulumi"
    published = {"PULUMI_CONFIG_PASSPHRASE": LAB_PASSPHRASE}
    set_key = f"{real} {setting_command('real', 'hot_key')[7:]}"
    for command, value in ((f"{real} stack init real", None), (set_key, VALUE)):
        need(typed(command, value, **published).returncode == 0, f"`{command}` does not do what older versions did")
    done = typed(f"{ROOT}/.venv/bin/rackwright check real")
    need(done.returncode == 2, f"check ended with {done.returncode}")
    need(re.search(r"Pulumi\.real\.yaml:\d+: encryptionsalt: got a salt that the lab's", done.stderr), done.stderr)
    change, *rotate = re.findall(r"`((?!rackwright explain)[^`]+)`", done.stderr)
    need(len(rotate) == 1, f"the way out has the commands {[change, *rotate]}")

    log("the printed commands")
    need(typed(change, f"{OWN}\n{OWN}\n").returncode == 0, f"`{change}` fails")
    own = {"PULUMI_CONFIG_PASSPHRASE": OWN}
    need(typed(rotate[0], ANOTHER, **own).returncode == 0, f"`{rotate[0]}` fails")
    need(typed(f"{ROOT}/.venv/bin/rackwright check real").returncode == 0, "it is refused after the way out")
    shown = "pulumi config --show-secrets --json --stack real"
    need(ANOTHER in typed(shown, **own).stdout, "the new passphrase does not open it")
    opened = typed(shown.replace("pulumi", str(real), 1), **published)
    need(opened.returncode != 0 and ANOTHER not in opened.stdout, "the published passphrase still opens it")

    log("the lab's own stack")
    need(typed("pulumi stack init rehearsal").returncode == 0, "a twin's stack has no passphrase")
    need(typed(setting_command("rehearsal", "hot_key"), VALUE).returncode == 0, "a twin's secret cannot be set")
    return "a real rack gets no published passphrase; after the printed commands that one opens nothing of it"


def _project(directory: Path) -> Path:
    (directory / "stacks").mkdir()
    (directory / "Pulumi.yaml").write_text(PROJECT)
    (directory / ".venv").symlink_to(ROOT / ".venv")
    fleet = (ROOT / "stacks/rack.yaml").read_text()
    (directory / "stacks/rack.yaml").write_text(fleet)
    for stack, target in STACKS.items():
        configure(directory, stack, "rack.yaml", target)
    return directory
