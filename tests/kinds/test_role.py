"""A role's promises: what its claims say, how they are found, and the plan between the two."""

import base64
import json
from collections import Counter
from dataclasses import replace

import jinja2
import pytest

from rackwright.core import diff as comparison
from rackwright.core.contract import Absent, Claim, Command, LogIn, PlayRole, Put, Reboot
from rackwright.core.repository import Repository, RoleSource
from rackwright.errors import DeclarationError
from rackwright.facts.facts import Facts
from rackwright.kinds.role import RoleKind
from rackwright.kinds.role.promise import promises
from rackwright.kinds.role.spec import RoleSpec
from rackwright.kinds.shared.guard import LEASE_FILE
from tests.support.role_spec import CLAIMS, MOTD, REPOSITORY, SOURCE, SPEC, file, good

KIND = RoleKind()


def differences(raw: dict[str, object], spec: RoleSpec = SPEC):
    claims = KIND.claims(spec, REPOSITORY)
    return comparison.diff(claims, KIND.observe(claims, Facts(raw)))


def planned(raw: dict[str, object], spec: RoleSpec = SPEC, repository: Repository = REPOSITORY):
    claims = KIND.claims(spec, repository)
    found = comparison.diff(claims, KIND.observe(claims, Facts(raw)))
    return KIND.plan(spec, found, Facts(raw), repository)


def with_variables(**variables: object) -> RoleSpec:
    return SPEC.model_copy(update={"variables": variables})


def test_each_text_of_a_role_is_compiled_once_for_all_hosts_and_secrets(monkeypatch):
    compiled = Counter[str]()
    parser = jinja2.environment.Parser

    def count(environment: jinja2.Environment, text: str, *more: str | None, **named: str) -> jinja2.parser.Parser:
        compiled[text] += 1
        return parser(environment, text, *more, **named)

    monkeypatch.setattr(jinja2.environment, "Parser", count)
    source = replace(SOURCE, claims=(*CLAIMS, {"absent": "/etc/toy.{{ host.name }}"}))
    repository = Repository({**REPOSITORY.templates, "toy/of_this_test.j2": ""}, {"toy": source}, b"salt")

    for name in ("alpha", "beta"):
        for known in (repository, replace(repository, secrets={"key": "value"})):
            KIND.claims(with_variables(issue=name), known)

    assert compiled["/etc/toy.{{ host.name }}"] == compiled["toy_packages"] == 1
    assert set(compiled.values()) == {1}


def test_a_host_as_promised_differs_in_nothing_and_needs_no_step():
    assert differences(good()) == ()
    assert planned(good()).steps == ()


@pytest.mark.parametrize(
    ("change", "paths"),
    [
        (lambda raw: raw["files"].__setitem__("/etc/motd", file("other\n", "0640")), "file:/etc/motd.content"),
        (lambda raw: raw["files"].__setitem__("/etc/motd", file(MOTD)), "file:/etc/motd.mode"),
        (lambda raw: raw["packages"].clear(), "package:cowsay.installed package:cowsay.held"),
        (lambda raw: raw["held"].clear(), "package:cowsay.held"),
        (lambda raw: raw["units"]["toyd.service"].update(enabled="masked"), "unit:toyd.service.state"),
        (lambda raw: raw["units"]["toyd.service"].update(active="failed"), "unit:toyd.service.active"),
        (lambda raw: raw["files"].__setitem__("/etc/toy.d/stranger", file("")), "directory:/etc/toy.d.names"),
        (lambda raw: raw["files"].__setitem__("/etc/toy.old", file("")), "file:/etc/toy.old.present"),
        (lambda raw: raw["sysctls"].update({"vm.swappiness": "60"}), "sysctl:vm.swappiness.value"),
        (lambda raw: raw["users"]["toy"].update(groups=["games", "root", "toy"]), "user:toy.groups"),
        (lambda raw: raw["users"]["toy"].update(password="none"), "user:toy.password"),
        (lambda raw: raw["sockets"].clear(), "socket:tcp:22.listening"),
        (lambda raw: raw["measures"].update({"chrony.offset_seconds": 0.07}), "measure:chrony.offset_seconds.value"),
    ],
)
def test_each_promise_is_found_broken_under_its_own_path(change, paths):
    raw = good()
    change(raw)

    assert [item.path for item in differences(raw)] == paths.split()


def test_a_figure_that_changes_by_itself_is_reported_in_steps_of_its_bound():
    claims = KIND.claims(SPEC, REPOSITORY)
    thing = "measure:chrony.offset_seconds"

    def fact(offset: float) -> object:
        return KIND.observe(claims, Facts({"measures": {"chrony.offset_seconds": offset}}))[thing]["value"]

    assert fact(0.001) == fact(0.0) == fact(0.05) == 0.05
    assert fact(0.051) == fact(0.1) == 0.1


def test_a_plan_writes_rendered_files_and_plays_the_role_once():
    raw = good()
    raw["owners"] = {}
    raw["files"]["/etc/motd"] = file("by hand\n")

    plan = planned(raw)

    keep, first, play, last = plan.steps
    assert isinstance(keep, Command) and keep.argv[-1] == "/etc/motd", "the earlier version is kept"
    assert isinstance(first, Put) and '"phase": "creating"' in first.content
    assert json.loads(first.content)["wrote"] == ["/etc/motd"], "a removal after a failed play restores it"
    assert isinstance(play, PlayRole) and play.role == "toy"
    [written] = play.variables["toy_files"]
    assert base64.b64decode(written["content"]).decode() == MOTD
    assert (written["path"], written["mode"], written["owner"], written["group"]) == (
        "/etc/motd",
        "0640",
        "root",
        "root",
    )
    assert play.variables["toy_service"] == "toyd.service"
    assert isinstance(last, Put) and '"phase": "ready"' in last.content
    assert plan.texts == {"/etc/motd": MOTD}


def test_what_was_kept_once_is_not_kept_again():
    raw = good()
    raw["sysctls"] = {"vm.swappiness": "60"}

    assert [type(step) for step in planned(raw).steps] == [PlayRole]


def test_what_only_a_person_can_mend_plays_nothing():
    raw = good()
    raw["measures"] = {"chrony.offset_seconds": 3.0}

    plan = planned(raw)

    assert plan.steps == ()
    assert [item.path for item in plan.by_hand] == ["measure:chrony.offset_seconds.value"]


def test_what_is_not_known_plays_nothing():
    plan = planned({**good(), "sysctls": {"unknown": "no /proc"}})

    assert plan.steps == ()
    assert [item.path for item in plan.by_hand] == ["sysctl:vm.swappiness.value"]


def test_another_machine_and_another_owner_are_refused():
    assert "the machine has S2" in str(planned({**good(), "identity": {"serial": "S2"}}).refusals[0])
    theirs = {"role-toy": {"id": "alpha/toy", "fleet": "other", "phase": "ready"}}
    assert "belongs to alpha/toy in fleet other" in str(planned({**good(), "owners": theirs}).refusals[0])


def test_a_role_that_may_lock_out_is_played_between_a_timer_and_a_login():
    source = replace(SOURCE, guarded=True, reload=("ssh.service",))
    repository = Repository(REPOSITORY.templates, {"toy": source}, REPOSITORY.salt)
    raw = good()
    raw["sysctls"] = {"vm.swappiness": "60"}

    arm, play, log_in, confirm = planned(raw, repository=repository).steps

    assert "restores role-toy" in arm.text and arm.argv[-2:] == ("/etc/toy.d", "/etc/motd")
    assert "'ssh.service'" in arm.argv[-5]
    assert LEASE_FILE in arm.argv[-4], "it is not taken back while Ansible is still at it"
    assert arm.undo_after_seconds == 300
    assert isinstance(play, PlayRole) and isinstance(log_in, LogIn)
    assert confirm.text.startswith("stop the timer")


def test_removal_restores_what_stood_there_and_leaves_what_others_may_use():
    plan = KIND.removal(SPEC, Facts(good()), REPOSITORY, True)

    assert [type(step).__name__ for step in plan.steps] == ["Put", "Command", "Command", "Remove"]
    assert plan.steps[1].argv[-1] == "/etc/motd"
    assert "packages" in plan.notes[0]
    assert KIND.removal(SPEC, Facts({**good(), "owners": {}}), REPOSITORY, True).steps == ()


def test_removal_of_what_lets_people_in_leaves_it_as_it_is():
    source = replace(SOURCE, guarded=True)
    plan = KIND.removal(SPEC, Facts(good()), Repository(REPOSITORY.templates, {"toy": source}, REPOSITORY.salt), True)

    assert [step.text for step in plan.steps] == ["remove /var/lib/rackwright/owners/role-toy.json"]
    assert "stays on the host as it is" in plan.notes[0]


def test_conditions_and_lists_decide_what_is_promised():
    things = {claim.thing for claim in KIND.claims(with_variables(issue="hi", packages=["a", "b"]), REPOSITORY)}

    assert {"file:/etc/issue", "package:a", "package:b"} <= things
    assert "package:cowsay" not in things
    assert "file:/etc/issue" not in {claim.thing for claim in KIND.claims(SPEC, REPOSITORY)}


def test_names_are_worked_out_for_claims_and_the_internal_ones_given_to_tasks():
    """
    In their order; a task gets no name that is not written as a variable of its own.
    """
    source = replace(
        SOURCE,
        names={"first": "{{ toy_packages[0] }}", "__toy_all": "{{ [first, 'fortune'] }}"},
        claims=({"package": "{{ item }}", "each": "{{ __toy_all }}"},),
    )
    [step] = [
        step
        for step in planned(good(), repository=replace(REPOSITORY, roles={"toy": source})).steps
        if isinstance(step, PlayRole)
    ]

    assert step.variables["__toy_all"] == ["cowsay", "fortune"]
    assert "first" not in step.variables


def test_a_package_may_be_one_that_is_not_there():
    source = replace(SOURCE, claims=({"package": "fortune", "installed": False},))
    repository = replace(REPOSITORY, roles={"toy": source})
    there = {**good(), "packages": {"cowsay": "3.03", "fortune": "1.0"}}

    assert planned(good(), repository=repository).steps == ()
    assert [type(step) for step in planned(there, repository=repository).steps].count(PlayRole) == 1


def test_an_absent_user_is_absent_in_every_property():
    claims = KIND.claims(SPEC, REPOSITORY)
    found = KIND.observe(claims, Facts({**good(), "users": {"root": {}}}))

    assert set(found["user:toy"].values()) == {Absent()}


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"file": "/etc/x", "content": "{{ nobody }}"}, "'nobody' is undefined"),
        ({"file": "/etc/x", "content": "", "mod": "0644"}, "mod: Extra inputs are not permitted"),
        ({"file": "/etc/nothing"}, "toy/etc/nothing.j2"),
    ],
)
def test_a_wrong_entry_is_reported_with_its_place(entry, expected):
    repository = Repository(REPOSITORY.templates, {"toy": RoleSource("toy", by_os={"debian-12": {}}, claims=(entry,))})

    with pytest.raises(DeclarationError, match=r"roles/toy/meta/claims\.yml, entry 1") as caught:
        KIND.claims(SPEC, repository)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("given", "path", "expected"),
    [
        ({"isue": "x"}, ("isue",), "Write issue."),
        ({"level": "much"}, ("level",), "got 'much'; a whole number"),
        ({"mode": "slow"}, ("mode",), "got 'slow'; one of fast, safe"),
        ({"packages": {"a": 1}}, ("packages",), "got a mapping; a list"),
        ({"mode": "fast", "level": 1}, ("level",), "got mode and level; one of mode, level at most. Remove level"),
    ],
)
def test_wrong_variables_are_reported_by_the_roles_own_specification(given, path, expected):
    [problem] = SOURCE.problems("debian-12", given)

    assert problem.path == path
    assert expected in str(problem)


def test_a_system_that_the_role_does_not_know_is_refused_by_name():
    [problem] = SOURCE.problems("ubuntu-24.04", {})

    assert "ubuntu-24.04" in str(problem) and "debian-12" in str(problem)


# --- what only a restart makes hold

LATE = Repository(
    REPOSITORY.templates, {"toy": replace(SOURCE, claims=(*CLAIMS, {"kernel_parameter": "iommu=pt"}))}, REPOSITORY.salt
)
ALLOWED = SPEC.model_copy(update={"reboot": "allowed"})


def started(*words: str, boot_id: str = "first") -> dict[str, object]:
    return {**good(), "kernel_parameters": [*words], "boot_id": boot_id}


def after(raw: dict[str, object], plan) -> dict[str, object]:
    """Return *raw* with what the plan's last note says in the owner file."""
    notes = [step.content for step in plan.steps if isinstance(step, Put)]
    return {**raw, "owners": {"role-toy": json.loads(notes[-1])}}


def kinds(plan) -> list[type]:
    return [type(step) for step in plan.steps]


def test_one_property_of_a_thing_may_need_a_person_while_the_role_makes_the_others():
    """The preview of a container named the groups of a missing account as manual work, beside its password."""
    account = {"user": "glass", "groups": ["glass"]}
    password = {"user": "glass", "password": "set", "by_hand": True, "scope": "kernel"}
    source = replace(SOURCE, claims=(*CLAIMS, account, password))
    repository = replace(REPOSITORY, roles={"toy": source})
    raw = good()

    missing = planned(raw, repository=repository)
    assert [item.path for item in missing.by_hand] == ["user:glass.password"] and PlayRole in kinds(missing)

    made = {**raw["users"]["toy"], "groups": ["glass"], "password": "locked"}
    locked = planned({**raw, "users": {**raw["users"], "glass": made}}, repository=repository)
    assert [item.path for item in locked.by_hand] == ["user:glass.password"] and locked.steps == ()


def test_where_no_restart_is_allowed_all_is_prepared_and_the_rest_is_a_persons():
    raw = started("quiet")
    plan = planned(raw, repository=LATE)

    assert kinds(plan) == [PlayRole, Put]
    [left] = plan.by_hand
    assert left.path == "kernel_parameter:iommu=pt.present"
    assert "restart alpha at a good time, or write `reboot: allowed` there" in left.remedy
    assert planned(after(raw, plan), repository=LATE).steps == (), "nothing more can be done in this start"


def test_a_restart_that_did_not_help_means_to_prepare_it_again():
    raw = after(started("quiet"), planned(started("quiet"), repository=LATE))

    assert kinds(planned({**raw, "boot_id": "second"}, repository=LATE)) == [PlayRole, Put]


def test_where_it_is_allowed_it_comes_last():
    raw = started("quiet")
    plan = planned(raw, ALLOWED, LATE)

    assert kinds(plan) == [PlayRole, Put, Reboot]
    assert plan.by_hand == ()
    assert kinds(planned(after(raw, plan), ALLOWED, LATE)) == [Reboot], "it had failed; the rest is done"


@pytest.mark.parametrize("spec", [SPEC, ALLOWED])
def test_nothing_is_restarted_for_what_holds_or_cannot_be_known(spec):
    assert planned(started("quiet", "iommu=pt"), spec, LATE).steps == ()
    unknown = {**started(), "kernel_parameters": {"unknown": "it is gone"}}
    assert planned(unknown, spec, LATE).steps == ()


def test_nothing_is_restarted_for_what_needs_none():
    raw = started("iommu=pt")
    raw["files"]["/etc/motd"] = file("by hand\n")

    assert kinds(planned(raw, ALLOWED, LATE)) == [PlayRole]


def test_a_container_shows_nothing_that_takes_a_restart():
    claims = [{"unit": "toyd.service", "restart": True}]
    repository = Repository({}, {"toy": replace(SOURCE, claims=claims)}, REPOSITORY.salt)

    [claim] = [claim for claim in KIND.claims(SPEC, repository) if claim.thing.startswith("unit:")]
    assert claim.scope == "kernel"


def test_hosts_with_equal_variables_share_only_what_does_not_depend_on_the_host():
    """
    The second host gets the claims that it has alone, and most of its entries are those of the first.
    """
    claim = {"file": "/etc/own", "content": "{{ host.name }} {{ toy_text }}"}
    other = {"file": "/etc/shared", "content": "{{ host.os }} {{ toy_text }}"}
    whole = {"file": "/etc/whole", "content": "all of {{ host }}"}
    source = RoleSource("toy", by_os={SPEC.about.os: {}}, claims=(claim, other, whole))
    shared = Repository(REPOSITORY.templates, {"toy": source})
    specs = [
        SPEC.model_copy(
            update={
                "host": name,
                "role": "toy",
                "variables": {"text": "x"},
                "about": SPEC.about.model_copy(update={"name": name}),
            }
        )
        for name in ("one", "two")
    ]

    first, second = ([each.entry for each in promises(spec, shared).items] for spec in specs)
    alone = [each.entry for each in promises(specs[1], Repository(REPOSITORY.templates, {"toy": source})).items]

    assert second == alone
    assert [entry.content for entry in second][:2] == ["two x", f"{SPEC.about.os} x"]
    assert [one is two for one, two in zip(first, second, strict=True)] == [False, True, False]


def test_hosts_with_equal_variables_share_a_file_below_a_header_with_the_name_of_the_host():
    templates = {
        "toy/etc/a.j2": "# {{ host.name }}/toy: made\n{{ toy_text }} {{ host.os }}\n",
        "toy/etc/b.j2": "# {{ host.name }}/toy: made\n{% for one in 'ab' %}\n{{ one }} {{ host.name }}\n{% endfor %}\n",
        "toy/etc/c.j2": "# {{ host.name }}/toy: no header: {{ toy_text }}\n",
        "toy/etc/d.j2": "# {{ host.name }}/toy: made\n# alpha: {{ toy_text }}\n",
    }
    claims = tuple({"file": f"/etc/{name}"} for name in "abcd")
    source = RoleSource("toy", by_os={SPEC.about.os: {}}, claims=claims)
    specs = [
        with_variables(text="x").model_copy(
            update={"host": name, "role": "toy", "about": SPEC.about.model_copy(update={"name": name})}
        )
        for name in ("alpha", "beta", "alpha")
    ]
    shared = Repository(templates, {"toy": source}, b"salt")
    alone = [Repository(templates, {"toy": source}, b"salt") for _ in specs]

    for spec, own in zip(specs, alone, strict=True):
        entries = [each.entry for each in promises(spec, shared).items]
        assert entries == [each.entry for each in promises(spec, own).items]
        assert [each.content for each in entries] == [
            shared.render(f"toy/etc/{name}.j2", **promises(spec, own).variables, host=spec.about) for name in "abcd"
        ]
        assert KIND.claims(spec, shared) == KIND.claims(spec, own)
    [common] = shared.promises_cache.values()
    assert common.with_header.keys() == {1, 4}


UTC = "/usr/share/zoneinfo/Etc/UTC"


@pytest.mark.parametrize(
    ("target", "same_as", "is_same"),
    [
        (UTC, [UTC], True),
        ("../usr/share/zoneinfo/Etc/UTC", [UTC], True),
        ("/usr/share/zoneinfo/UTC", [UTC, "/usr/share/zoneinfo/UTC"], True),
        ("/usr/share/zoneinfo/Zulu", [UTC, "/usr/share/zoneinfo/Zulu"], True),
        ("/usr/share/zoneinfo/Europe/Oslo", ["/usr/share/zoneinfo/Europe/Oslo"], False),
        ("/usr/share/zoneinfo/UTC", None, False),
        ("/usr/share/zoneinfo/Etc/UTC, which does not exist", {"unknown": "no such file"}, False),
        ("/tmp/../usr/share/zoneinfo/Etc/UTC", None, True),
        ("/tmp/UTC", {"unknown": "no answer"}, None),
    ],
)
def test_a_link_to_the_same_file_by_another_path_is_no_difference(target, same_as, is_same):
    row = {"digest": f"-> {target}", "mode": "0777", "owner": "root:root"}
    more = {} if same_as is None else {"same_as": same_as}
    facts = Facts({"covers": {"files": ["/etc"]}, "files": {"/etc/localtime": {**row, **more}}, "directories": {}})
    claim = Claim("file:/etc/localtime", {"content": f"-> {UTC}"})

    found = comparison.diff((claim,), KIND.observe((claim,), facts))

    assert [each.is_unknown for each in found] == {True: [], False: [False], None: [True]}[is_same]
