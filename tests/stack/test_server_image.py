"""The image of a declared server: the same bytes each time, no model and no secret in it, and what it refuses."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from rackwright.errors import DeclarationError
from rackwright.kinds.model_server.image import ServerImage
from rackwright.kinds.model_server.spec import ServerSpec
from rackwright.stack import load_stack
from rackwright.stack.server_image import image
from tests.support.server_stack import BASE, project, publish, specs
from tests.support.stack_settings import configure, encrypted_secrets

__all__ = ["project"]
LINE = f"orjson==3.11.5 --hash=sha256:{'ab' * 32}\n"


def made(project: Path, *names: str, base: str = BASE, requirements: str | None = None, **more: Any) -> ServerImage:
    found, repository = specs(project), load_stack("serving", project).repository
    given = None
    if requirements is not None:
        given = project / "requirements.txt"
        given.write_text(requirements)
    return image([found[name] for name in names or ("cinder/digits",)], repository, base, given, **more)


def refused(project: Path, *names: str, **more: Any) -> str:
    with pytest.raises(DeclarationError) as caught:
        made(project, *names, **more)
    return str(caught.value)


def changed(project: Path, old: str, new: str) -> None:
    fleet = project / "stacks" / "serving.yaml"
    assert old in fleet.read_text()
    fleet.write_text(fleet.read_text().replace(old, new))


def lines(image: ServerImage) -> list[str]:
    return image.files["Containerfile"].decode().splitlines()


def test_it_is_the_same_bytes_each_time_and_on_all_hosts(project: Path) -> None:
    first, again = made(project, "cinder/digits", "ember/digits"), made(project, "ember/digits")

    assert first == again
    assert [*first.files] == ["Containerfile", "requirements.txt", "app.py", "settings.json", "workloads.zip"]
    assert first.tag == again.tag != made(project, base=BASE.replace("0123", "3210")).tag


def test_its_quotas_are_counted_in_memory(project: Path) -> None:
    changed(project, "secret: digits_app", "secret: digits_app, tokens_per_day: 1000")

    assert "quota_counts" not in json.loads(made(project).files["settings.json"])


def test_it_begins_with_its_base_and_serves_on_8080_without_rights(project: Path) -> None:
    found = lines(made(project))

    assert found[1] == f"FROM {BASE}"
    assert found[3].endswith("--no-install-recommends install python3 python3-venv libgomp1 && \\")
    assert "--require-hashes --only-binary :all:" in "\n".join(found)
    assert {"USER 10001:10001", "EXPOSE 8080", "STOPSIGNAL SIGTERM"} <= {*found}
    assert found[-1] == 'CMD ["/app/venv/bin/python", "app.py"]'
    assert found[-3] == "HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \\"
    assert "ProxyHandler({})).open('http://127.0.0.1:8080/ready', timeout=4)" in found[-2]
    assert not [line for line in found if line != line.rstrip()]


def test_what_it_copies_is_beside_it_and_all_of_that_is_copied(project: Path) -> None:
    found = made(project)
    copied = {name for line in lines(found) if line.startswith("COPY ") for name in line.split()[1:-1]}

    assert copied == {*found.files} - {"Containerfile"}


def test_its_settings_are_the_declared_ones_on_8080_and_of_keys_it_has_the_place(project: Path) -> None:
    changed(project, "    set: {max_batch: 8}", "    port: 9443\n    set: {max_batch: 8}")
    found = made(project)

    assert json.loads(found.files["settings.json"]) == {
        "max_batch": 8, "host": "0.0.0.0", "port": 8080, "anybody": False,
        "keys": "/etc/rackwright/servers/digits/keys.json",
    }  # fmt: skip
    assert found.secrets_directory == "/etc/rackwright/servers/digits"
    assert found.stop_seconds == 50


def test_anybody_may_ask_without_a_place_for_keys(project: Path) -> None:
    found = made(project, "ember/plain")

    assert found.secrets_directory is None
    assert json.loads(found.files["settings.json"])["anybody"] is True


def test_over_tls_it_is_asked_so_whether_it_is_ready(project: Path) -> None:
    tls = "    tls: {certificate: {secret: crt}, key: {secret: key}}\n"
    changed(project, "    set: {max_batch: 8}", f"{tls}    ready_seconds: 7")
    configure(project, "serving", "serving.yaml", "twin:lab", secrets=encrypted_secrets("crt", "key"))
    found = made(project)

    assert "import ssl; from urllib.request import *; build_opener(ProxyHandler({}), HTTPSHandler(" in lines(found)[-2]
    assert ".open('https://127.0.0.1:8080/ready', timeout=4)" in lines(found)[-2]
    assert lines(found)[-3].endswith("--start-period=7s \\")
    compile(json.loads(lines(found)[-2].strip().removeprefix("CMD "))[2], "health", "exec")
    report = json.loads(found.files["settings.json"])
    assert report["tls_key"] == "/etc/rackwright/servers/digits/tls.key"


def test_a_base_that_has_python_installs_nothing_of_its_distribution(project: Path) -> None:
    found = lines(made(project, python_of_base=True))

    assert not [line for line in found if "apt-get" in line]


def test_other_requirements_take_the_place_of_the_lock(project: Path) -> None:
    assert made(project, requirements=LINE).files["requirements.txt"] == LINE.encode()
    assert b"onnxruntime==" in made(project).files["requirements.txt"]


def test_its_program_finds_the_server_in_the_archive_beside_it(project: Path) -> None:
    found = made(project)
    compile(found.files["app.py"], "app.py", "exec")

    assert b'sys.path.insert(0, "/app/workloads.zip")' in found.files["app.py"]
    names = zipfile.ZipFile(io.BytesIO(found.files["workloads.zip"])).namelist()
    assert {"workloads/serving/__main__.py", "workloads/serving/serve.py"} <= {*names}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"base": "docker.io/library/python:3.12"},
            "image of digits: got the base docker.io/library/python:3.12 of digits; an image names its base by "
            "digest, because a tag may be another image tomorrow. Write registry.example/name@sha256:… with its 64",
        ),
        ({"base": BASE[:-1]}, "an image names its base by digest"),
        ({"base": BASE.partition("/")[2]}, "an image names its base by digest"),
        ({"requirements": "orjson==3.11.5\n"}, "image of digits: got requirements of digits without hashes; an image"),
    ],
)
def test_what_is_not_known_to_the_last_byte_is_refused(project: Path, changes: dict[str, str], expected: str) -> None:
    assert expected in refused(project, **changes)


def test_all_that_is_wrong_is_reported_at_once(project: Path) -> None:
    assert len(refused(project, base="python:3.12", requirements="orjson").splitlines()) == 2


def test_requirements_that_are_nowhere_are_reported(project: Path) -> None:
    found, repository = specs(project)["cinder/digits"], load_stack("serving", project).repository
    with pytest.raises(DeclarationError) as caught:
        image([found], repository, BASE, project / "none.txt")

    text = f"image of digits: got {project}/none.txt: No such file or directory; the file lists the packages"
    assert text in str(caught.value)


def test_hosts_that_differ_have_no_image_in_common(project: Path) -> None:
    found, repository = specs(project), load_stack("serving", project).repository
    other: ServerSpec = found["ember/digits"].model_copy(update={"tensor_parallel": 4})
    with pytest.raises(DeclarationError) as caught:
        image([found["cinder/digits"], other], repository, BASE)

    want = "got different settings on different hosts; an image has one set of settings. Write `tensor_parallel`"
    assert want in str(caught.value)


def test_a_model_that_the_lock_does_not_serve_takes_requirements(project: Path) -> None:
    publish(project / "models" / "digits", b"one", 0.99)
    report = project / "models" / "digits" / "model.json"
    report.write_text(report.read_text().replace('"runtime": "onnx"', '"runtime": "tensorrt"'))

    want = "got a model of tensorrt; this repository's lock has onnx and llama.cpp. Add --requirements FILE with"
    assert want in refused(project)
    assert made(project, requirements=LINE)
