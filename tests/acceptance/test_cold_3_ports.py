"""Line 3, ports: another host gets nothing from any port of a store without a certificate or a signed request."""

import os
from collections.abc import Iterator
from pathlib import Path

from rackwright.schema.secret import derive_value
from tests.support.acceptance import line
from tests.support.asked_ports import REFUSED, Place, ask, listeners
from tests.support.expect import need
from tests.support.log import Log
from tests.support.store_lab import ADDRESSES, DISKS, GATEWAY, USER, StoreLab, store_lab

PATHS = (
    "/",
    "/status",
    "/dir/status",
    "/cluster/status",
    "/buckets/",
    "/models",
    "/metrics",
    "/debug/pprof/",
    "/ui/index.html",
)
HEALTH = [ADDRESSES[GATEWAY], 8333, "/status", True, "200"]
"""The only answer: the health of S3, for load balancers. It has no content."""
LOCAL = ("127.0.0.1", "[::1]", "127.0.0.53%lo", "127.0.0.54")
SECRETS = ("archive_key", "archive_trainer", "store_internal")
SEARCH = """\
cat > /run/needle <<'END'
{value}
END
grep -rlF -f /run/needle /etc /var/log /run/log /tmp /var/lib/rackwright /opt/rackwright
for each in /proc/[0-9]*/cmdline; do grep -qF -f /run/needle $each && echo $each; done
journalctl --no-pager | grep -qF -f /run/needle && echo journal
"""
"""A script that prints each file, process and journal with a value."""
HELD = {"/etc/rackwright/object_store/accounts.json", "/etc/seaweedfs/security.toml"}


@line("cold", 3, part="ports")
def test_no_port_of_a_store_answers_another_host(log: Log) -> str:
    """Every listening port of both hosts is asked in plain text and with TLS; secrets are in no log and no argument."""
    with store_lab(log) as lab:
        client = lab.client()
        client.put_object(Bucket="backups", Key="m", Body=b"weights")
        places = [*_places(lab)]
        listening = {(address, port) for address, port, _, _ in places}
        need({8333, 9333, 9340, 8888} <= {port for _, port in listening}, f"found only {sorted(listening)}")
        authority = lab.fleet.object_stores["archive"].ca
        answers = ask(lab, USER, places, authority)
        open_ports = [answer for answer in answers if answer[-1] not in REFUSED and answer != HEALTH]
        need(not open_ports, f"answered: {open_ports[:5]}")
        signed = client.get_object(Bucket="backups", Key="m")["Body"].read()
        need(signed == b"weights", f"a signed request got {signed!r}")
        _need_secrets_only_in_their_files(lab)
        health = f"curl -sk https://{ADDRESSES[GATEWAY]}:8333/status"
        need(lab.ssh(USER, health) == "", "the health of S3 has a content")
    return f"{len(listening)} ports of two hosts refused {len(answers)} requests without credentials"


def _places(lab: StoreLab) -> Iterator[Place]:
    """Yield address, port and path of each request, and whether it is encrypted."""
    for host in (GATEWAY, DISKS):
        for address, port in listeners(lab, host):
            paths = PATHS[:1] if address in LOCAL else PATHS
            yield from ((ADDRESSES[host], port, path, tls) for path in paths for tls in (False, True))


def _need_secrets_only_in_their_files(lab: StoreLab) -> None:
    values = {name: derive_value(name) for name in SECRETS}
    texts = {str(each): each.read_text(errors="replace") for each in _files_of_the_controller(lab)}
    need(any("state" in path for path in texts), f"no state among {len(texts)} files")
    for name, value in values.items():
        need(not (found := [path for path, text in texts.items() if value in text]), f"{name} is in {found}")
    for host in (GATEWAY, DISKS):
        for name, value in values.items():
            found = lab.ssh(host, SEARCH.format(value=value), status=None).split()
            need({*found} <= HELD, f"{host}: {name} is in {found}")


def _files_of_the_controller(lab: StoreLab) -> Iterator[Path]:
    """Yield the log of this check so far, and all files of the project without those of its twin and its mirror."""
    yield lab.log.path
    for folder, folders, names in os.walk(lab.directory):
        folders[:] = [name for name in folders if name not in ("twins", "mirrors", ".venv")]
        yield from (place for name in names if (place := Path(folder, name)).is_file())
