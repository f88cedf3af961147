"""Secrets in a role: what depends on one is found out, printed nowhere, and unknown where the value is."""

import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rackwright.core import diff as comparison
from rackwright.core.contract import PlayRole, UnknownValue
from rackwright.core.repository import Repository, RoleSource
from rackwright.core.wording import format_difference
from rackwright.errors import DeclarationError
from rackwright.facts.facts import Facts
from rackwright.kinds.role import RoleKind
from rackwright.kinds.role.promise import promises
from rackwright.kinds.role.refusals import refusals
from rackwright.kinds.shared.secrets import PLACEHOLDER, Redactor, UnknownSecret
from tests.support.role_spec import SPEC

KIND = RoleKind()
VALUE = "Tr0ub4dor&3"
SECRET = {"secret": "magic_word"}
TEMPLATES = {
    "toy/etc/constant.j2": "always the same\n",
    "toy/etc/whole.j2": "word={{ toy_word }}\n",
    "toy/etc/filtered.j2": "{{ (toy_word | upper)[-3:] }}\n",
    "toy/etc/condition.j2": "{% if '&' in toy_word %}with a sign{% else %}without{% endif %}\n",
    "toy/etc/there.j2": "{% if toy_word %}there is a word{% endif %}\n",
    "toy/etc/number.j2": "{{ toy_word | int(7) }} {{ toy_word | length }}\n",
    "toy/etc/deep.j2": "{% for user in toy_users if user.password is defined %}{{ user.password }}{% endfor %}\n",
    "toy/etc/deep_names.j2": "{{ toy_users | map(attribute='name') | join(',') }}\n",
}
UNKNOWN = "the value of the secret magic_word is not known here"


def repository(*claims: dict[str, object], known: bool = True) -> Repository:
    options = {"toy_word": {"type": "str"}, "toy_users": {"type": "list", "elements": "dict"}}
    defaults = {"toy_users": []}
    source = RoleSource("toy", defaults=defaults, options=options, by_os={"debian-12": {}}, claims=claims)
    return Repository(TEMPLATES, {"toy": source}, b"salt", {"magic_word": VALUE} if known else {})


SPEC_WITH = SPEC.model_copy(
    update={"variables": {"word": SECRET, "users": [{"name": "one", "password": SECRET}, {"name": "two"}]}}
)


def secret_of(repository: Repository) -> dict[str, set[str]]:
    """Return the secret properties by thing."""
    found: dict[str, set[str]] = {}
    for claim in KIND.claims(SPEC_WITH, repository):
        if claim.secret:
            found.setdefault(claim.thing, set()).update(claim.want)
    return found


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("name", "tainted"),
    [
        ("constant", False),
        ("whole", True),
        ("filtered", True),
        ("condition", True),
        ("there", False),
        ("number", True),
        ("deep", True),
        ("deep_names", False),
    ],
)
def test_a_file_is_secret_if_and_only_if_its_text_depends_on_one(name, tainted, known):
    """
    Whatever way the value takes into it; that there is a secret is none. Only the content is, mode and owner are not.
    """
    hidden = secret_of(repository({"file": f"/etc/{name}"}, known=known))

    assert hidden == ({f"file:/etc/{name}": {"content"}} if tainted else {})


@pytest.mark.parametrize("known", [True, False])
def test_what_is_promised_because_of_a_secret_is_wholly_secret(known):
    record = repository({"file": "/etc/constant", "when": "'&' in toy_word"}, {"file": "/etc/there"}, known=known)

    assert secret_of(record) == {"file:/etc/constant": {"content", "mode", "owner"}}


def test_what_is_not_promised_because_of_a_secret_is_unknown_only_where_that_is():
    entry = {"package": "cowsay", "when": "toy_word == 'another'"}

    assert secret_of(repository(entry)) == {}
    assert secret_of(repository(entry, known=False)) == {"package:cowsay": {"installed"}}


def test_a_claim_with_the_value_is_of_the_real_text_and_one_without_says_why():
    entry = {"file": "/etc/whole"}
    [known] = [claim for claim in KIND.claims(SPEC_WITH, repository(entry)) if claim.secret]
    [unknown] = [claim for claim in KIND.claims(SPEC_WITH, repository(entry, known=False)) if claim.secret]

    assert known.want == {"content": repository().digest(f"word={VALUE}\n")}
    assert unknown.want == {"content": UnknownValue(UNKNOWN)}


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"file": "/etc/{{ toy_word }}", "content": ""}, "file with file of a secret"),
        ({"file": "/etc/whole", "remedy": "say {{ toy_word }}"}, "file with content, remedy of a secret"),
        ({"sysctl": "vm.swappiness", "value": "{{ toy_word }}"}, "sysctl with value of a secret"),
        ({"package": "{{ item }}", "each": "{{ toy_word.split() }}"}, "a list of things that depends on a secret"),
    ],
)
def test_a_secret_stands_in_the_content_of_a_file_and_nowhere_else(entry, expected):
    with pytest.raises(DeclarationError, match=r"roles/toy/meta/claims\.yml, entry 1") as caught:
        KIND.claims(SPEC_WITH, repository(entry))

    assert expected in str(caught.value)
    assert VALUE not in str(caught.value)


@pytest.mark.parametrize("expression", ["toy_word | int / 0", "{}[toy_word]", "toy_word.nothing"])
def test_an_error_of_a_secret_value_is_reported_without_the_value(expression):
    with pytest.raises((DeclarationError, ZeroDivisionError)) as caught:
        KIND.claims(SPEC_WITH, repository({"file": "/etc/x", "content": f"{{{{ {expression} }}}}"}))

    assert VALUE not in str(caught.value)


def test_an_access_to_a_sealed_value_is_noticed():
    sealed = UnknownSecret()

    assert sealed
    for look in (str, repr, hash, lambda value: value == "x", lambda value: value != "x", "{}".format):
        with pytest.raises(UnknownSecret.SecretAccessed):
            look(sealed)


# --- plans


def planned(repository: Repository, content: str, wrote: tuple[str, ...] = ()):
    """Return the plan for a host whose files hold *content*; where it *wrote* some, all else is as promised."""
    raw = {
        "covers": {"files": ["/etc", "/var/lib/rackwright"]},
        "identity": {"serial": "S1"},
        "files": {
            f"/etc/{name}": {"digest": repository.digest(content), "mode": "0644", "owner": "root:root", "mtime_ns": 1}
            for name in ("whole", "constant")
        },
        "owners": {"role-toy": {"id": "alpha/toy", "fleet": "lab", "phase": "ready", "wrote": [*wrote]}}
        if wrote
        else {},
    }
    claims = KIND.claims(SPEC_WITH, repository)
    differences = comparison.diff(claims, KIND.observe(claims, Facts(raw)))
    return KIND.plan(SPEC_WITH, differences, Facts(raw), repository)


def test_a_plan_shows_no_text_of_a_secret_file_and_says_so():
    plan = planned(repository({"file": "/etc/whole"}, {"file": "/etc/constant"}), "old\n")

    assert list(plan.texts) == ["/etc/constant"]
    assert plan.notes == ("/etc/whole: the content is secret, and not shown",)
    [play] = [step for step in plan.steps if isinstance(step, PlayRole)]
    assert {file["path"]: file["secret"] for file in play.variables["toy_files"]} == {
        "/etc/whole": True,
        "/etc/constant": False,
    }
    assert play.variables["toy_word"] == VALUE
    assert VALUE not in repr(plan) and base64.b64encode(f"word={VALUE}".encode()).decode()[:-2] not in repr(plan)


def test_a_role_is_not_played_without_the_value():
    """
    A stand-in must never reach a host.
    """
    plan = planned(repository({"file": "/etc/whole"}, {"file": "/etc/constant"}, known=False), "old\n")

    assert plan.steps == ()
    assert "the value of the secret magic_word is not known here" in str(plan.refusals[0])


def test_an_unknown_value_changes_nothing_if_the_rest_holds():
    plan = planned(repository({"file": "/etc/whole"}, known=False), "old\n", ("/etc/whole",))

    assert (plan.steps, plan.refusals) == ((), ())
    assert [format_difference(item) for item in plan.by_hand] == [
        f"file:/etc/whole.content cannot be known ({UNKNOWN})"
    ]


def test_rules_and_types_see_a_stand_in():
    source = RoleSource(
        "toy",
        options={"toy_word": {"type": "str"}, "toy_number": {"type": "int"}},
        by_os={"debian-12": {}},
        refusals=({"when": "true", "problem": "got {{ toy_word }}", "expected": "no", "help": "Do"},),
    )

    assert list(source.problems("debian-12", {"word": SECRET})) == []
    [problem] = source.problems("debian-12", {"number": SECRET})
    assert problem.path == ("number",) and "the secret magic_word" in problem.diagnostic.problem
    assert [found.diagnostic.problem for found in refusals(source, "debian-12", {"word": SECRET})] == [
        "got the secret magic_word"
    ]


def test_no_representation_of_a_house_or_a_promise_holds_a_value():
    record = repository({"file": "/etc/whole"})

    assert VALUE not in repr(record)
    assert VALUE not in repr(promises(SPEC_WITH, record).items)
    assert VALUE not in repr(replace(record, templates={}))


# --- the veil

TEXTS = st.text(st.characters(min_codepoint=33, max_codepoint=0x17F), min_size=8, max_size=24).filter(
    lambda text: text not in f"a{PLACEHOLDER}b {PLACEHOLDER!r}"  # that is what stands in its place
)
AROUND = st.binary(max_size=8)


@given(TEXTS, AROUND, AROUND)
def test_no_value_is_seen_through_the_veil(value, before, after):
    """
    As it is, in JSON, or in the base64 of anything that it stands in.
    """
    redactor = Redactor([value])
    coded = base64.b64encode(before + value.encode() + after).decode()
    inner = coded[(len(before) * 4 + 2) // 3 + 1 : (len(before) + len(value.encode())) * 4 // 3 - 1]

    assert value not in redactor(f"a{value}b {value!r}")
    assert inner not in redactor(coded)


def test_each_line_of_a_value_is_hidden():
    redactor = Redactor(["first-line\nsecond-line\n"])

    assert redactor("task: second-line failed; 'first-line second-line'") == "task: [secret] failed; '[secret]'"
    assert Redactor()("nothing to hide") == "nothing to hide"
