"""Secrets that a program parses: a stack without such a value is refused, a virtual one too, and so is another form."""

import base64
import json
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from ruamel.yaml import YAML
from typer.testing import CliRunner

from rackwright.cli import project as cli_project
from rackwright.cli.app import app
from rackwright.errors import DeclarationError
from rackwright.schema.secret import FORMS, LAB_PASSPHRASE, derive_value, references
from rackwright.stack import feasible, load_stack
from tests.support import role_sets
from tests.support.our_roles import ROLES, ROOT
from tests.support.server_stack import HOSTS, SERVERS
from tests.support.stack_settings import configure, encrypted_secrets, new_project

IN_ROLES = [
    (role, path, form)
    for role, source in ROLES.items()
    for path, form in source.secret_forms.items()
    if FORMS[form].is_parsed
]
IN_SERVERS = [("tls", "certificate", "certificate"), ("tls", "key", "private_key")]
ALL = [("role", *each) for each in IN_ROLES] + [("server", *each) for each in IN_SERVERS]
OTHER = "is the key of another certificate than the declared one"
NAME = "its_value"
"""The name of the secret."""


def private_key(encryption=NoEncryption()) -> str:  # noqa: B008 - it has no state
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


def pair() -> tuple[str, str]:
    """Return a certificate and its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(1))
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode(), text


def certificate() -> str:
    return pair()[0]


OTHER_CERTIFICATE = certificate()
"""A certificate whose key no secret has."""
VALID = {
    "private_key": private_key,
    "certificate": certificate,
    "postgresql_url": lambda: "postgresql://lab:p%40ss@db.example:5432/tracking",
    "url": lambda: "https://alerts.example/hook?key=a%20b",
}
INVALID = {
    "private_key": lambda: [
        certificate(),
        private_key(BestAvailableEncryption(b"passphrase")),
        private_key().replace("M", "!"),
        "-----BEGIN PRIVATE KEY-----",
    ],
    "certificate": lambda: [private_key(), certificate()[:80], "-----BEGIN CERTIFICATE-----"],
    "postgresql_url": lambda: [
        "sqlite:////var/lib/mlflow/mlflow.db",
        "postgresql://db/tracking",
        "lab:pass@db/tracking",
    ],
    "url": lambda: ["alerts.example/hook", "ftp://alerts.example", "https:///hook", "https://alerts.example/a b"],
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("rackwright.stack.passphrase.check", lambda *arguments: None)
    return new_project(tmp_path, monkeypatch, {})


def declare(project: Path, where: str, part: str, path: str, target: str, **secrets: dict[str, str]) -> None:
    """Write a stack whose role or server *part* has the secret at *path*."""
    if where == "server":
        other = next(each for _, each, _ in IN_SERVERS if each != path)
        tls = f"    tls: {{{path}: {{secret: {NAME}}}, {other}: {{secret: other}}}}\n"
        (project / "stacks/pair.yaml").write_text(HOSTS.read_text())
        fleet = SERVERS.replace("    set: {max_batch: 8}\n", tls)
    else:
        sample = role_sets.samples()[part]
        name, _, key = path.partition(".")
        sample |= {name: [{**sample[name][0], key: {"secret": NAME}}] if key else {"secret": NAME}}
        if path == "key":
            sample["certificate"] = OTHER_CERTIFICATE
        role_sets.write_fleet(project / "stacks/one.yaml", {"a": role_sets.host(1, [part], {part: sample})})
        fleet = (project / "stacks/one.yaml").read_text()
    (project / "stacks/one.yaml").write_text(fleet)
    others = (*(name for name in ("other", "serving_key", "training_key", "digits_app", *others_of(part))),)
    configure(project, "one", "one.yaml", target, secrets=encrypted_secrets(*others) | secrets)


def others_of(role: str) -> list[str]:
    """Return the names of the secrets in the sample of *role*."""
    return [name for _, name in references(role_sets.samples().get(role, {}))]


def problems(project: Path) -> list[str]:
    try:
        load_stack("one", project)
    except DeclarationError as errors:
        return [str(each) for each in errors.diagnostics if NAME in str(each)]
    return []


@pytest.mark.parametrize("target", ["twin:one", "rack"])
@pytest.mark.parametrize(("where", "part", "path", "form"), ALL)
def test_a_value_that_a_twin_cannot_derive_has_to_be_set(project, where, part, path, form, target):
    """A twin derived 64 digits, and the program that reads a private key there waited for ever."""
    declare(project, where, part, path, target)
    [problem] = problems(project)

    place = path.replace(".", "[0].")
    command = FORMS[form].command("one", NAME)
    assert (
        problem.partition(":")[0] == "stacks/one.yaml" and f".{place}: got a secret {NAME} without a value" in problem
    )
    assert f"Run `{command}` with " in problem
    assert (FORMS[form].expected in problem) is (target != "rack")
    declare(project, where, part, path, target, **encrypted_secrets(NAME))
    assert problems(project) == []


@pytest.mark.parametrize(
    ("where", "part", "path", "form"), [each for each in ALL if each[-1] not in ("postgresql_url", "url")]
)
def test_a_generated_value_is_refused_by_its_length(project, where, part, path, form):
    declare(project, where, part, path, "twin:one", **encrypted_secrets(NAME, length=len(derive_value(NAME))))

    [problem] = problems(project)
    assert f"the secret {NAME} has 64 bytes; {FORMS[form].expected}" in problem


@pytest.mark.parametrize(("where", "part", "path", "form"), ALL)
def test_a_value_of_another_form_is_refused_before_a_host_gets_it(project, where, part, path, form):
    declare(project, where, part, path, "twin:one", **encrypted_secrets(NAME))
    stack = load_stack("one", project)

    valid = VALID[form]()
    if part in PAIRED and path == "key":
        with pytest.raises(DeclarationError, match=OTHER):
            stack.with_secrets({NAME: valid})
    else:
        assert stack.with_secrets({NAME: valid}).repository.secrets[NAME]
    for value in (*INVALID[form](), derive_value(NAME) * 8):
        with pytest.raises(DeclarationError) as caught:
            stack.with_secrets({NAME: value})
        assert f"the value of the secret {NAME} has another form; {FORMS[form].expected}." in str(caught.value)
        assert value not in str(caught.value)


def test_forms_have_valid_and_invalid_values_here():
    parsed = {name: form for name, form in FORMS.items() if form.is_parsed}
    assert parsed.keys() == VALID.keys() == INVALID.keys() == {form for *_, form in ALL}
    for name, form in parsed.items():
        assert form.is_valid(VALID[name]()) and len(VALID[name]()) >= form.shortest
        assert form.is_valid(VALID[name]() + "\n"), "as from a file"


@pytest.mark.parametrize(
    "tool", ["genpkey -algorithm ed25519", "genrsa -traditional 2048", "ecparam -name prime256v1 -genkey"]
)
def test_private_keys_of_openssl_are_accepted(tool):
    made = subprocess.run(["openssl", *tool.split()], capture_output=True, text=True, check=True).stdout

    assert FORMS["private_key"].is_valid(made) and len(made) >= FORMS["private_key"].shortest


def test_setting_a_value_of_another_form_is_refused(project, monkeypatch):
    declare(project, "role", "registry", "key", "twin:one")
    (project / "Pulumi.yaml").write_text("name: rackwright\n")
    monkeypatch.setattr(cli_project, "environment", lambda stack: {})
    settings = project / "stacks/Pulumi.one.yaml"
    before = settings.read_text()

    for arguments, text in (([], certificate()), (["--generate"], "")):
        with pytest.raises(DeclarationError, match="a private key in PEM without a passphrase"):
            CliRunner().invoke(app, ["secret", "set", "one", NAME, *arguments], input=text, catch_exceptions=False)
    assert settings.read_text() == before


PAIRED = [role for role, source in ROLES.items() if source.key_pairs]
TLS = [("role", role) for role in PAIRED] + [("server", "tls")]


def test_every_role_with_a_certificate_and_its_key_declares_the_pair():
    """A variable with the form of a private key has the certificate beside it, and both are variables of the role."""
    for role, source in ROLES.items():
        keys = {path for path, form in source.secret_forms.items() if form == "private_key"}
        has_certificate = any(re.search("certificate$", name) for name in source.options)
        assert keys == source.key_pairs.keys(), role
        assert not has_certificate or keys, f"{role} has a certificate, and no secret with the form of a private key"
        names = {*source.key_pairs, *source.key_pairs.values()}
        assert {f"{role}_{name}" for name in names} <= source.options.keys()
    assert len(PAIRED) >= 4


@pytest.mark.parametrize(("where", "part"), TLS)
def test_check_refuses_the_key_of_another_certificate(project, where, part):
    """Without a command before it that knows the values: the passphrase of twins is published."""
    certificates = {"own": pair(), "other": pair()}
    for key, is_right in (("other", False), ("own", True)):
        values = {NAME: certificates[key][1], "other": certificates["own"][0]}
        declare(project, where, part, "key", "twin:one")
        fleet = project / "stacks/one.yaml"
        if where == "role":
            data = YAML(typ="safe").load(fleet.read_text())
            data["hosts"]["a"]["roles"][part]["certificate"] = certificates["own"][0]
            fleet.write_text(json.dumps(data))
        encrypt(project / "stacks/Pulumi.one.yaml", values)

        found = errors_of_check("one", project)

        assert any(OTHER in text for text in found) is not is_right, found
        if not is_right:
            [text] = [text for text in found if OTHER in text]
            assert re.match(rf"stacks/one.yaml:\d+: \w+\.[\w.]*{'' if where == 'server' else part}\.key: ", text)
            assert f"Run `rackwright secret set one {NAME} < host.key` with the key of the certificate" in text
            assert certificates[key][1] not in text


def test_check_leaves_alone_the_values_that_it_cannot_read(project, monkeypatch):
    declare(project, "role", "registry", "key", "twin:one")
    encrypt(project / "stacks/Pulumi.one.yaml", {NAME: private_key()})
    assert any(OTHER in text for text in errors_of_check("one", project))
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "another one")

    assert not any(OTHER in text for text in errors_of_check("one", project))


def errors_of_check(name: str, project: Path) -> list[str]:
    """Return the errors of `check`, whatever they are about."""
    try:
        feasible.check(load_stack(name, project))
    except DeclarationError as errors:
        return [str(each) for each in errors.diagnostics]
    return []


def encrypt(settings: Path, values: dict[str, str]) -> None:
    """Add *values* to the secrets in *settings*, encrypted as pulumi does with the passphrase of twins."""
    data = YAML(typ="safe").load(settings.read_text())
    salt, nonce = b"saltsalt", b"nonce-nonce-"
    key = AESGCM(PBKDF2HMAC(SHA256(), 32, salt, 1_000_000).derive(LAB_PASSPHRASE.encode()))

    def sealed(text: str) -> str:
        parts = (nonce, key.encrypt(nonce, text.encode(), None))
        return "v1:" + ":".join(base64.b64encode(part).decode() for part in parts)

    data["encryptionsalt"] = f"v1:{base64.b64encode(salt).decode()}:{sealed('pulumi')}"
    data["config"]["rackwright:secrets"] |= {name: {"secure": sealed(value)} for name, value in values.items()}
    settings.write_text(json.dumps(data))


EXAMPLES = ["cold", "hospital", "bank"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_have_the_keys_of_their_certificates(name):
    """Their passphrase is published: twins of the examples start without a step of the reader."""
    stack = load_stack(name, ROOT)
    settings = YAML(typ="safe").load((ROOT / f"stacks/Pulumi.{name}.yaml").read_text())
    texts = decrypt(settings["config"]["rackwright:secrets"], settings["encryptionsalt"])

    assert stack.secret_forms.keys() <= texts.keys()
    pairs = 0
    for host in stack.fleet.hosts.values():
        for role in host.roles.values():
            if isinstance(role, dict) and role.get("certificate") and role.get("key"):
                [own, *_] = x509.load_pem_x509_certificates(role["certificate"].encode())
                key = load_pem_private_key(texts[role["key"]["secret"]].encode(), None)
                assert key.public_key() == own.public_key()
                pairs += 1
    assert pairs


def decrypt(secrets: dict[str, dict[str, str]], salt: str) -> dict[str, str]:
    """Return the values of *secrets*. Source: pulumi, sdk/go/common/resource/config/crypt.go."""
    derivation = PBKDF2HMAC(SHA256(), 32, base64.b64decode(salt.split(":")[1]), 1_000_000)
    cipher, found = AESGCM(derivation.derive(LAB_PASSPHRASE.encode())), {}
    for name, entry in secrets.items():
        _, nonce, text = entry["secure"].split(":")
        found[name] = cipher.decrypt(base64.b64decode(nonce), base64.b64decode(text), None).decode()
    return found
