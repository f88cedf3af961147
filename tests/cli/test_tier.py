"""The commands of the cold tier, on a project with a stand-in for its object store."""

import contextlib
import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from rackwright.cli import project, recording, tier, tier_bench
from rackwright.errors import ChangeRefused, DeclarationError, SetupError
from rackwright.facts.facts import Facts
from rackwright.log.operation import Operation
from rackwright.schema.tier_costs import Costs
from rackwright.stack import Stack
from rackwright.tiering.manifest import ArchiveDamaged
from tests.support.host_program import LocalHost
from tests.support.object_store import Server, seaweedfs, store_stack
from tests.support.recorded_hosts import STORED


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as running:
        client, rule = running.client(), {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 365}}
        client.create_bucket(Bucket="models", ObjectLockEnabledForBucket=True)
        lock = {"ObjectLockEnabled": "Enabled", "Rule": rule}
        client.put_object_lock_configuration(Bucket="models", ObjectLockConfiguration=lock)
        yield running


@pytest.fixture(autouse=True)
def stack(monkeypatch, server: Server) -> Stack:
    stack = store_stack(STORED, server)
    monkeypatch.setattr(project, "stack", lambda name: stack)
    monkeypatch.setattr(project, "secrets", lambda loaded: loaded)
    operation = Operation(lambda event, fields: None, {})
    monkeypatch.setattr(recording, "record", lambda *arguments, **more: contextlib.nullcontext(operation))
    monkeypatch.setattr(recording, "moved_archives", lambda stack, bucket: frozenset())
    return stack


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "chat-v1").mkdir()
    (tmp_path / "chat-v1" / "weights.bin").write_bytes(os.urandom(1000))
    return tmp_path / "chat-v1"


def test_plan_move_verify_and_restore(directory, tmp_path, capsys):
    content = (directory / "weights.bin").read_bytes()

    tier.plan_("rack", str(directory), "models")
    assert "upload to s3://models/chat-v1: 1 file, 1kB" in capsys.readouterr().out
    tier.move("rack", str(directory), "models", yes=True)
    assert not directory.exists()
    tier.verify("rack", "models")
    assert capsys.readouterr().out.endswith("s3://models/chat-v1: 1 file, intact\n")
    tier.restore("rack", "models", "chat-v1", str(tmp_path / "back"))

    assert (tmp_path / "back" / "weights.bin").read_bytes() == content


def test_an_object_whose_retention_was_cut_is_damage(directory, server, capsys):
    tier.move("rack", str(directory), "models", name="chat-v9", yes=True)
    cut = {"Mode": "GOVERNANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(seconds=2)}
    place = {"Bucket": "models", "Key": "chat-v9/files/weights.bin"}
    server.client().put_object_retention(**place, Retention=cut, BypassGovernanceRetention=True)

    with pytest.raises(ArchiveDamaged, match="the object is retained until .* only") as damage:
        tier.verify("rack", "models", ["chat-v9"])
    assert [each.where for each in damage.value.diagnostics] == ["s3://models/chat-v9/files/weights.bin"]
    server.client().put_object_retention(
        **place, Retention={**cut, "RetainUntilDate": datetime.now(UTC) + timedelta(days=365)}
    )
    capsys.readouterr()
    tier.verify("rack", "models", ["chat-v9"])
    assert capsys.readouterr().out == "s3://models/chat-v9: 1 file, intact\n"


def test_an_archive_of_the_log_that_the_bucket_has_not_is_damage(directory, monkeypatch, capsys):
    tier.move("rack", str(directory), "models", name="chat-v3", yes=True)
    monkeypatch.setattr(recording, "moved_archives", lambda stack, bucket: frozenset({"chat-v3", "lost"}))

    with pytest.raises(ArchiveDamaged, match="the operations log names this archive") as damage:
        tier.verify("rack", "models")
    assert [each.where for each in damage.value.diagnostics] == ["s3://models/lost"]
    with pytest.raises(typer.Exit) as ended:
        tier.verify("rack", "models", as_json=True)
    assert ended.value.exit_code == 1
    tier.verify("rack", "models", gone=["lost"])
    tier.verify("rack", "models", ["chat-v3"])


def test_nothing_is_deleted_for_a_store_that_keeps_writes_in_memory(directory, stack, monkeypatch):
    store = stack.fleet.object_stores["archive"].model_copy(update={"hosts": ("cedar",)})
    fleet = stack.fleet.model_copy(update={"object_stores": {"archive": store}})
    monkeypatch.setattr(project, "stack", lambda name: replace(stack, fleet=fleet))
    facts = Facts({"object_store": {"buffered": ["/srv/warm/object_store/volumes/1.dat"]}})
    hosts = SimpleNamespace(facts=lambda host: facts)
    monkeypatch.setattr(project, "connect_hosts", lambda loaded: contextlib.nullcontext(hosts))

    with pytest.raises(ChangeRefused, match="cedar acknowledges objects before they are on its drives"):
        tier.move("rack", str(directory), "models", name="chat-v4", yes=True)
    assert directory.exists()
    tier.move("rack", str(directory), "models", name="chat-v4", yes=True, keep=True)


def test_a_move_without_a_terminal_needs_yes(directory, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)

    with pytest.raises(ChangeRefused, match="--yes"):
        tier.move("rack", str(directory), "models", name="chat-v2")
    assert directory.exists()


def test_an_undeclared_bucket_is_refused_with_a_near_name(directory):
    with pytest.raises(DeclarationError, match="Write models"):
        tier.plan_("rack", str(directory), "model")


COSTS = {
    "fastest": "hot",
    "currency": "EUR",
    "months": 60,
    "tiers": {
        "hot": {"capacity": "10TB", "price_per_tb": 120, "monthly_per_tb": 1},
        "cold": {"capacity": "90TB", "price_per_tb": 30},
    },
}


def test_costs_are_compared_without_a_measurement(stack, monkeypatch, capsys):
    fleet = stack.fleet.model_copy(update={"costs": Costs.model_validate(COSTS)})
    monkeypatch.setattr(project, "stack", lambda name: replace(stack, fleet=fleet))

    with pytest.raises(typer.Exit) as ended:
        tier_bench.bench("rack", costs_only=True, as_json=True)

    costs = json.loads(capsys.readouterr().out)["costs"]
    assert ended.value.exit_code == 0
    assert (costs["total"], costs["fastest_alone"]) == pytest.approx((10 * 3 + 90 * 0.5, 100 * 3))


def test_the_page_of_a_fleet_with_costs(stack, tmp_path, monkeypatch, capsys):
    tiers = {"hot": {"capacity": "10TB", "price_per_tb": 180}, "warm": {"capacity": "90TB", "price_per_tb": 30}}
    costs = Costs.model_validate({"fastest": "hot", "currency": "EUR", "tiers": tiers})
    priced = replace(stack, fleet=stack.fleet.model_copy(update={"costs": costs}))
    monkeypatch.setattr(project, "stack", lambda name: priced)

    with pytest.raises(SetupError, match="the page cannot be written there"):
        tier_bench.bench("rack", costs_only=True, page=tmp_path / "missing" / "tiers.html")
    with pytest.raises(typer.Exit):
        tier_bench.bench("rack", costs_only=True, page=tmp_path / "tiers.html", as_json=True)

    assert "75.0% less than hot alone" in (tmp_path / "tiers.html").read_text()
    assert "the page is" in capsys.readouterr().err


def test_a_fleet_without_costs_or_tiers_is_refused():
    with pytest.raises(DeclarationError, match="the fleet declares no costs"):
        tier_bench.bench("rack", costs_only=True)
    with pytest.raises(DeclarationError, match="no host has a tier"):
        tier_bench.bench("rack", yes=True)


def test_tiers_and_buckets_without_retention_are_measured(stack, server, tmp_path, monkeypatch, capsys):
    if "backups" not in {each["Name"] for each in server.client().list_buckets()["Buckets"]}:
        server.client().create_bucket(Bucket="backups")
    hosts = {"gpu-01": SimpleNamespace(tiers={"hot": SimpleNamespace(mount=str(tmp_path))})}
    measured = replace(stack, fleet=stack.fleet.model_copy(update={"hosts": hosts}))
    pool = SimpleNamespace(connection=lambda name: LocalHost())
    monkeypatch.setattr(project, "stack", lambda name: measured)
    monkeypatch.setattr(project, "connect_hosts", lambda loaded: contextlib.nullcontext(pool))

    with pytest.raises(typer.Exit) as ended:
        tier_bench.bench("rack", size="1MiB", yes=True, as_json=True)

    printed = capsys.readouterr()
    document = json.loads(printed.out)
    places = [each["place"] for each in document["speeds"]]
    assert (ended.value.exit_code, document["costs"]) == (0, None)
    assert places == [f"gpu-01:{tmp_path}", "s3://backups from gpu-01"]
    assert "bucket models is not measured, because its objects are under retention" in printed.err
    assert list(tmp_path.iterdir()) == []
