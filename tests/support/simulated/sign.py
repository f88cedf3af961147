"""Runs on a simulated host when a probe is asked for: the test's facts, with the probe's own proof of identity."""

import base64
import json
import sys
import zlib
from pathlib import Path
from types import ModuleType

ROOT, DIRECTORY = Path(sys.argv[1]), Path(sys.argv[2])
for name in ("rackwright", "rackwright.facts", "rackwright.facts.probe"):
    package = sys.modules[name] = ModuleType(name)
    package.__path__ = [str(ROOT.joinpath(*name.split(".")))]

from rackwright.facts.probe import proof  # noqa: E402

nonce = json.loads(sys.stdin.buffer.read() or b"{}").get("nonce", "")
raw = json.loads(zlib.decompress(base64.b64decode((DIRECTORY / "facts").read_bytes())))
proof.KEYS = {"ssh-ed25519": str(DIRECTORY / "host_key")}
raw = {"taken_at": 0.0, "boot_id": "boot", **raw}
raw["identity"] = {"machine_id": "machine", "hostname": "host", **raw.get("identity", {})}
raw["proofs"] = proof.end(proof.begin("", nonce, [], raw["identity"], raw["boot_id"], raw["taken_at"]))
sys.stdout.buffer.write(base64.b64encode(zlib.compress(json.dumps(raw).encode(), 1)) + b"\n")
