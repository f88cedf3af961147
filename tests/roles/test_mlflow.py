"""The role mlflow: what it puts on a host, who may do what there, and what it does not take."""

import configparser
import json
import os
import re
import subprocess
import sys
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from rackwright.core.contract import Absent, Within
from rackwright.core.repository import Repository
from rackwright.facts.facts import Facts
from rackwright.kinds.role import RoleKind
from rackwright.kinds.role.promise import Promises, promises
from rackwright.kinds.role.refusals import refusals
from rackwright.kinds.role.spec import AboutFleet, AboutHost, AboutMirror, RoleSpec
from tests.support.our_roles import REPOSITORY, ROLES, ROOT

SOURCE = ROLES["mlflow"]
VALUES = {"mlflow_admin": "admins-own-word", "mlflow_tina": "tinas-own-word", "database": "postgresql://a:b%40@db/c"}
PASSWORD = "50% of w/ö:rds @ 'home' \"#\\+&=?"
PARTS = {"host": "192.0.2.31", "name": "mlflow", "account": "tracker", "password": {"secret": "tracking"}}
AUTHORITY = "-----BEGIN CERTIFICATE-----\n…"
KNOWING = Repository(REPOSITORY.templates, REPOSITORY.roles, REPOSITORY.salt, VALUES)
ADMIN = {"name": "admin", "password": {"secret": "mlflow_admin"}}
TINA = {"name": "tina", "function": "trainer", "password": {"secret": "mlflow_tina"}}
CONFIGURED = "/etc/rackwright/mlflow"
INSTALLED = "/opt/rackwright/mlflow"


def spec(mirror: AboutMirror | None = None, **variables: Any) -> RoleSpec:
    return RoleSpec(
        host="alpha",
        role="mlflow",
        identity={"serial": "S1"},
        about=AboutHost(name="alpha", os="debian-12", profile="virtual"),
        fleet=AboutFleet(name="lab", mirror=mirror),
        variables={"admin": ADMIN, **variables},
    )


def role_promises(repository: Repository = KNOWING, mirror: AboutMirror | None = None, **variables: Any) -> Promises:
    return promises(spec(mirror, **variables), repository)


def files(**variables: Any) -> dict[str, str]:
    return {file.file: str(file.content) for file in role_promises(**variables).files}


# --- what stands on the host


def test_a_password_stands_in_one_file_that_is_roots_alone():
    promised = role_promises(users=[TINA])
    holding = {file.file for file in promised.files if any(value in str(file.content) for value in VALUES.values())}

    assert holding == promised.secret_files == {f"{CONFIGURED}/accounts.json"}
    [file] = [file for file in promised.files if file.file in holding]
    assert (file.mode, file.owner) == ("0600", "root:root")
    assert json.loads(str(file.content)) == {"tina": VALUES["mlflow_tina"], "admin": VALUES["mlflow_admin"]}
    assert json.loads(files(users=[TINA])[f"{CONFIGURED}/functions.json"]) == {"tina": "trainer", "admin": "admin"}


def test_without_the_values_what_holds_them_is_unknown_and_nothing_else():
    promised = role_promises(REPOSITORY, users=[TINA])

    assert promised.unknown_secrets == ("mlflow_admin", "mlflow_tina")
    assert {promise.entry.thing for promise in promised.items if promise.unknown_reason} == {
        f"file:{CONFIGURED}/accounts.json"
    }


def test_no_secret_is_on_a_command_line():
    units = [text for path, text in files(database={"secret": "database"}).items() if path.endswith(".service")]
    started = re.findall(r"^Exec\w+=(?:.*\\\n)*.*$", "\n".join(units), re.MULTILINE)

    assert len(started) == 3
    assert not [value for value in VALUES.values() if value in "".join(started)]


def test_a_database_of_ones_own_is_known_to_server_and_accounts():
    written = files(database={"secret": "database"})
    accounts = configparser.ConfigParser()
    accounts.read_string(written[f"{CONFIGURED}/auth.ini"])

    assert accounts["mlflow"]["database_uri"] == VALUES["database"]
    assert f"MLFLOW_BACKEND_STORE_URI={VALUES['database']}\n" in written[f"{CONFIGURED}/server.env"]
    assert role_promises(database={"secret": "database"}).secret_files == {
        f"{CONFIGURED}/{name}" for name in ("accounts.json", "auth.ini", "server.env")
    }


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({}, ("192.0.2.31", 5432)),
        ({"host": "2001:db8::31", "port": 5433}, ("2001:db8::31", 5433)),
        ({"host": "store-01.example"}, ("store-01.example", 5432)),
    ],
)
def test_a_database_by_its_parts_has_its_password_quoted_and_its_certificate_verified(more, place):
    repository = Repository(REPOSITORY.templates, REPOSITORY.roles, REPOSITORY.salt, {**VALUES, "tracking": PASSWORD})
    promised = role_promises(repository, postgresql={**PARTS, **more}, database_authority=AUTHORITY)
    written = {file.file: str(file.content) for file in promised.files}
    accounts = configparser.ConfigParser()
    accounts.read_string(written[f"{CONFIGURED}/auth.ini"])
    environment = dict(line.split("=", 1) for line in written[f"{CONFIGURED}/server.env"].splitlines() if "=" in line)
    url = urlsplit(environment["MLFLOW_BACKEND_STORE_URI"])

    assert accounts["mlflow"]["database_uri"] == environment["MLFLOW_BACKEND_STORE_URI"]
    assert (url.scheme, url.username, url.path) == ("postgresql+psycopg", "tracker", "/mlflow")
    assert (unquote(url.password), (url.hostname, url.port)) == (PASSWORD, place)
    assert (environment["PGSSLMODE"], environment["PGSSLROOTCERT"]) == ("verify-full", f"{CONFIGURED}/database.crt")
    assert written[f"{CONFIGURED}/database.crt"] == AUTHORITY
    assert promised.secret_files == {f"{CONFIGURED}/{name}" for name in ("accounts.json", "auth.ini", "server.env")}
    for unit in ("mlflow", "mlflow-accounts"):
        assert "\nAfter=rackwright-postgresql.service\n" in written[f"/etc/systemd/system/{unit}.service"]
    assert not [entry for entry in promised.entries if entry.sort == "accounts"], "the probe does not read them"


def test_the_certificate_of_a_database_by_its_url_is_verified_as_well():
    written = files(database={"secret": "database"}, database_authority=AUTHORITY)

    assert "\nPGSSLMODE=verify-full\n" in written[f"{CONFIGURED}/server.env"]
    assert f"{CONFIGURED}/database.crt" in written
    assert "PGSSL" not in files()[f"{CONFIGURED}/server.env"]


def test_it_listens_at_its_address_and_is_called_by_its_names():
    written = files(address="192.0.2.11", port=5443, names=["tracking.example", "2001:db8::1"])
    hosts = "localhost:5443,127.0.0.1:5443,192.0.2.11:5443,alpha:5443,tracking.example:5443,[2001:db8::1]:5443"
    names = "DNS:localhost,IP:127.0.0.1,IP:192.0.2.11,DNS:alpha,DNS:tracking.example,IP:2001:db8::1"

    assert f"\nMLFLOW_SERVER_ALLOWED_HOSTS={hosts}\n" in written[f"{CONFIGURED}/server.env"]
    assert f"\nsubjectAltName = {names}\n" in written[f"{CONFIGURED}/tls.cnf"]
    assert " --host 192.0.2.11 --port 5443 " in written["/etc/systemd/system/mlflow.service"]
    [socket] = [entry for entry in role_promises(address="192.0.2.11").entries if entry.sort == "socket"]
    assert socket.want(REPOSITORY) == {"addresses": ("192.0.2.11",)}


def test_artifacts_wait_for_their_mount():
    unit = files(artifacts="/srv/warm")["/etc/systemd/system/mlflow.service"]

    assert "\nRequiresMountsFor=/srv/warm\n" in unit
    assert "\nReadWritePaths=/srv/warm/mlflow\n" in unit
    assert " --artifacts-destination /srv/warm/mlflow/artifacts " in unit


@pytest.mark.parametrize(
    ("mirror", "variables", "lines"),
    [
        (None, {}, []),
        (None, {"index": "https://wheels.example/simple"}, ["index-url = https://wheels.example/simple"]),
        (
            AboutMirror(url="http://mirror.example:8080/rack", key="K"),
            {"index": "https://wheels.example/simple"},
            ["index-url = http://mirror.example:8080/rack/simple/", "trusted-host = mirror.example:8080"],
        ),
    ],
)
def test_packages_come_from_the_mirror_where_there_is_one(mirror, variables, lines):
    written = {file.file: str(file.content) for file in role_promises(mirror=mirror, **variables).files}

    assert written[f"{INSTALLED}/pip.conf"].splitlines()[4:] == lines


def test_every_package_of_the_lock_has_a_hash_and_is_promised_in_its_version():
    lock = (ROOT / "roles/mlflow/templates/opt/rackwright/mlflow/requirements.txt.j2").read_text()
    [environment] = [entry for entry in role_promises().entries if entry.sort == "environment"]
    wanted = {name: want for name, want in environment.want(REPOSITORY).items() if "_" not in name}

    assert wanted["mlflow"] == "3.17.2" and len(wanted) == len(re.findall(r"^\S+==", lock, re.MULTILINE)) > 50
    assert lock.count("==") == len(re.findall(r"==\S+ \\\n    --hash=sha256:", lock))
    assert environment.thing.removeprefix("environment:") in files()["/etc/systemd/system/mlflow.service"]


def test_what_an_environment_lacks_is_found_package_by_package():
    claims = [claim for claim in RoleKind().claims(spec(), REPOSITORY) if claim.thing.startswith("environment:")]
    place = claims[0].thing.partition(":")[2]
    whole = {name: want for name, want in claims[0].want.items() if "_" not in name}
    whole |= {"pip": "23.0.1", "setuptools": "66.1.1"}
    lacking = {name: version for name, version in whole.items() if name != "mlflow"}

    def found(raw: dict[str, Any], *odd: str) -> dict[str, Any]:
        facts = Facts({"environments": raw, "environment_files": dict.fromkeys(raw, odd)})
        return dict(RoleKind().observe(claims, facts)[claims[0].thing])

    def differing(packages: dict[str, Any], *odd: str) -> dict[str, Any]:
        values = found({place: packages}, *odd)
        return {name: value for name, value in values.items() if value != claims[0].want[name]}

    assert differing(whole) == {}
    assert differing({**lacking, "flask": "0.1"}) == {"flask": "0.1", "mlflow": Absent()}
    assert differing({**whole, "vllm": "1", "zeug": "2"}) == {"other_packages": ("vllm 1", "zeug 2")}
    assert differing(whole, "zz.pth: no package lists it") == {"odd_files": ("zz.pth: no package lists it",)}
    assert set(found({}).values()) == {Absent()}


def test_its_accounts_are_claimed_with_their_functions_where_they_can_be_seen():
    def wanted(**variables: Any) -> list[Any]:
        return [
            entry.want(REPOSITORY)
            for entry in role_promises(users=[TINA], **variables).entries
            if entry.sort == "accounts"
        ]

    roles = ("reviewer: EDIT of every registered_model", "trainer: EDIT of every experiment")
    roles = tuple(f"role {each}" for each in (*roles, "trainer: EDIT of every registered_model"))
    made = tuple(f"account {name}: MANAGE of what it made" for name in ("admin", "tina"))
    functions = ("admin: admin", "tina: trainer")
    assert wanted() == [{"functions": functions, "rights": Within((*made, *roles)), "lacking": ()}]
    assert wanted(database={"secret": "database"}) == []


def test_no_command_waits_for_a_server_that_has_ended(tmp_path):
    script = tmp_path / "answers.py"
    script.write_text(files(port=1025)[f"{INSTALLED}/answers.py"])
    with subprocess.Popen(["true"]) as ended:
        pass
    environment = {**os.environ, "MAINPID": str(ended.pid)}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stderr) == (1, "the server has ended; its journal says why\n")


# --- who may do what


@pytest.fixture(scope="module")
def functions() -> ModuleType:
    module = ModuleType("rackwright_functions")
    exec(files()[f"{INSTALLED}/rackwright_functions.py"], module.__dict__)
    return module


API = "/api/2.0/mlflow/"
ASKED = {
    ("GET", f"{API}experiments/get"): "trainer reviewer auditor",
    ("POST", f"{API}runs/search"): "trainer reviewer auditor",
    ("POST", "/graphql"): "trainer reviewer auditor",
    ("GET", f"{API}registered-models/get"): "trainer reviewer auditor serving",
    ("GET", f"{API}model-versions/get-download-uri"): "trainer reviewer auditor serving",
    ("GET", "/api/2.0/mlflow-artifacts/artifacts/1/r/artifacts/model/x"): "trainer reviewer auditor serving",
    ("PUT", "/api/2.0/mlflow-artifacts/artifacts/1/r/artifacts/model/x"): "trainer",
    ("DELETE", "/api/2.0/mlflow-artifacts/artifacts/1/r/artifacts/model/x"): "",
    ("POST", f"{API}experiments/create"): "trainer",
    ("POST", f"{API}runs/log-batch"): "trainer",
    ("POST", "/ajax-api/2.0/mlflow/runs/log-metric"): "trainer",
    ("POST", f"{API}runs/delete"): "",
    ("POST", f"{API}registered-models/create"): "trainer",
    ("POST", f"{API}model-versions/create"): "trainer",
    ("POST", f"{API}registered-models/alias"): "reviewer",
    ("DELETE", f"{API}registered-models/alias"): "reviewer",
    ("POST", f"{API}model-versions/set-tag"): "",
    ("DELETE", f"{API}model-versions/delete"): "",
    ("POST", "/api/2.0/mlflow/users/create"): "",
    ("POST", "/api/3.0/mlflow/gateway/secrets/create"): "",
}


@pytest.mark.parametrize(("method", "path"), ASKED)
def test_a_function_may_do_what_it_is_for(functions, method, path):
    may = {
        name
        for name in ("trainer", "reviewer", "auditor", "serving", "unheard-of")
        if functions.allowed(name, method, path)
    }
    reads = {"unheard-of"} if "auditor" in ASKED[method, path] else set()

    assert may == set(ASKED[method, path].split()) | reads
    assert functions.allowed("admin", method, path)


# --- what is refused


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"admin": None}, "admin: got none; the server needs an administrator account to start."),
        ({"users": [{**TINA, "name": "admin"}]}, "got the account admin more than once; each account is"),
        ({"users": [{**TINA, "name": "Tina T"}]}, 'got the account "Tina T"; a name has small letters, digits,'),
        ({"users": [{**TINA, "password": "hunter2hunter2"}]}, "got the password of tina in plain text; a password is"),
        ({"port": 443}, "port: got 443; it runs without root, and may listen on ports from 1024 to 65535."),
        ({"artifacts": "s3://models"}, 'artifacts: got "s3://models"; artifacts are below a directory, or on a tier.'),
        (
            {"database": "postgresql://a:b@c/d"},
            "database: got the URL in plain text; the URL of a database",
        ),
        (
            {"certificate": "-----BEGIN CERTIFICATE-----", "key": "K"},
            "key: got the key in plain text; a private key is one of",
        ),
        ({"workers": 0}, "workers: got 0; at least one process answers."),
        (
            {"postgresql": PARTS, "database": {"secret": "database"}, "database_authority": AUTHORITY},
            "postgresql: got `database` as well; a server has one database.",
        ),
        (
            {"postgresql": {**PARTS, "password": "hunter2hunter2hunter2"}, "database_authority": AUTHORITY},
            "postgresql: got the password in plain text; a password is one of the stack's secrets.",
        ),
        (
            {"postgresql": {**PARTS, "account": "a@b"}, "database_authority": AUTHORITY},
            'postgresql: got the name "a@b"; a database or account has small letters, digits and underscores',
        ),
        ({"postgresql": PARTS}, "database_authority: got none; the server sends the password only to a database"),
        ({"database_authority": AUTHORITY}, "database_authority: got an authority without a database; a database of"),
    ],
)
def test_what_cannot_be_is_refused_and_no_password_repeated(variables, expected):
    given = {"admin": ADMIN, **variables}
    assert list(SOURCE.problems("debian-12", {key: value for key, value in given.items() if value})) == []
    [problem] = refusals(SOURCE, "debian-12", given)

    assert expected in ": ".join([*map(str, problem.path), str(problem)])
    assert "hunter2" not in str(problem)


def test_a_certificate_wants_its_key():
    [problem] = SOURCE.problems("debian-12", {"certificate": "-----BEGIN CERTIFICATE-----"})

    assert "key" in str(problem)
