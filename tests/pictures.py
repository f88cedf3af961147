"""The pictures of the documentation that a program makes: a terminal, a page of the audit, and a deployment.

`make pictures` records them again: real commands compare `stacks/rack.yaml` with two simulated hosts, whose
facts were recorded on a twin. The picture of the page needs Chromium.
"""

import copy
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.support import browser, deployment_picture
from tests.support.converged_host import converged
from tests.support.inventory import with_nothing_more
from tests.support.lab import Lab
from tests.support.log import ROOT, Log
from tests.support.recorded_hosts import STACK, recorded
from tests.support.simulated import SimulatedRack
from tests.support.terminal_picture import COLUMNS, RECORDING, TERMINAL, draw

ASSETS = ROOT / "docs" / "assets"
PAGE = ASSETS / "audit.png"
HOSTS = ("gpu-01", "gpu-02")
COMMANDS = ("check lab", "preview lab", "audit lab")
WIDTH = 1280
LOGIN = "- {name: admin, user: rackwright, agent: true}"


def facts(host: str) -> dict[str, Any]:
    """Return the facts of a host as `stacks/rack.yaml` declares it, with the software of another recorded host."""
    own, whole = with_nothing_more(recorded(host)), converged()
    merged = {key: whole[key] | own[key] for key in ("files", "units", "packages")}
    system = {name: user for name, user in whole["users"].items() if user["uid"] < 1000}
    return {
        **whole, **own, **merged, "users": system, "login_keys": {}, "modules_builtin": [],
        "groups": {name: group for name, group in whole["groups"].items() if name != "sudo"},
        "taken_at": time.time(), "finished_at": time.time(),
    }  # fmt: skip


def drifted(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of the host after a person unmounted a tier and made an account."""
    changed = copy.deepcopy(dict(raw))
    changed["mounts"] = [mount for mount in changed["mounts"] if mount["target"] != "/srv/hot"]
    changed["units"]["srv-hot.mount"]["active"] = "inactive"
    changed["users"]["deploy"] = converged()["users"]["deploy"]
    return changed


@contextmanager
def lab(log: Log) -> Iterator[tuple[Lab, SimulatedRack]]:
    """Yield a project with the stack `lab`, and its simulated hosts."""
    with SimulatedRack({name: facts(name) for name in HOSTS}) as rack:
        text = (ROOT / "stacks" / "rack.yaml").read_text()
        text = re.sub(r"size: [\d.]+TB", "size: 512MB", text)  # drives of the twin, on which the facts were recorded
        text = text.replace(LOGIN, f"- {{name: test, user: {rack.user}, key: {rack.key}, become: false}}")
        for host in HOSTS:
            text = re.sub(
                rf"( {host}:\n.*\n    address: ).*",
                rf"\g<1>{rack[host].address}\n    ssh: {{port: {rack[host].port}}}",
                text,
            )
        with Lab(log.empty_directory() / "project", text, log, target="rack") as project:
            salt = project.directory / ".rackwright" / "salts" / "rack"
            salt.parent.mkdir(parents=True, exist_ok=True)
            salt.write_bytes(STACK.salt)
            project.pins.write_text("".join(rack[host].pin for host in HOSTS))
            yield project, rack


def main() -> int:
    chromium = browser.find()
    if chromium is None:
        print("the picture of the page needs Chromium", file=sys.stderr)
        return 2
    log = Log("pictures")
    shown, page = [], log.directory / "audit.html"
    with lab(log) as (project, rack):
        project.rackwright("up", project.stack, status=0)
        project.environment |= {"COLUMNS": str(COLUMNS), "FORCE_COLOR": "1"}
        for command in COMMANDS:
            for host in HOSTS:  # with the time of this probe
                rack[host].set_facts(drifted(facts(host)) if host == HOSTS[0] else facts(host))
            shown.append(f"$ rackwright {command}\n{project.rackwright(*command.split()).stdout}")
        project.rackwright("audit", project.stack, "--format", "html", "--output", str(page))
    RECORDING.write_text("\n".join(shown))
    TERMINAL.write_text(draw(RECORDING.read_text()))
    deployment_picture.PICTURE.write_text(deployment_picture.draw())
    browser.screenshot(chromium, page, WIDTH, PAGE, height=860)
    return 0


if __name__ == "__main__":
    sys.exit(main())
