"""The rules of docs/alerts, as Prometheus's own promtool sees them."""

import shutil
import subprocess
from pathlib import Path

from tests.support.debian_programs import debian_program

RULES = Path(__file__).parents[3] / "docs" / "alerts" / "servers.yaml"


def test_the_rules_say_what_they_are_for(tmp_path: Path) -> None:
    shutil.copy(RULES, tmp_path)
    shutil.copy(Path(__file__).with_name("alerts.yaml"), tmp_path)
    promtool = debian_program("promtool", "prometheus")
    done = subprocess.run([promtool, "test", "rules", "alerts.yaml"], cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
