"""`rackwright backup` to a bucket and `restore` from it, on a real SeaweedFS."""

import json
import sys
from pathlib import Path

import pytest

from rackwright.cli import main
from rackwright.tiering.bucket import Bucket
from tests.support import sample_checkpoints
from tests.support.object_store import seaweedfs


def test_a_checkpoint_goes_to_a_bucket_and_comes_back(tmp_path, monkeypatch, capsys):
    """
    A bucket without a stack, an unknown archive and a damaged one are refused, each with its status.
    """
    sample_checkpoints.make(tmp_path / "digits", 10)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["rackwright", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out + captured.err

    (tmp_path / "store").mkdir()
    with seaweedfs(tmp_path / "store") as server:
        bucket = Bucket("backups", server.client())
        bucket.client.create_bucket(Bucket="backups")
        monkeypatch.setattr("rackwright.cli.project.stack", lambda name: name)
        monkeypatch.setattr("rackwright.cli.tier.open_bucket", lambda stack, name: bucket)
        monkeypatch.setattr("rackwright.cli.project.notify", lambda text: None)

        status, text = run("backup", "digits", "--to", "s3://backups", "--stack", "lab", "--json")
        assert status == 0, text
        place = json.loads(text)["path"]
        assert place.startswith("s3://backups/digits-step-")
        assert [each.name for each in tmp_path.iterdir() if each.suffix == ".tar"] == []

        assert run("restore", place, "--stack", "lab")[0] == 0
        assert run("restore", place, "--stack", "lab", "--to", "back")[0] == 0
        wanted = sample_checkpoints.content(Path("digits"))
        assert sample_checkpoints.content(Path("back")) == {
            name: content for name, content in wanted.items() if name.startswith("step")
        }

        assert run("backup", "digits", "--to", "s3://backups")[0] == 2
        assert run("restore", "s3://backups/nothing", "--stack", "lab")[0] == 2
        [file] = bucket.client.list_objects_v2(Bucket="backups", Prefix=f"{place[13:]}/files/")["Contents"]
        bucket.client.put_object(Bucket="backups", Key=file["Key"], Body=b"damaged")
        assert run("restore", place, "--stack", "lab")[0] == 1
