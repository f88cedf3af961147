"""Fleet files: loaded as a fleet, or refused with errors that name file and line."""

import json
import tempfile
from pathlib import Path

from hypothesis import strategies as st

from rackwright.errors import DeclarationError
from rackwright.fleet import load_fleet
from rackwright.fleet.source import read
from rackwright.schema import Fleet
from tests.support.fuzz.bounds import cases
from tests.support.fuzz.mutate import Mutations, mutated_bytes, mutated_data, of_bytes, of_data

SMALL = b"""\
fleet: cut
hosts:
  alpha:
    os: debian-12
    address: 192.0.2.11
    identity: {serial: CUT-ALPHA}
    ssh: {logins: [{name: admin, user: admin, agent: true}]}
    tiers:
      data: {level: raid1, filesystem: xfs, mount: /srv/data}
    drives:
      - {serial: CUT-BOOT, boot: true}
      - {serial: CUT-NVME0, bus: nvme, size: 960GB, tier: data}
      - {serial: CUT-NVME1, bus: nvme, size: 960GB, tier: data}
"""


class Target:
    def __init__(self, directory: Path) -> None:
        self.path = directory / "fleet.yaml"
        self.path.write_bytes(SMALL)
        self.data = read(self.path).data

    def check(self, case: tuple[bool, Mutations, Mutations]) -> None:
        as_data, data, raw = case
        content = mutated_bytes(SMALL, raw)
        if as_data:
            content = json.dumps(mutated_data(self.data, data), ensure_ascii=False).encode(errors="surrogatepass")
        self.path.write_bytes(content)
        try:
            assert isinstance(load_fleet(self.path, {}), Fleet)
        except DeclarationError as refused:
            assert refused.diagnostics
            assert all(error.where.startswith(str(self.path)) for error in refused.diagnostics), str(refused)


def run(count: int, number: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        cases(count, number, st.tuples(st.booleans(), of_data, of_bytes), Target(Path(directory)).check)
