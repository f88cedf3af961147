"""The scrub of a tier: its units, what they do to an array, and what else scrubs that it lays to rest."""

import re
import shutil
import subprocess

import pytest

from rackwright.core import diff as comparison
from rackwright.facts.facts import Facts
from rackwright.kinds.tier import scrub
from rackwright.schema import Scrub
from tests.support.mutations import array, without
from tests.support.recorded_hosts import FREE, RESOURCES, STACK, recorded
from tests.support.tier_spec import changed

HOT, WARM = RESOURCES["willow/hot"], RESOURCES["willow/warm"]
SERVICE, TIMER = scrub.units(WARM.spec)
MDCHECK = {"load": "loaded", "active": "active", "enabled": "enabled"}


@pytest.fixture
def raw():
    return recorded("willow")


def planned(raw, tier=WARM, **changes):
    spec, facts = changed(tier.spec, **changes), Facts(raw)
    claims = tier.kind.claims(spec, STACK.repository)
    return tier.kind.plan(spec, comparison.diff(claims, tier.kind.observe(claims, facts)), facts, STACK.repository)


def texts(plan):
    return [step.text for step in plan.steps]


def unscrubbed(raw, *tiers):
    for tier in tiers:
        for unit in scrub.units(tier.spec):
            raw["files"].pop(f"{scrub.UNITS}/{unit}", None)
            raw["units"].pop(unit, None)


def test_a_tier_that_is_to_be_scrubbed_gets_a_timer(raw):
    unscrubbed(raw, WARM)

    plan = planned(raw)

    assert texts(plan) == [
        f"write /etc/systemd/system/{SERVICE}",
        f"write /etc/systemd/system/{TIMER}",
        "reload systemd",
        f"enable {TIMER}",
        f"start {TIMER}",
    ]
    assert plan.by_hand == ()


def test_a_timer_that_stands_still_is_started(raw):
    raw["units"][TIMER]["active"] = "inactive"

    assert texts(planned(raw))[-1] == f"start {TIMER}"


def test_what_mdadm_brings_along_rests_beside_it(raw):
    """
    Else the same array would be read twice, the second time without a limit.
    """
    raw["units"]["mdcheck_start.timer"] = raw["units"]["mdcheck_continue.timer"] = MDCHECK
    raw["texts"][scrub.DEFAULTS] = 'START_DAEMON=true\nAUTOCHECK="true"\n'

    plan = planned(raw)

    assert texts(plan) == [
        "mask mdcheck_start.timer, mdcheck_continue.timer",
        "set AUTOCHECK=false in /etc/default/mdadm",
    ]


@pytest.mark.parametrize(
    ("text", "checks"),
    [("AUTOCHECK=true\n", True), ("AUTOCHECK=no\n", False), ("#AUTOCHECK=true\n", False), ("", False)],
)
def test_checkarray_is_on_as_it_reads_its_own_settings(raw, text, checks):
    raw["texts"][scrub.DEFAULTS] = text

    assert (scrub.foreign_scrubs(Facts(raw)) == (scrub.CRON,)) is checks


def test_without_its_cron_file_no_resource_claims_checkarray(raw):
    del raw["files"][scrub.CRON]
    raw["texts"][scrub.DEFAULTS] = "AUTOCHECK=true\n"

    assert scrub.foreign_scrubs(Facts(raw)) == ()


def test_a_tier_that_is_scrubbed_no_longer_loses_its_units(raw):
    """
    The other tier still has its own, so what mdadm brings along goes on resting.
    """
    assert texts(planned(raw, scrub=None)) == [
        f"stop {TIMER}",
        f"stop {SERVICE}",
        f"remove /etc/systemd/system/{TIMER}",
        f"remove /etc/systemd/system/{SERVICE}",
        "reload systemd",
    ]


def test_with_the_last_of_them_mdadm_s_own_run_again(raw):
    unscrubbed(raw, HOT)

    assert texts(planned(raw, scrub=None))[-2:] == [
        "unmask mdcheck_start.timer",
        "set AUTOCHECK=true in /etc/default/mdadm",
    ]


def test_removal_takes_the_units_first(raw):
    removed = WARM.kind.removal(WARM.spec, Facts(raw), STACK.repository, consent=True)

    assert texts(removed)[:7] == [
        "note in the owner file: removing",
        f"stop {TIMER}",
        f"stop {SERVICE}",
        f"remove /etc/systemd/system/{TIMER}",
        f"remove /etc/systemd/system/{SERVICE}",
        "reload systemd",
        "unmount /srv/warm",
    ]


def test_a_new_tier_is_scrubbed_from_the_first(raw):
    unscrubbed(raw, WARM)
    found = array(raw, "willow:warm")
    for name, table in (("device", "filesystems"), ("device", "mounts"), ("name", "arrays")):
        without(raw[table], **{name: found["name"]})
    for drive in raw["drives"]:
        if drive["bus"] == "sas":
            drive.update(FREE, signatures=[], witnesses=[], superblock=None, sample=[], holders=[])
    del raw["owners"]["tier-warm"]

    steps = texts(planned(raw))

    assert steps.index("mount /srv/warm") < steps.index(f"start {TIMER}")
    assert steps[-1] == "note in the owner file: ready"


def test_its_limit_holds_during_the_work(raw):
    """
    While it scrubs, the limit is that of scrubs; after it, that of every sync.
    """
    for speed, holds in ((100, True), (50, True), (60, False)):
        array(raw, "willow:warm")["sync_speed_max_kib"] = speed * 1024
        assert (planned(raw).steps == ()) is holds


def test_progress_is_reported_while_it_runs(raw):
    array(raw, "willow:warm").update(sync_action="check", sync_completed="100 / 400", sync_speed_kib=1)

    report = WARM.kind.report(WARM.spec, Facts(raw))

    assert planned(raw).steps == ()
    assert (report["state"], report["progress"]) == ("scrubbing", "25.0 %, 3 min left")


def test_a_change_of_members_does_not_wait_for_the_end_of_a_scrub(raw):
    """
    md begins no rebuild before that, and a scrub takes days.
    """
    array(raw, "willow:warm").update(sync_action="check", degraded=0)
    new = WARM.spec.members[0].model_copy(update={"serial": "WILLOW-SAS9"})
    there = next(drive for drive in raw["drives"] if drive["serial"] == "WILLOW-SAS0")
    blank = {**FREE, "signatures": [], "witnesses": [], "superblock": None, "sample": [], "holders": []}
    raw["drives"].append({**there, "name": "sdz", "serial": "WILLOW-SAS9", **blank})

    assert "end the scrub of warm" in texts(planned(raw, members=(new, *WARM.spec.members[1:])))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd to read it")
@pytest.mark.parametrize("tier", [HOT, WARM], ids=["hot", "warm"])
def test_systemd_understands_the_units(tier, tmp_path):
    for path, text in scrub.texts(tier.spec, tier.spec.declared.scrub, STACK.repository).items():
        (tmp_path / path.rpartition("/")[2]).write_text(text)

    argv = ["systemd-analyze", "verify", *sorted(str(path) for path in tmp_path.iterdir())]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd to read it")
@pytest.mark.parametrize(
    ("declared", "first", "second"),
    [
        (Scrub(), "Sun 2027-01-03 02:00:00", "Sun 2027-02-07 02:00:00"),
        (Scrub(every="week", day="wednesday", at="23:30"), "Wed 2027-01-06 23:30:00", "Wed 2027-01-13 23:30:00"),
    ],
)
def test_the_calendar_is_systemd_s(declared, first, second):
    argv = ["systemd-analyze", "calendar", "--base-time=2027-01-01 UTC", "--iterations=2", declared.calendar]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env={"TZ": "UTC", "PATH": "/usr/bin:/bin"})

    assert re.findall(r"(?:elapse|#2): (.*) UTC", done.stdout) == [first, second]


def commands(tier, key, place):
    """Return what the service runs under *key*, as a shell gets it, on the array of files in *place*."""
    text = scrub.texts(tier.spec, tier.spec.declared.scrub, STACK.repository)[
        f"{scrub.UNITS}/{scrub.units(tier.spec)[0]}"
    ]
    found = re.findall(rf"^{key}=/bin/sh -c '(.*)' /dev/md/(\S+)$", text, re.M)
    script = [(body.replace("$$", "$").replace("/sys/class/block", str(place)), name) for body, name in found]
    return [["sh", "-c", body.replace("sleep 10", "sleep 0.01"), str(place / "dev" / name)] for body, name in script]


@pytest.fixture
def md(tmp_path):
    """An array that is named as the kernel does, behind a link, at rest."""
    folder = tmp_path / "md127/md"
    folder.mkdir(parents=True)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/warm").symlink_to(tmp_path / "md127")
    (folder / "sync_action").write_text("idle\n")
    (folder / "sync_speed_max").write_text("200000 (system)\n")
    return folder


def test_the_service_checks_and_waits_and_puts_the_limit_back(md, tmp_path):
    [condition] = commands(WARM, "ExecCondition", tmp_path)
    assert subprocess.run(condition, check=False).returncode == 0

    slow, check = commands(WARM, "ExecStart", tmp_path)
    subprocess.run(slow, check=True)
    assert (md / "sync_speed_max").read_text() == "51200\n"
    running = subprocess.Popen(check)
    while (md / "sync_action").read_text() != "check\n":
        assert running.poll() is None
    assert subprocess.run(condition, check=False).returncode == 1, "an array that is checked has something else to do"
    (md / "sync_action").write_text("idle\n")
    assert running.wait(10) == 0

    (md / "sync_action").write_text("check\n")  # it was stopped in the middle
    for after in commands(WARM, "ExecStopPost", tmp_path):
        subprocess.run(after, check=True)
    assert (md / "sync_action").read_text() == "idle\n"
    assert (md / "sync_speed_max").read_text() == "102400\n"


def test_without_a_limit_of_its_own_it_touches_none(md, tmp_path):
    assert len(commands(HOT, "ExecStart", tmp_path)) == len(commands(HOT, "ExecStopPost", tmp_path)) == 1


def test_a_rebuild_is_not_ended_with_the_service(md, tmp_path):
    (md / "sync_action").write_text("recover\n")

    for after in commands(WARM, "ExecStopPost", tmp_path):
        subprocess.run(after, check=True)

    assert (md / "sync_action").read_text() == "recover\n"
