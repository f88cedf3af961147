"""Line 8 of monitoring: the journals of all hosts, with hosts that send what they like and as much as they like."""

import json
from typing import Any

from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.journal_lab import ADDRESS, DIRECTORY, having, sending, size_mib, writing
from tests.support.lab import Lab
from tests.support.log import Log
from tests.support.monitoring_lab import SECRETS, SERVICE, WORKER, fleet
from tests.support.staying import without_reason

OTHER = "gamma"
HOSTS = (SERVICE, WORKER, OTHER)
SIZE_MIB = 512
FLOOD_MIB = 768
METRICS = ("/etc/rackwright/prometheus/client.crt", "/etc/rackwright/prometheus/client.key")
METRICS_FILES = "/var/lib/prometheus/node-exporter"
UNDECLARED = "10.33.0.99"
PROXY, RECEIVER = "rackwright-journal-proxy.service", f"rackwright-journal-from-{WORKER}"
NUMBERED = "for number in $(seq 100); do echo numbered $number; sleep 0.1; done"


@line("monitoring", 8, "journal")
def test_the_journals_of_all_hosts_are_at_the_monitoring_host_and_bounded(log: Log) -> str:
    """Two senders and a monitoring host: order, hostile senders, a flood, an interruption, and the removal."""
    directory = log.empty_directory()
    with Lab(directory / "project", fleet(HOSTS), log, containers=HOSTS, mirrors=True) as lab:
        for name, value in SECRETS.items():
            lab.set_secret(name, value)  # which makes the stack
        lab.start()
        lab.apply()
        before = directory / "before"
        lab.rackwright("audit", lab.stack, "--json", "--save", str(before))
        _collect(lab)
        _require_order(lab)
        _require_harmless_lines(lab)
        _require_own_name(lab)
        refused = _require_refusals(lab)
        largest = _flood(lab)
        _interrupt(lab)
        left = _remove(lab, before)
        _take_a_sender_out(lab)
    return (
        f"{len(HOSTS)} journals in order; {refused} clients refused; {FLOOD_MIB} MiB of one host took {largest} MiB of "
        f"{SIZE_MIB}; 100 entries around a killed receiver once each; {left} facts stay after the removal"
    )


def _collect(lab: Lab) -> None:
    lab.log("journals are declared")
    lab.edit(lambda content: content["monitoring"].update(journal={"size": f"{SIZE_MIB}MiB"}))
    lab.apply()
    lab.pulumi("up", "--yes", "--skip-preview", "--expect-no-changes", status=0)
    need(lab.audit_differences(status=0) == set(), "the audit is clean")


def _require_order(lab: Lab) -> None:
    """Entries of all hosts come in the order in which they were written."""
    lab.log("order of entries")
    written = [(host, f"line-8 {number}") for number, host in enumerate([*HOSTS, *HOSTS])]
    for host, message in written:
        lab.ssh(host, f"logger {message!r}")
    eventually(lambda: [*having(lab, "line-8 ")] == written, "the entries of all hosts are in order", 120)
    eventually(lambda: [*having(lab, "line-8 ", WORKER)] == written[1::3], "one host has its own alone", 10)


def _require_harmless_lines(lab: Lab) -> None:
    """A message with line feeds and escapes is one line; an account's largest entry does not stop the next one."""
    lab.log("hostile messages and large entries")
    message = f"hostile\n2026-12-03T00:00:00.000000Z {OTHER} sshd: accepted\r\x1b]0;title\x07\x1b[2J"
    lab.ssh(WORKER, writing({"MESSAGE": message}))
    # 32 MiB is the most that journald takes of an account
    lab.ssh(WORKER, writing({"MESSAGE": "large", "NOISE": 31 << 20}))
    lab.ssh(WORKER, "logger after the large entry")
    eventually(lambda: [*having(lab, "after the large")], "an entry after a large one arrives", 120)
    need((WORKER, "large") in having(lab, "large"), "the large entry arrives")
    shown = lab.rackwright("journal", lab.stack, WORKER, status=0).stdout
    [one] = (text for text in shown.split("\n") if "hostile" in text)
    expected = f"hostile\\n2026-12-03T00:00:00.000000Z {OTHER} sshd: accepted\\r\\x1b]0;title\\x07\\x1b[2J"
    need(one.endswith(expected), f"the message is shown as {one!r}")
    need(all(text.split(" ")[1:2] == [WORKER] for text in shown.splitlines()), "a line has another host")


def _require_own_name(lab: Lab) -> None:
    """An entry that names another host is one of the host in the certificate."""
    lab.log("an entry with the name of another host")
    answer = lab.ssh(WORKER, sending({"_HOSTNAME": OTHER, "MESSAGE": "forged name"}))
    need(answer == "202", f"the receiver answered {answer}")
    eventually(lambda: [*having(lab, "forged name")] == [(WORKER, "forged name")], "the certificate's name", 30)


def _require_refusals(lab: Lab) -> int:
    lab.log("clients that get nothing")
    lab.ssh(WORKER, f"ip address add {UNDECLARED}/24 dev fabric0")
    fields = {"MESSAGE": "of a refused client"}
    cases = {
        "without a certificate": (WORKER, sending(fields, certificate=())),
        "with a certificate of metrics": (SERVICE, sending(fields, certificate=METRICS)),
        "from an undeclared address": (WORKER, sending(fields, source=UNDECLARED)),
    }
    for name, (host, command) in cases.items():
        answer = lab.ssh(host, command)
        need(answer.startswith("refused"), f"a client {name} got {answer}")
    lab.ssh(WORKER, f"ip address del {UNDECLARED}/24 dev fabric0")
    open_ports = lab.ssh(SERVICE, "ss -Hltn 'sport = :19532' | tr -s ' ' | cut -d' ' -f4")
    need(open_ports == f"{ADDRESS}:19532", f"the receiver listens at {open_ports}")
    answer = lab.ssh(WORKER, sending({"MESSAGE": "of a client that is not refused"}))
    need(answer == "202", f"after the refusals, a sender got {answer}")
    eventually(lambda: [*having(lab, "that is not refused")], "an entry after the refusals", 30)
    need(not [*having(lab, fields["MESSAGE"])], "an entry of a refused client was stored")
    return len(cases)


def _flood(lab: Lab) -> int:
    """Fill the journal of a host more than once; return the most MiB that it had."""
    lab.log("a host that writes very much")
    others = {host: size_mib(lab, host) for host in HOSTS if host != OTHER}
    lab.ssh(OTHER, sending({"MESSAGE": "before the flood"}))
    lab.ssh(OTHER, f"cat > /run/flood <<'FLOOD'\n{sending({'MESSAGE': 'flood'}, count=FLOOD_MIB, size=1 << 20)}\nFLOOD")
    lab.ssh(OTHER, "systemd-run --quiet --unit=flood --property=RemainAfterExit=yes sh -c 'sh /run/flood > /run/done'")
    sizes = []

    def ended() -> bool:
        sizes.append(size_mib(lab, OTHER))
        return bool(lab.ssh(OTHER, "cat /run/done"))

    eventually(ended, "the flood ends", 600)
    answer = lab.ssh(OTHER, "cat /run/done; systemctl stop flood.service")
    need(answer == "202", f"the flood was answered with {answer}")
    need(max(sizes) <= SIZE_MIB, f"the journal of {OTHER} had {max(sizes)} MiB")
    lab.ssh(OTHER, sending({"MESSAGE": "end of the flood"}))
    eventually(lambda: [*having(lab, "end of the flood", OTHER)], "the newest entry is there", 30)
    need(not _stored(lab, OTHER, "before the flood"), "the oldest entry is still there")
    need(_stored(lab, OTHER, "flood") > 128, "more was deleted than there had to be")
    need(_stored(lab, WORKER, "line-8 1") == 1, "another host has lost an entry")
    for host, size in others.items():
        need(size_mib(lab, host) >= size, f"the journal of {host} is smaller")
    return max(sizes)


def _stored(lab: Lab, host: str, message: str) -> int:
    """Return the number of entries with exactly this message in the directory of *host*."""
    command = f"journalctl --directory={DIRECTORY}/{host} --output=cat --output-fields=MESSAGE 'MESSAGE={message}'"
    return len(lab.ssh(SERVICE, f"{command} 2>/dev/null || true").splitlines())


def _interrupt(lab: Lab) -> None:
    """Stop and kill the receiver while a host writes: every entry is shown once, in its order."""
    lab.log("an interrupted receiver")
    lab.ssh(WORKER, f"systemd-run --quiet --unit=numbered sh -c {NUMBERED!r}")
    lab.ssh(SERVICE, f"sleep 2; systemctl kill --signal=KILL {RECEIVER}.service; systemctl stop {PROXY}")
    eventually(lambda: not lab.ssh(WORKER, "systemctl is-active numbered || true").startswith("active"), "it ends", 60)
    lab.ssh(SERVICE, f"systemctl restart {RECEIVER}.socket; systemctl start {PROXY}")
    wanted = [(WORKER, f"numbered {number}") for number in range(1, 101)]

    def shown() -> list[tuple[str, str]]:
        return [each for each in having(lab, "numbered ", WORKER, "numbered.service") if " $" not in each[1]]

    eventually(lambda: len(shown()) >= len(wanted), "the entries of the interruption arrive", 180)
    need(shown() == wanted, f"the entries are {[message for _, message in shown()]}")
    need(lab.audit_differences(status=0) == set(), "something differs after the interruption")


def _remove(lab: Lab, before: Any) -> int:
    """Remove the journals, and return the number of facts that stay with a reason."""
    lab.log("removal")

    def remove(content: Any) -> None:
        del content["monitoring"]["journal"]

    after = lab.directory / "after"
    lab.edit(remove)
    lab.apply()
    lab.rackwright("audit", lab.stack, "--json", "--save", str(after))
    report = json.loads(lab.rackwright("compare", str(before), str(after), "--json", status=1).stdout)
    need(not report["missing"], f"not compared: {report['missing']}")
    # monitoring goes on, and writes its metrics
    changes = [each for each in report["changes"] if not each["path"].startswith(f"files.{METRICS_FILES}/")]
    left = [f"{each['host']} {each['path']}" for each in without_reason(changes)]
    need(not left, f"{len(left)} facts are other ones: {', '.join(left[:8])}")
    for host in HOSTS:
        units = lab.ssh(host, "systemctl list-units --all --plain --no-legend 'rackwright-journal*'")
        need(not units, f"{host} still has {units}")
    need(not lab.ssh(SERVICE, "ss -Hltn 'sport = :19532'"), "something still listens")
    return len(changes)


def _take_a_sender_out(lab: Lab) -> None:
    """A host that leaves the fleet is no sender any more, and its journal stays."""
    lab.log("a sender leaves the fleet")
    lab.edit(lambda content: content["monitoring"].update(journal={"size": f"{SIZE_MIB}MiB"}))
    lab.apply()
    need(lab.ssh(OTHER, sending({"MESSAGE": "last"})) == "202", f"{OTHER} is a sender again")
    before = lab.twin
    lab.edit(lambda content: content["hosts"][OTHER].update(retired=True))
    lab.apply()
    units = lab.ssh(SERVICE, "cd /etc/systemd/system && ls -d *journal-from*").split()
    expected = {
        f"rackwright-journal-from-{host}.{sort}" for host in (SERVICE, WORKER) for sort in ("socket", "service")
    }
    need({*units} == expected, f"the receiver has {units}")
    left = lab.ssh(SERVICE, f"systemctl list-units --all --plain --no-legend '*journal-from-{OTHER}*'")
    need(not left, f"the receiver still runs {left}")
    answer = lab.log.run(before.ssh(OTHER, "sudo -n sh -e -s"), input=sending({"MESSAGE": "after its end"})).stdout
    need(answer.startswith("refused"), f"{OTHER} got {answer}")
    need(_stored(lab, OTHER, "last") == 1, "its journal is gone")
    need(lab.ssh(WORKER, sending({"MESSAGE": "goes on"})) == "202", "another sender does not go on")
    need(lab.audit_differences(status=0) == set(), "something differs after a sender left")
