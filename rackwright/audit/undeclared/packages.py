"""Rules about the database of packages, and about packaged files that are gone or that programs can no longer use."""

from collections.abc import Iterator

from rackwright.audit.undeclared.declaration import HostDeclaration
from rackwright.audit.undeclared.generated import PRIVILEGES, USUAL_RIGHTS
from rackwright.audit.undeclared.integrity import rows
from rackwright.audit.undeclared.remedies import undo_diversion
from rackwright.audit.undeclared.rule import ADMIT, Finding, Rule
from rackwright.errors import command
from rackwright.facts.facts import Facts

OF_DEBCONF = ("/etc/debuginfod/elfutils.urls",)
"""Configuration files that a package removes or makes by the answer to a question of debconf."""
CHOICES = "/etc/alternatives/"
MANY = 20
"""Number of missing files of a package from which they are one finding."""


def lost_rights(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the packaged files that accounts can no longer read, and the programs that no account can run."""
    for path, row in rows(facts):
        if not row.has_lost_rights or (row.mode, row.owner) == USUAL_RIGHTS.get(path) or declared.is_of_image(path):
            continue
        sort = "file" if row.has("digest") else "directory"
        if "mode" not in declared.wants.get(f"{sort}:{path}", {}):
            yield Finding(f"{sort}:{path}", f"mode {row.mode}, owner {row.owner}: fewer rights than packages give")


def database(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the files of dpkg's database that a person changed, and the packages in the middle of a change."""
    found = facts.package_database
    for path, reason in found.altered_files.items():
        yield Finding(f"file:{path}", reason)
    for name, state in found.odd_states.items():
        remedy = "Run `dpkg --configure --pending`, then `apt-get install --fix-broken`, and look at `dpkg --audit`"
        yield Finding(f"package:{name}", f"its state is {state}", remedy=remedy)


def choices(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the diversions, the rights of files and the choices of programs that a person made."""
    found = facts.package_database
    for each in found.diversions:
        if not (declared.declares_path(each.path) or declared.declares_path(each.to)):
            remedy = f"{undo_diversion(each.path)}; {ADMIT}"
            yield Finding(f"diversion:{each.path}", f"moved to {each.to} by {each.by}", remedy=remedy)
    for path, rights in found.rights.items():
        is_known = (rights.mode, rights.owner) == PRIVILEGES.get(path)
        wants = {**declared.wants.get(f"file:{path}", {}), **declared.wants.get(f"directory:{path}", {})}
        if not is_known and "mode" not in wants:
            remedy = f"Run {command('dpkg-statoverride --remove {}', path)}, then install the package again; {ADMIT}"
            yield Finding(f"statoverride:{path}", f"mode {rights.mode}, owner {rights.owner}", remedy=remedy)
    for name, choice in found.choices.items():
        if not declared.declares_path(f"{CHOICES}{name}"):
            target = choice.target or "nothing"
            yield Finding(f"alternative:{name}", f"{target} in {choice.mode} mode, and the best one is {choice.best}")


def missing(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the packaged files and configuration files that are not there."""
    by_package: dict[str, list[str]] = {}
    for path, row in rows(facts, "missing"):
        if not declared.declares_path(path):
            by_package.setdefault(row.package, []).append(path)
    for package, paths in by_package.items():
        if len(paths) > MANY:
            yield Finding(f"package:{package}", f"{len(paths)} of its files are missing, such as {paths[0]}")
        else:
            yield from (Finding(f"file:{path}", f"it is missing, and package {package} has it") for path in paths)
    for path, state in facts.changed_conffiles.items():
        if state == "missing" and path not in OF_DEBCONF and not declared.declares_path(path):
            remedy = (
                "Run `apt-get install --reinstall -o Dpkg::Options::=--force-confmiss` for the package that "
                f"`dpkg --search` names, {ADMIT}"
            )
            yield Finding(f"file:{path}", "a configuration file that is missing", remedy=remedy)


RULES = (
    Rule(
        "RW-097",
        "Packaged files have the rights with which programs read and run them.",
        "rights that programs need",
        "A service that cannot read its files or run its program fails at its next start, also after an upgrade.",
        f"Run `apt-get install --reinstall` for the package that `dpkg --search` names, {ADMIT}",
        "dpkg(1); Debian Policy 10.9",
        lost_rights,
        severity="error",
    ),
    Rule(
        "RW-098",
        "The files about packages are those that dpkg wrote at their installation.",
        "database of packages",
        "The scripts there run as root at the next upgrade, and the digests there decide which files have changed.",
        f"Remove nothing by hand: run `apt-get install --reinstall` for the package of the file, {ADMIT}",
        "dpkg-query(1); Debian Policy 6",
        database,
        severity="error",
    ),
    Rule(
        "RW-099",
        "Diversions, rights and choices of programs are those of packages and resources.",
        "choices of dpkg",
        "Another program or other rights take the place of the packaged ones, and stay there at each upgrade.",
        f"Run `update-alternatives --auto` for the name, {ADMIT}",
        "dpkg-divert(1); dpkg-statoverride(1); update-alternatives(1)",
        choices,
        severity="error",
    ),
    Rule(
        "RW-152",
        "All files of packages are there, their configuration files included.",
        "files that packages have",
        "A service works until its next start, or falls back to other settings without a word.",
        f"Run `apt-get install --reinstall` for the package that `dpkg --search` names, {ADMIT}",
        "dpkg(1), --verify; Debian Policy 10.7",
        missing,
        severity="error",
    ),
)
