"""Formats of role variables: each refuses what looks right and does not work on a host."""

from collections.abc import Iterator
from typing import Any

import pytest

from rackwright.schema import variables
from rackwright.schema.formats import FORMATS, problems
from rackwright.schema.secret import FORMS
from tests.support.hostile_texts import RIGHT
from tests.support.our_roles import ROLES

WRONG: dict[str, list[str]] = {
    "time_zone": ["Zurich", "US/Eastern", "europe/zurich", "Europe/Zurich ", "../etc/passwd", ""],
    "locale": ["en_US", "en_US.utf8", "xx_YY.UTF-8", "C.UTF8", ""],
    "address": ["1.2.3", "999.1.1.1", "gpu-01", ""],
    "listen_address": ["0.0.0.0", "::", "gpu-01", "::1 --path.rootfs=/", ""],
    "network": ["1.2.3.4/33", "1.2.3.4\nx", "lab"],
    "host": ["not a server", "time_1.example", "1.2.3", "-a.example", "a..b", ""],
    "endpoint": ["alpha:80", "10.0.0.1:80; }", "10.0.0.1:70000", "10.0.0.1", "::1:80", "[10.0.0.1]:80"],
    "package": ["Htop", "htop=3.2", "a b", "-y"],
    "size": ["1 G", "1GiB", "lots", "-1"],
    "sysctl": ["swappiness", "vm.swappiness = 1", ""],
    "url": ["mirror.example", "ftp://mirror.example/", "https://", "https://mir ror/", "https://a:99999/"],
    "apt_source": ["https://mirror.example/debian", "mirror.example noble main", ""],
    "public_key": ["3bf863cc.pub"],
    "certificate": ["tls.crt", "-----BEGIN CERTIFICATE-----\r\n", "-----BEGIN CERTIFICATE-----\x00"],
    "version": ["", " 1", "1 2", "-1", "1;2", '1"', "1\n"],
    "file_name": ["", "a/b", "../a", ".a", "a b", "a'"],
    "path": ["", "a", "/", "//a", "/a b", "/a/../b", "/a;b", "/a%b"],
    "image": ["", "/a", "a b", 'a"', "a;b", "$a"],
    "url_part": ["", "a b", 'a"', "a;b", "a\nb"],
    "words": ["", "a\nb", 'a"b', "a:b", " a"],
    "lines": ["a\rb", "a\x1b[2Jb", "a\u2028b", "a\u202eb", "a\x85b"],
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_distinguishes_right_values_from_wrong_ones(name: str) -> None:
    wrong = [text for text in WRONG[name] if FORMATS[name].problem(text) is None]
    right = [text for text in RIGHT[name] if FORMATS[name].problem(text) is not None]

    assert (wrong, right) == ([], [])


def test_a_message_names_the_nearest_value() -> None:
    assert str(FORMATS["time_zone"].problem("Europe/Zuerich")) == (
        "got 'Europe/Zuerich'; a current name in the tz database, which every system has. Write Europe/Zurich."
    )


@pytest.mark.parametrize(("old", "new"), [("US/Eastern", "America/New_York"), ("Europe/Kiev", "Europe/Kyiv")])
def test_an_old_time_zone_is_refused_with_its_current_name(old: str, new: str) -> None:
    """Debian 13 and Ubuntu 24.04 have the old names only with the package tzdata-legacy."""
    assert str(FORMATS["time_zone"].problem(old)).endswith(f"Write {new}.")
    assert FORMATS["time_zone"].problem(new) is None


def test_a_message_does_not_show_the_whole_of_a_long_value() -> None:
    assert "secret" not in str(FORMATS["certificate"].problem("-----BEGIN PRIVATE KEY-----\n" + "secret" * 9))


def test_problems_have_the_keys_of_lists_and_mappings() -> None:
    settings = {"a": [{"b": ["ok", "No"]}, {"b": {"secret": "name"}}], "c": {"x": {"d": "NO"}, "y": {}}, "e": {"F": 1}}

    found = problems({"a.b": "package", "c.*.d": "package", "e": "package"}, settings)

    assert [problem.path for problem in found] == [("a", 0, "b", 1), ("c", "x", "d"), ("e", "F")]


@pytest.mark.parametrize("role", ROLES)
def test_each_format_of_a_role_is_one_of_a_variable(role: str) -> None:
    source = ROLES[role]

    assert {*source.formats.values()} <= FORMATS.keys()
    assert {f"{role}_{path.split('.')[0]}" for path in source.formats} <= source.options.keys()
    assert {f"{role}_{path.split('.')[0]}" for path in source.secret_lengths} <= source.options.keys()
    assert {f"{role}_{path.split('.')[0]}" for path in source.secret_forms} <= source.options.keys()
    assert {*source.secret_forms.values()} <= FORMS.keys()


ANY_TEXT = {
    "alertmanager": {"key"},
    "journal_receiver": {"key"},
    "journal_sender": {"key"},
    "kubernetes_control_plane": {"encryption_key", "snapshot_key"},
    "metrics_proxy": {"key"},
    "mlflow": {"admin.password", "users.password"},
    "quarantine_reader": {"key"},
    "quarantine_receiver": {"key"},
    "object_store": {"accounts.key", "internal_key"},
    "postgresql": {"databases.password"},
    "prometheus": {"key"},
    "registry": {"accounts.password"},
}
"""Secrets of roles that random text may be."""


@pytest.mark.parametrize("role", ROLES)
def test_each_secret_of_a_role_is_any_text_or_has_a_form(role: str) -> None:
    secrets = {path for path, reason in WITHOUT_FORMAT.get(role, {}).items() if reason == SECRET}

    assert secrets - ANY_TEXT.get(role, set()) == ROLES[role].secret_forms.keys()


SECRET, REFUSED = "a secret, which a file of its own has", "its role refuses other texts in meta/claims.yml"
WITHOUT_FORMAT: dict[str, dict[str, str]] = {
    "alertmanager": {
        **dict.fromkeys(("receivers.name", "receivers.email.to", "receivers.email.from"), REFUSED),
        **dict.fromkeys(("receivers.email.server", "routes.receiver"), REFUSED),
        "receivers.email.user": "any text, which its file has as a string of JSON",
        **dict.fromkeys(("receivers.url", "receivers.email.password", "heartbeat", "key"), SECRET),
    },
    "access": {
        **dict.fromkeys(
            ("people.name", "people.factor", "automation.user", "break_glass.user", "workload", "bootstrap_user"),
            REFUSED,
        ),
        **dict.fromkeys(("people.keys", "ca_keys", "bootstrap_keys"), "lines of keys, whose form the role checks"),
        **dict.fromkeys(("automation.principals", "people.shell", "totp_issuer"), REFUSED),
        "revoked": "keys and certificates, which a program packs into a file that is not text",
    },
    "ascend": dict.fromkeys(("driver.sha256", "firmware.sha256", "toolkit.sha256"), REFUSED),
    "base": {"ntp_keys.key": SECRET, "ntp_keys.servers": REFUSED, "kernel_parameters": REFUSED},
    "container_runtime": {"devices": REFUSED, "registries.name": REFUSED, "registries.account.password": SECRET},
    "cuda": {"versions": REFUSED, "default": REFUSED},
    "health_exporter": dict.fromkeys(("services.service", "services.path", "services.certificate"), REFUSED),
    "journal_receiver": {"data": REFUSED, "key": SECRET},
    "journal_sender": {"key": SECRET},
    "quarantine_reader": {"key": SECRET, **dict.fromkeys(("receiver", "hosts", "members"), REFUSED)},
    "quarantine_receiver": {"key": SECRET, "hosts": REFUSED},
    "kubernetes_control_plane": {"encryption_key": SECRET, "snapshot_key": SECRET, "snapshot_directory": REFUSED},
    "kubernetes_node": dict.fromkeys(
        ("teams.name", "teams.first", "teams.last", "teams.networks"), "rackwright itself computes it from the cluster"
    ),
    "load_balancer": {"services": REFUSED, "key": SECRET},
    "metrics_proxy": {"exporters": REFUSED, "key": SECRET},
    "mlflow": {
        **dict.fromkeys(("admin.name", "users.name", "artifacts", "postgresql.name", "postgresql.account"), REFUSED),
        **dict.fromkeys(("admin.password", "users.password", "database", "postgresql.password", "key"), SECRET),
    },
    "node_exporter": dict.fromkeys(("collectors", "socket", "textfiles"), REFUSED),
    "object_store": {
        **dict.fromkeys(("data", "accounts.name"), REFUSED),
        **dict.fromkeys(("accounts.key", "key", "internal_key"), SECRET),
    },
    "postgresql": {
        **dict.fromkeys(("data", "backup_directory", "databases.name", "databases.account"), REFUSED),
        **dict.fromkeys(("databases.password", "key"), SECRET),
    },
    "prometheus": {
        **dict.fromkeys(("data", "targets.job", "targets.instance", "targets.path", "rules"), REFUSED),
        "key": SECRET,
    },
    "registry": {
        **dict.fromkeys(("data", "accounts.name", "collect"), REFUSED),
        **dict.fromkeys(("accounts.password", "key"), SECRET),
    },
    "scheduled_audit": {**dict.fromkeys(("stacks", "directory", "program", "time"), REFUSED), "key": SECRET},
    "virtual_address": {"interface": REFUSED},
}
"""Every option with a free text that has no format, and why."""


def text_options(options: dict[str, Any], before: str) -> Iterator[str]:
    """Yield the path of each option with texts that have no list of choices."""
    for name, option in options.items():
        path = f"{before}{name}"
        texts = {option.get("type", "str"), option.get("elements", "")} & {"str", "dict", "raw"}
        if option.get("options"):
            yield from text_options(option["options"], f"{path}.")
        elif texts and not option.get("choices") and not (option.get("type") == "list" and not texts):
            yield path


@pytest.mark.parametrize("role", ROLES)
def test_each_text_of_a_role_has_a_format(role: str) -> None:
    """
    A text without a format accepts quotes, blanks and whatever else a file could read as its own.
    """
    source = ROLES[role]
    options = {name.removeprefix(f"{role}_"): option for name, option in source.options.items()}
    formatted = {path.replace(".*", "") for path in source.formats}
    without = {path for path in text_options(options, "") if not {path, *_above(path)} & formatted}

    assert without == {path for path in WITHOUT_FORMAT.get(role, {}) if path not in formatted}
    assert WITHOUT_FORMAT.get(role, {}).keys() & formatted == set()


def _above(path: str) -> Iterator[str]:
    yield path.rpartition(".")[0]


@pytest.mark.parametrize(
    ("role", "variables", "message"),
    [
        ("base", {"timezone": "Zurich"}, "timezone: got 'Zurich'; a current name in the tz database"),
        ("base", {"locale": "xx_YY.UTF-8"}, "locale: got 'xx_YY.UTF-8'; a locale of glibc in UTF-8"),
        ("base", {"packages": ["Htop"]}, "packages.0: got 'Htop'; a package's name"),
        ("access", {"control_addresses": ["1.2.3.4\nx"]}, "control_addresses.0: got the character U+000A in '1.2"),
        ("node_exporter", {"address": "gpu-01"}, "address: got 'gpu-01'; one IP address of the host"),
        ("mlflow", {"address": "0.0.0.0"}, "address: got '0.0.0.0'; one IP address of the host"),
        ("load_balancer", {"services": {"a": {"port": 8080, "members": ["b:80"]}}}, "services.a.members.0: got 'b:80'"),
        ("nvidia_driver", {"repository_key": "mQ=="}, "repository_key: got 'mQ=='; a public key, which"),
        ("cuda", {"repository_key": "3bf863cc.pub"}, "repository_key: got '3bf863cc.pub'; a public key, which"),
    ],
)
def test_a_value_of_a_wrong_format_is_a_problem_of_its_role(role: str, variables: dict[str, Any], message: str) -> None:
    [problem] = ROLES[role].problems("debian-12", variables)

    assert f"{'.'.join(map(str, problem.path))}: {problem}".startswith(message)


def test_a_message_has_only_the_beginning_of_a_long_value():
    """
    It may be a key in the place of a number or of a choice.
    """
    key = "-----BEGIN PRIVATE KEY-----" + "x" * 40
    options = {"port": {"type": "int"}, "mode": {"choices": ["a"]}}

    found = [each.diagnostic.problem for each in variables.problems(options, {"port": key, "mode": key})]

    assert found == ["got '-----BEGIN PRIVATE K'…"] * 2
