"""A fleet whose roles have secrets, and the settings of its stack."""

import base64
from pathlib import Path

FLEET = """\
fleet: example
groups:
  all:
    os: debian-12
    roles:
      base:
        ntp_servers: [time-1, time-2]
        ntp_keys:
          - {id: 1, type: SHA256, key: {secret: first_key}, servers: [time-1]}
          - {id: 2, type: SHA256, key: {secret: second_key}, servers: [time-2]}
hosts:
  alpha: {group: all, address: 192.0.2.1, identity: {serial: S-ALPHA}}
  beta: {group: all, address: 192.0.2.2, identity: {serial: S-BETA}}
"""
FIRST = "    first_key: {secure: v1:aaaa:bbbb}\n"
BOTH = f"{FIRST}    second_key: {{secure: v1:cccc:dddd}}\n"


def configure(project: Path, secrets: str = "", target: str = "rack") -> None:
    settings = f"config:\n  rackwright:fleet: example.yaml\n  rackwright:target: {target}\n"
    settings += f"  rackwright:secrets:\n{secrets}" if secrets else ""
    (project / "stacks" / "Pulumi.lab.yaml").write_text(settings)


def encrypted(length: int) -> str:
    """Return the settings' entry of a secret of *length* bytes, in the format of pulumi; nothing decrypts it."""
    return f"{{secure: 'v1:bm9uY2U=:{base64.b64encode(bytes(length + 16)).decode()}'}}"
