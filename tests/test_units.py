"""What every service unit that rackwright writes has to do without: root that opens what an account could replace."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from rackwright.kinds.shared.guard import timer_text
from tests.support.sources import shown
from tests.support.unit_files import GUARD, REPOSITORY, ROOT, ROOT_OWNED, exposure, limits, services, templates, values

ACCOUNT_OWNED = re.compile(
    r"(/var/lib/rackwright/runs/[^/]+|/var/lib/mlflow|/var/lib/object_store|/[^ ]*/runs/[^/ ]+)/"
)
"""Directories in which an account without rights may replace every file by a link."""
OPENED = r"Standard(?:Input|Output|Error)|EnvironmentFile|PIDFile|LoadCredential(?:Encrypted)?"
"""Directives whose files systemd opens as root, before it becomes the account, and where it follows links."""


@pytest.fixture(params=[*sorted(templates()), GUARD])
def unit(request: pytest.FixtureRequest) -> str:
    """The text of one service unit."""
    return services()[request.param]


def test_each_service_that_is_written_is_one_of_the_samples() -> None:
    assert services().keys() == {*templates(), GUARD}


TABLE = re.compile(
    r"-?[+]/usr/sbin/nft (-f /etc/rackwright/[^/ ]+/[^/ ]+/firewall[.]nft|delete table inet rackwright_\w+)"
)
"""Commands of root in units of accounts: they load and remove the unit's packet filter, whose file is root's."""


def opened(unit: str) -> list[str]:
    """Return the paths of the files that systemd opens as root for *unit*."""
    found = (value.removeprefix("-").partition(":") for value in values(unit, OPENED))
    return [rest or first for first, _, rest in found if "/" in (rest or first)]


def test_root_opens_only_files_in_directories_of_roots(unit: str) -> None:
    """
    A link in a directory of an account's would let that account choose what root writes, reads, or sends a signal to.
    """
    assert [path for path in opened(unit) if not ROOT_OWNED.match(path)] == []


def test_the_rule_sees_a_log_in_the_directory_of_an_account() -> None:
    append = "[Service]\nStandardOutput=append:/var/lib/rackwright/runs/digits/log\n"

    [path] = opened(append)
    assert path == "/var/lib/rackwright/runs/digits/log"
    assert not ROOT_OWNED.match(path)


def test_no_command_of_an_account_runs_with_the_rights_of_root(unit: str) -> None:
    if not values(unit, "User|DynamicUser"):
        return
    commands = [command for command in values(unit, r"Exec\w+") if re.match(r"[-@:]*[+!]", command)]
    assert [command for command in commands if not TABLE.fullmatch(command)] == []


def test_no_command_of_roots_is_given_what_an_account_owns(unit: str) -> None:
    if values(unit, "User|DynamicUser"):
        return
    commands = values(unit, r"Exec\w+|WorkingDirectory")
    assert [command for command in commands if ACCOUNT_OWNED.search(command)] == []


def test_what_may_be_written_to_is_no_link_of_an_account(unit: str) -> None:
    """
    systemd makes these mounts as root: each directory may be an account's, what it lies in is root's.
    """
    paths = [path for value in values(unit, r"ReadWritePaths|BindPaths|\w+Directory") for path in value.split()]

    assert [path for path in paths if ACCOUNT_OWNED.match(path)] == []


def test_only_templates_of_units_speak_of_files_that_systemd_opens() -> None:
    """
    A drop-in or an included text would be one that the samples do not show.
    """
    speaking = {name for name, text in REPOSITORY.templates.items() if re.search(r"=(append|file|truncate):", text)}

    assert speaking <= templates()


@pytest.mark.parametrize("name", [*sorted(templates()), GUARD])
def test_each_unit_has_a_bound_of_memory(name: str) -> None:
    assert len(values(services()[name], "MemoryMax")) == 1


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze, of systemd 252 or later")
@pytest.mark.parametrize("name", [*sorted(templates()), GUARD])
def test_no_unit_is_exposed_more_than_its_limit(name: str, tmp_path: Path) -> None:
    path = tmp_path / "sample.service"
    path.write_text(services()[name])
    argv = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)

    assert exposure(done.stdout) <= limits()[name]


def test_each_exception_has_a_unit_and_a_reason() -> None:
    table = yaml.safe_load((ROOT / "tests/units.yaml").read_text())

    assert table["exceptions"].keys() <= services().keys()
    assert all(each["limit"] > table["limit"] and each["reason"] for each in table["exceptions"].values())


def test_each_unit_of_an_account_is_confined_by_the_same_text() -> None:
    """
    What one template forgets, another one has.
    """
    common = REPOSITORY.templates["systemd/account.j2"].splitlines()
    wanted = [line for line in common if re.match(r"\w+=", line) and not line.startswith("UMask")]
    of_accounts = {name: text for name, text in services().items() if values(text, "User|DynamicUser")}

    assert {
        name
        for name, text in of_accounts.items()
        if not name.startswith("model_server/") and not {*wanted} <= {*text.splitlines()}
    } == set()


def timers() -> dict[str, str]:
    """Return the text of each timer that rackwright writes, by its template."""
    written = {shown(path): path.read_text() for path in ROOT.glob("**/*.timer.j2") if ".venv" not in path.parts}
    return {**written, GUARD: timer_text()}


def moves_with_a_reload(timer: str) -> bool:
    """Return whether a `systemctl daemon-reload` postpones the first time of *timer*, which has no other time."""
    return "OnActiveSec=" in timer and not re.search("^(OnUnit|OnBoot|OnStartup|OnCalendar)", timer, re.M)


def test_no_deadline_moves_when_systemd_reads_its_units_again() -> None:
    """
    A relative time begins again with each reload, which the installation of a package may run.
    """
    assert len(timers()) > 5
    assert [name for name, text in timers().items() if moves_with_a_reload(text)] == []
    assert moves_with_a_reload("[Timer]\nOnActiveSec=300\nAccuracySec=1s\n"), "the rule sees no such timer"
    sources = [*(ROOT / "rackwright").rglob("*.py"), *(ROOT / "roles").rglob("*.*"), *(ROOT / "playbooks").rglob("*.*")]
    relative = [path for path in sources if path.is_file() and b"--on-active" in path.read_bytes()]
    assert relative == []
