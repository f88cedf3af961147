"""No text of a fleet and no secret runs as a template of Ansible on the operator's computer."""

from pathlib import Path

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.planted import TEXTS, planted_variables, play, role_options, shapes, written

BATCH = 250
"""Hosts in one run of Ansible."""


@line("hardening2", 1, "options")
def test_no_option_of_any_role_runs_a_planted_program(log: Log, tmp_path: Path) -> str:
    """Ansible rendered every variable of a role before it connected to a host, and ran what stood in it."""
    cases, ran, roles = 0, [], role_options()
    for role, paths in roles.items():
        planted = planted_variables(role, [*paths, (f"{role}_files",)], 1, tmp_path)
        log(f"{role}: {len(paths)} options, {len(planted)} hosts")
        for begin in range(0, len(planted), BATCH):
            failures = play(role, planted[begin : begin + BATCH])
            need(len(failures) == len(planted[begin : begin + BATCH]), f"{role} was not played on all hosts")
            log.write(next(iter(failures.values())))
        cases += len(planted)
        ran += [f"{role}: {each}" for each in written(tmp_path, planted)]
    need(cases > 0, "no option was tried")
    need(not ran, f"{len(ran)} of {cases} planted programs ran: {', '.join(ran[:5])} …")
    figure = f"{cases} planted programs in {sum(map(len, roles.values()))} options of {len(roles)} roles"
    return f"{figure}, {len(TEXTS)} forms and {len(shapes(''))} shapes: none ran"
