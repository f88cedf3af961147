"""One run of `check` reports the errors of all parts that can be read without another part which is wrong."""

from pathlib import Path

import pytest

from rackwright.errors import DeclarationError, Diagnostic, collect
from rackwright.stack import feasible, load_stack
from tests.support.stack_settings import configure, new_project

FLEET = """\
fleet: one
hosts:
  a:
    address: 192.0.2.1
    identity: {serial: S-1}
    os: debian-12
    drives:
      - {serial: S1-BOOT, boot: true}
      - {serial: S1-A, bus: nvme, size: 1TB, tier: hot}
      - {serial: S1-B, bus: nvme, size: 1TB, tier: hot}
    tiers: {hot: {level: raid1, filesystem: xfs, mount: /srv/hot, encryption: {key: {secret: hot_key}}}}
    roles:
      base: {}
      registry:
        address: 10.0.0.1
        data: {path: /srv/hot/registry}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return new_project(tmp_path, monkeypatch, {"one.yaml": FLEET})


def errors(project: Path) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        feasible.check(load_stack("one", project))
    return [str(each) for each in caught.value.diagnostics]


def test_errors_of_secrets_hide_no_error_of_the_fleet(project):
    configure(project, "one", "one.yaml", "twin:one", secrets={"hot_key": "in clear"})

    found = errors(project)

    assert any("secrets.hot_key: got a value in clear" in text for text in found)
    assert any("hosts.a.roles.registry" in text for text in found)
    assert not any("without a value" in text for text in found), "which follows from the first error"


def test_errors_of_all_settings_and_of_the_lock_come_together(project):
    (project / "stacks/one.yaml").write_text(FLEET[: FLEET.index("      registry:")])
    (project / "stacks/one.lock.yaml").write_text("no lock: at all\n")
    more = {"containers": ["absent"], "mirrors": "borrowed", "workloads": "borrowed"}
    configure(project, "one", "one.yaml", "twin:one", **more)

    found = "\n".join(errors(project))

    for part in ("absent", "rackwright:mirrors", "rackwright:workloads", "one.lock.yaml"):
        assert part in found, found


def test_collected_errors_are_in_their_order_and_others_are_raised():
    wrong: list[Diagnostic] = []
    first, second = Diagnostic("a", "first"), Diagnostic("b", "second")
    with collect(wrong):
        raise DeclarationError(first, second)
    with pytest.raises(ValueError), collect(wrong):
        raise ValueError
    assert wrong == [first, second]
