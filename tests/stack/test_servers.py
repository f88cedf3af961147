"""A stack of servers: which model each has, in which order hosts change, and what is refused before any is asked."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from rackwright.errors import DeclarationError
from rackwright.fleet import edit_server, load_fleet
from rackwright.kinds.model_server.spec import ServerSpec
from rackwright.schema.server import ServedModel
from rackwright.stack import declare, load_stack, server_model
from tests.support.our_roles import ROLES
from tests.support.server_stack import SERVERS, project, publish, specs
from workloads.errors import UserError
from workloads.quantize.versions import ARTIFACT
from workloads.serving import model as model_directory
from workloads.tracking import registry

__all__ = ["project"]


def test_a_host_changes_when_the_one_before_it_has(project: Path) -> None:
    after = {declared.name: declared.after for declared in declare(load_stack("serving", project))}

    assert after == {
        "cinder/digits": (), "ember/digits": ("cinder/digits",),
        "ember/plain": (), "cinder/plain": ("ember/plain",),
    }  # fmt: skip


def test_a_host_that_joins_a_server_does_not_change_the_others(project: Path) -> None:
    before = specs(project)
    path = project / "stacks" / "serving.yaml"
    path.write_text(SERVERS.replace("hosts: [cinder, ember]", "hosts: [cinder]"))

    assert specs(project)["cinder/digits"] == before["cinder/digits"]


def test_the_hosts_of_a_server_divide_its_quotas(project: Path) -> None:
    path, key = project / "stacks" / "serving.yaml", "digits_app, tokens_per_day: 1001, requests_per_minute: 2"
    path.write_text(SERVERS.replace("secret: digits_app", f"secret: {key}"))
    quotas = [specs(project)[f"{host}/digits"].quotas for host in ("cinder", "ember")]

    assert quotas == [
        {"app": {"requests_per_minute": 1, "tokens_per_day": 501}},
        {"app": {"requests_per_minute": 1, "tokens_per_day": 500}},
    ]
    path.write_text(path.read_text().replace("hosts: [cinder, ember]", "hosts: [cinder]"))
    assert specs(project)["cinder/digits"].quotas["app"]["tokens_per_day"] == 1001


def test_a_model_of_this_computer_is_known_by_its_files(project: Path) -> None:
    spec = specs(project)["cinder/digits"]
    model = model_directory.read(project / "models" / "digits")

    assert (spec.model, spec.version, spec.source) == ("digits", model.version, str(project / "models" / "digits"))
    assert {*spec.files} == {"model.onnx", "model.json"}
    assert spec.files["model.onnx"] == model.files["model.onnx"].sha256
    assert (spec.address, spec.interface, spec.below) == ("10.141.0.12", "fabric0", None)


def test_a_model_of_a_tier_is_known_by_its_version(project: Path) -> None:
    spec = specs(project)["ember/plain"]

    assert (spec.version, spec.source, spec.below) == ("0123456789ab", None, "/srv/warm/models/plain")
    assert (spec.address, spec.interface) == ("0.0.0.0", None)
    assert spec.declared.gate.accuracy_kept is None


@pytest.mark.parametrize(
    ("kept", "expected"), [(0.97, "the model kept 97.0000% of its accuracy"), (None, "the model has no report")]
)
def test_what_lost_too_much_is_refused_before_any_host_is_asked(
    project: Path, kept: float | None, expected: str
) -> None:
    publish(project / "models" / "digits", b"two", kept)

    with pytest.raises(DeclarationError, match=rf"servers.digits.model.path: {expected}.*; at least 98.00%"):
        declare(load_stack("serving", project))


def test_more_tokens_than_the_model_has_are_refused(project: Path) -> None:
    directory, weights = project / "models" / "digits", project / "models" / "weights"
    weights.write_bytes(b"GGUF")
    lineage = {"context_tokens": 2048}
    model_directory.publish(directory, {"m.gguf": weights}, "talk", (), (), lineage, runtime="llama.cpp", replace=True)
    path = project / "stacks" / "serving.yaml"

    def declared(tokens: int) -> ServerSpec:
        changed = f"set: {{context_tokens: {tokens}}}\n    gate: {{accuracy_kept: null}}"
        path.write_text(SERVERS.replace("set: {max_batch: 8}", changed))
        return specs(project)["cinder/digits"]

    assert declared(2048).settings["context_tokens"] == 2048
    with pytest.raises(
        DeclarationError, match=r"servers\.digits\.set\.context_tokens.*got 2049; at most 2048"
    ) as error:
        declared(2049)
    assert "Set context_tokens to 2048" in str(error.value)


def test_a_language_model_is_declared_without_a_gate_and_without_rows(project: Path) -> None:
    (project / "models" / "weights").write_bytes(b"GGUF")
    files = {"model.gguf": project / "models" / "weights"}
    directory = project / "models" / "digits"
    model_directory.publish(directory, files, "talk", (), (), {}, runtime="llama.cpp", replace=True)
    path, waived = project / "stacks" / "serving.yaml", "set: {max_batch: 8}\n    gate: {accuracy_kept: null}"
    path.write_text(SERVERS.replace("set: {max_batch: 8}", waived))
    spec = specs(project)["cinder/digits"]

    assert (spec.model, {*spec.files}, spec.declared.gate.accuracy_kept) == ("talk", {"model.gguf", "model.json"}, None)

    canary = "canary: {data: models/weights, accuracy: 0.5}"
    path.write_text(SERVERS.replace("set: {max_batch: 8}", f"{waived}\n    {canary}"))
    with pytest.raises(DeclarationError, match="servers.digits.canary: got rows for talk, a language model"):
        declare(load_stack("serving", project))


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("vllm: {}", "got 0.98, the default, for a server with vllm"),
        ("vllm: {}\n    gate: {accuracy_kept: 0.98}", "got 0.98 for a server with vllm"),
        ("gate: {accuracy_kept: 0}\n    set: {embeddings: mean}", "got 0 for a server with embeddings"),
    ],
)
def test_a_gate_that_no_language_model_passes_is_refused_before_there_is_a_model(
    project: Path, more: str, problem: str
) -> None:
    """Both errors are in the first check, and with a declared version the gate alone: hosts may have that one."""
    path = project / "stacks" / "serving.yaml"
    text = SERVERS.replace("set: {max_batch: 8}", more).replace("models/digits", "models/none")
    expected = (
        f"servers.digits.gate.accuracy_kept: {problem}, which serves language models; null, because a language model"
        " has no report of its accuracy by `python -m workloads.quantize`. Write `gate: {accuracy_kept: null}`"
    )
    for model, others in (("models/none", ["servers.digits.model.path"]), ('models/none, version: "0123456789ab"', [])):
        path.write_text(text.replace("models/none", model))
        with pytest.raises(DeclarationError) as error:
            declare(load_stack("serving", project))
        [gate, *more_errors] = error.value.diagnostics
        assert expected in str(gate)
        assert [each.where.partition(" ")[2] for each in more_errors] == others

    path.write_text(text.replace(more, "vllm: {}\n    gate: {accuracy_kept: null}"))
    with pytest.raises(DeclarationError) as error:
        declare(load_stack("serving", project))
    assert [each.where.partition(" ")[2] for each in error.value.diagnostics] == ["servers.digits.model.path"]


@pytest.mark.parametrize("runtime", ["llama.cpp", "vllm"])
def test_the_gate_of_a_published_language_model_has_a_remedy_that_helps(project: Path, runtime: Any) -> None:
    """A better model would have no report either."""
    (project / "models" / "weights").write_bytes(b"weights")
    files = {"model.gguf": project / "models" / "weights"}
    model_directory.publish(project / "models" / "digits", files, "talk", (), (), {}, runtime=runtime, replace=True)
    with pytest.raises(DeclarationError) as error:
        declare(load_stack("serving", project))
    text = "servers.digits.model.path: the gate asks a language model for 98.00% of its accuracy; null, because"
    assert text in str(error.value) and "Publish a better model" not in str(error.value)
    assert "Write `gate: {accuracy_kept: null}`" in str(error.value)
    (project / "stacks" / "serving.yaml").write_text(SERVERS.replace("models/digits", "models/none"))
    with pytest.raises(UserError, match="the gate asks a language model for 98"):
        server_model.model_to_serve(load_stack("serving", project), "digits", "models/digits")


@pytest.mark.parametrize(
    ("more", "watch"),
    [
        ("", None),
        (", every: 15min", (900, 0.02, False)),
        (", every: 6h, change: 0.05, roll_back: true", (21600, 0.05, True)),
    ],
)
def test_a_canary_is_watched_where_that_is_declared(project: Path, more: str, watch: object) -> None:
    (project / "models" / "rows.npz").write_bytes(b"rows")
    path = project / "stacks" / "serving.yaml"
    canary = f"canary: {{data: models/rows.npz, accuracy: 0.9{more}}}"
    path.write_text(SERVERS.replace("set: {max_batch: 8}", canary))
    spec = specs(project)["cinder/digits"]

    assert spec.declared.canary is not None
    assert (spec.watch and (spec.watch.every_seconds, spec.watch.change, spec.watch.roll_back)) == watch


@pytest.mark.parametrize(
    ("more", "program"),
    [("set: {}", "workloads.quantize … --out"), ("vllm: {}", "workloads.serving.vllm MODEL --name NAME --out")],
)
def test_the_help_for_a_missing_model_names_the_program_that_publishes_it(
    project: Path, more: str, program: str
) -> None:
    path = project / "stacks" / "serving.yaml"
    text = SERVERS.replace("models/digits", "models/none").replace("set: {max_batch: 8}", more)
    path.write_text(text)

    with pytest.raises(DeclarationError) as error:
        declare(load_stack("serving", project))
    assert f"Publish a model there with `python -m {program}" in error.value.render()


def test_a_model_that_is_not_there_is_named(project: Path) -> None:
    path = project / "stacks" / "serving.yaml"
    path.write_text(SERVERS.replace("models/digits", "models/none"))

    with pytest.raises(DeclarationError, match=r"servers.digits.model.path: got no model in models/none"):
        declare(load_stack("serving", project))


def test_a_version_that_only_the_hosts_have_needs_no_directory(project: Path) -> None:
    path = project / "stacks" / "serving.yaml"
    path.write_text(SERVERS.replace("{path: models/digits}", '{path: models/digits, version: "ba9876543210"}'))
    spec = specs(project)["cinder/digits"]

    assert (spec.version, spec.source, spec.files) == ("ba9876543210", None, {})


def test_its_secrets_are_those_of_its_keys_and_its_own(project: Path) -> None:
    stack = load_stack("serving", project)

    assert {*stack.repository.secrets} == {"training_key", "digits_app"}
    assert stack.without_secrets.unknown_secrets == {"training_key", "digits_app"}


class TestPromote:
    def test_another_directory_takes_the_place_and_all_else_stays(self, project: Path) -> None:
        version = publish(project / "models" / "second", b"second", 1.0)
        path = project / "stacks" / "serving.yaml"
        model = server_model.model_to_serve(load_stack("serving", project), "digits", "models/second")
        text = edit_server.replace_model(path, "digits", model)
        load_fleet(path, ROLES, text=text)

        assert text == SERVERS.replace("{path: models/digits}", f'{{path: "models/second", version: "{version}"}}')
        assert sorted(file.name for file in path.parent.iterdir()) == [
            "Pulumi.serving.yaml", "pair.yaml", "serving.yaml",
        ]  # fmt: skip

    def test_a_version_that_looks_like_a_number_stays_a_text(self, project: Path) -> None:
        path = project / "stacks" / "serving.yaml"
        model = server_model.model_to_serve(load_stack("serving", project), "plain", "12e456789012")
        path.write_text(edit_server.replace_model(path, "plain", model))
        spec = specs(project)["ember/plain"]

        assert (spec.version, spec.below) == ("12e456789012", "/srv/warm/models/plain")

    def test_what_is_not_good_enough_is_not_written(self, project: Path) -> None:
        publish(project / "models" / "second", b"second", 0.5)

        with pytest.raises(UserError, match="the model kept 50.0000% of its accuracy; at least 98.00%"):
            server_model.model_to_serve(load_stack("serving", project), "digits", "models/second")

    def test_a_path_beyond_the_project_is_refused(self, project: Path) -> None:
        publish(project.parent / f"{project.name}-beyond" / "m", b"x", 1.0)

        with pytest.raises(DeclarationError, match="a path has letters, digits"):
            server_model.model_to_serve(load_stack("serving", project), "digits", f"../{project.name}-beyond/m")


class TestRegistered:
    """A model that has its name in a registry; no test here asks one."""

    @pytest.fixture(autouse=True)
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def fetched(self, project: Path, kept: float = 0.99) -> tuple[Path, str, str]:
        """Put a model where those that were fetched are; return its directory, version and sha256."""
        made = project / "elsewhere" / ARTIFACT
        version = publish(made, b"registered", kept)
        digest = sha256((made / model_directory.NAME).read_bytes()).hexdigest()
        directory = registry.directory_for(registry.cache_directory(), digest) / ARTIFACT
        directory.parent.mkdir(parents=True)
        made.rename(directory)
        return directory, version, digest

    def declare_(self, project: Path, model: str) -> ServerSpec:
        path = project / "stacks" / "serving.yaml"
        path.write_text(SERVERS.replace("{path: models/digits}", model))
        return specs(project)["cinder/digits"]

    def test_it_is_the_one_that_was_promoted_wherever_its_name_leads(self, project: Path) -> None:
        directory, version, digest = self.fetched(project)
        spec = self.declare_(project, f'{{registered: digits@champion, version: "{version}", sha256: "{digest}"}}')

        assert (spec.version, spec.source, spec.files["model.json"]) == (version, str(directory), digest)

    @pytest.mark.parametrize("harm", ["none of it", "not all of it", "half of it", "another model.json"])
    def test_where_it_is_not_whole_the_hosts_get_the_same(self, project: Path, harm: str) -> None:
        directory, version, digest = self.fetched(project)
        model = f'{{registered: digits/7, version: "{version}", sha256: "{digest}"}}'
        before = self.declare_(project, model)
        path = directory / model_directory.NAME
        if harm == "another model.json":
            path.write_text(path.read_text().replace("0.99", "1.00"))
        elif harm == "half of it":
            (directory / "model.onnx").write_bytes(b"regis")
        else:
            (directory / "model.onnx" if harm == "not all of it" else path).unlink()
        spec = self.declare_(project, model)

        assert before.model_copy(update={"model": "", "source": None, "files": {}}) == spec

    def test_a_name_alone_says_of_no_model_which_it_was(self, project: Path) -> None:
        with pytest.raises(DeclarationError) as caught:
            self.declare_(project, "{registered: digits@champion}")

        assert str(caught.value) == (
            "stacks/serving.yaml:6: "
            "servers.digits.model.registered: got digits@champion and no version; a name of the registry may point"
            " to another model later, so a fleet declares version and sha256. Run `rackwright server promote serving"
            " digits`, which writes version and sha256 beside it."
        )

    def test_a_version_that_is_not_of_its_sha256_is_refused(self, project: Path) -> None:
        _, version, digest = self.fetched(project)

        with pytest.raises(
            DeclarationError, match=f"got version 0123456789ab; the model with that sha256 is .*{version}"
        ):
            self.declare_(project, f'{{registered: digits/7, version: "0123456789ab", sha256: "{digest}"}}')

    def test_what_lost_too_much_is_refused_before_any_host_is_asked(self, project: Path) -> None:
        _, version, digest = self.fetched(project, kept=0.9)

        with pytest.raises(
            DeclarationError, match=r"model.registered: the model kept 90.0000% of its accuracy; at least 98.00%"
        ):
            self.declare_(project, f'{{registered: digits/7, version: "{version}", sha256: "{digest}"}}')

    def test_of_another_version_it_is_not_known_which_was_registered(self, project: Path) -> None:
        model = ServedModel(registered="digits@champion", version="0123456789ab", sha256="d" * 64)

        assert model.of_version("ba9876543210") == ServedModel(registered="digits@champion", version="ba9876543210")
        assert model.of_version("0123456789ab") == model

    def test_a_program_gets_what_to_write(self, project: Path) -> None:
        model = ServedModel(registered="digits@champion", version="0123456789ab", sha256="d" * 64)

        with pytest.raises(DeclarationError, match=f'registered: "digits@champion", .*, sha256: "{"d" * 64}"'):
            edit_server.replace_model(Path("serving.py"), "digits", model)
