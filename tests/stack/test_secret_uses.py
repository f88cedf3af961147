"""The secrets that a fleet names, and those of them that may be random."""

from pathlib import Path

import pytest

from rackwright.errors import DeclarationError
from rackwright.stack.secret_uses import missing_uses, secret_uses
from tests.support.stack_settings import configure

FLEET = """\
fleet: example
hosts:
  alpha:
    address: 192.0.2.1
    identity: {serial: S-ALPHA}
    os: debian-12
    roles:
      base: {ntp_servers: [time-1], ntp_keys: [{id: 1, type: SHA256, key: {secret: ntp_key}, servers: [time-1]}]}
      mlflow: {admin: {name: admin, password: {secret: mlflow_admin}}, artifacts: /srv/warm/mlflow}
      container_runtime:
        engine: podman
        registries:
          - {name: one.example, mirrors: [one.example], account: {name: n, password: {secret: elsewhere}}}
          - {name: two.example, mirrors: [two.example], account: {name: n, password: {secret: mlflow_admin}}}
object_stores:
  archive:
    url: https://s3.example
    credentials: {access_key: rackwright, secret_key: {secret: archive_key}}
monitoring:
  host: alpha
  receivers:
    operators: {url: {secret: alerts_url}}
    team:
      email: {to: a@b.example, sender: c@b.example, server: "mail.example:587", user: c, password: {secret: mail}}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks/example.yaml").write_text(FLEET)
    configure(tmp_path, "rack", "example.yaml", "rack")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_values_that_another_service_or_a_person_has_are_not_random(project: Path) -> None:
    uses = secret_uses("rack", project)

    assert {name for name, use in uses.items() if use.form is None} == {"mlflow_admin", "monitoring_key"}
    assert uses.keys() == {
        "ntp_key",
        "elsewhere",
        "archive_key",
        "alerts_url",
        "mail",
        "mlflow_admin",
        "monitoring_key",
    }
    assert uses["monitoring_key"].shortest == 32


def test_a_virtual_rack_misses_values_alone_that_a_program_parses(project: Path) -> None:
    uses = secret_uses("rack", project)

    assert missing_uses(uses, {"mail": 20}, False).keys() == uses.keys() - {"mail"}
    assert missing_uses(uses, {}, True).keys() == {"alerts_url"}


def test_a_fleet_with_errors_shows_no_secrets(project: Path) -> None:
    (project / "stacks/example.yaml").write_text(FLEET + "unknown: 1\n")

    with pytest.raises(DeclarationError, match="unknown"):
        secret_uses("rack", project)
