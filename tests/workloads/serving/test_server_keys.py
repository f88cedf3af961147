"""Keys of the server: what each scope allows, and which files of keys are refused."""

import json
from pathlib import Path

import pytest

from tests.support.model_servers import HELD, ONE, Held, ask, eventually, here
from workloads.serving import keys
from workloads.serving.keys import Key, Keys


def made(capsys: pytest.CaptureFixture[str], name: str, scopes: str) -> tuple[str, Key]:
    """Return a key as `python -m workloads.serving.keys` makes it, and its line."""
    assert keys.main([name, "--scopes", scopes]) == 0
    output = capsys.readouterr()
    return output.err.split()[-1], Key.model_validate_json(output.out)


def test_a_key_may_what_its_scopes_say(capsys: pytest.CaptureFixture[str]) -> None:
    runtime = Held()
    for _ in range(9):
        runtime.go.release()
    infer, line = made(capsys, "app", "infer")
    figures, other = made(capsys, "prometheus", "metrics")
    with here(runtime, Keys([line, other])) as server:

        def status(path: str, body: bytes | None, key: str) -> int:
            return ask(server.address, path, body, {"Authorization": f"Bearer {key}"} if key else {}).status

        assert [status(HELD, ONE, key) for key in ("", "wrong", infer, figures)] == [401, 401, 200, 403]
        assert [status("/metrics", None, key) for key in ("", infer, figures)] == [401, 403, 200]
        assert [status("/v2/models/held", None, key) for key in ("", infer)] == [401, 403]
        assert [status("/nowhere", None, ""), status("/openapi.json", None, "")] == [401, 401]
        assert [status(path, None, "") for path in ("/health", "/ready", "/v2/health/ready")] == [200] * 3
        eventually(lambda: len(server.requests) == 14)

    assert [line.get("key") for line in server.requests[:4]] == [None, None, "app", "prometheus"]
    assert infer not in json.dumps(server.log)
    assert infer not in line.model_dump_json()


def test_a_file_of_keys_is_read_whole_or_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    token, line = made(capsys, "app", "infer,read")
    path = tmp_path / "keys.json"
    path.write_text(f"[{line.model_dump_json()}]")
    found = keys.read(path).find(f"bearer {token}")
    assert found == line
    for content, message in (
        (f"[{line.model_dump_json()}, {line.model_dump_json()}]", "the file has a key twice"),
        ('[{"name": "a", "sha256": "hunter2", "scopes": ["all"]}]', "0.sha256: String should match pattern"),
    ):
        path.write_text(content)
        with pytest.raises(keys.UserError, match=message) as refused:
            keys.read(path)
        assert "hunter2" not in str(refused.value)
    assert keys.main(["a", "--scopes", "infer,all"]) == 2
    assert capsys.readouterr().err == (
        "error: --scopes: no such scope, all\n  expected: some of infer, read, metrics, exchange\n"
        "  help:     Correct --scopes\n"
    )
