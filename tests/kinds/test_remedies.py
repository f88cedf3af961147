"""Advice to a person: each text was read against its case, and none erases what may bear data.

``remedies.txt`` has each text with the properties that it stands at. Where it differs from what the kinds say, read
each new text against each of its properties, then write it: ``python -m tests.kinds.test_remedies``.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import rackwright
from rackwright.audit.undeclared.remedies import REMEDIES
from rackwright.audit.undeclared.remedies import REMEDY_UNKNOWN as REMEDY_UNKNOWN_RULE
from rackwright.audit.undeclared.table import RULES
from rackwright.cli.app import app
from rackwright.core import diff
from rackwright.core.contract import REMEDY_UNKNOWN, Absent, UnknownValue
from tests.support.recorded_hosts import RESOURCES, STACK

READ = Path(__file__).with_name("remedies.txt")
FOUND = {"": "something else", " absent": Absent(), " unknown": UnknownValue("for a reason")}
FOLDERS = ("kinds", "provider", "hosts", "access")
"""Folders whose messages are about hosts. A help in other folders is about a text of the fleet."""
DESTROYS = re.compile(
    r"\b(wipe\b|wipefs (?!--no-act)|mkfs|zero-superblock|eras|destroy|format|dd if|remov|delet|flash|repair`"
    r"|luksHeaderRestore|(put|restore) (the|its) copy"
    r"|giv\w* (it|that|this|them) up|(take|taken|takes)\b[^;,.]*\bout\b|made? (it )?(anew|again))",
    re.IGNORECASE,
)
HARMLESS = {
    "take its resources out of the fleet first": "the plan of their removal names what it destroys, and needs consents",
    "remove its resources by an `up`": "the same",
    "take those lines out of the file": "lines of a text, which stand in the fleet by then",
    "compare the files with a copy before `repair` is written": "parity alone is written, and after the comparison",
    "only if that finds no header, restore the copy": "the copy is of the header that was noted, and none is there",
    "To lose this content, write under hosts": "the line is the consent to what was seen on a drive that is not in use",
    "Write `destroy: allowed` at the tier, run up, then remove it or destroy the stack": "its removal was asked for",
    "Declare it again, run up, then remove it or destroy the stack": "its removal was asked for",
    "look with `systemctl cat` who has put it there; remove it": "a drop-in: a text that is read first, and no data",
    "who has set it, and remove it, or declare it": "a route: it bears no data, and its owner is found first",
    "remove the keys that are not intended": "a public key: whose it is, is found first, and no data is lost",
    "or remove it from that file": "lines of a text, which stand in the fleet by then",
    "Remove it from that file": "a line of a text that a refusal names",
    "Remove `tpm2`": "an option of the fleet: the host keeps the key open, and the data stays",
    "Remove the cause on the host": "the cause of a fact that is unknown: a person finds it first",
    "remove the transformation or ignoreChanges": "lines of a program, whose value stands in the fleet by then",
    "remove `tpm2`": "an option of the fleet: the host keeps the key open, and the data stays",
    "remove `maintenance` from the fleet": "an option of the fleet",
    "was built again, remove": "a copy of verdicts on this computer, after a person has found out who changed them",
    "Remove the resource from the program": "a resource that this rackwright does not know, and so removes nothing of",
    "Drain the node there and delete it": "a drain moves pods, and ends where one would lose data",
    "remove it with `kubectl drain`": "who added it is found first, and a drain ends where a pod loses data",
    "then remove it with `kubectl delete`": "an object that gives rights or sets limits: it bears no data",
    "remove the public access in the server's own settings": "a right of strangers, and no data",
    "Write `destroy: allowed` at the bucket, run up, then remove it or destroy the stack": "its removal was asked for",
    "Restore it; or, if its data may be lost": "nothing of it was found on its host, and nothing is erased",
}
"""Texts that speak of losing something: why the case that they stand at allows that."""


def advice() -> dict[str, list[str]]:
    """Return each text with the properties at which a person reads it: sort of thing, property.

    Kinds that claim the same property with the same text are one case, such as the identity of a host.
    """
    texts: dict[str, set[str]] = {}
    for declared in RESOURCES.values():
        names = sorted({declared.spec.host, *re.findall(r'"serial":"([^"]+)"', declared.spec.model_dump_json())})
        for claim in declared.kind.claims(declared.spec, STACK.repository):
            for name in claim.want:
                for case, found in FOUND.items():
                    text = general(diff.remedy(claim, name, found), names)
                    if text and not (text == REMEDY_UNKNOWN and case == " unknown"):
                        texts.setdefault(text, set()).add(f"{claim.thing.partition(':')[0]}.{name}{case}")
    return {text: sorted(places) for text, places in sorted(texts.items())}


def general(text: str, names: list[str]) -> str:
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", "NAME", text)
    text = re.sub(r"profile [\w-]+", "profile PROFILE", text)
    text = re.sub(r"an MTU of \d+", "an MTU of MTU", text)
    text = re.sub(r"passes \d+-byte packets and \S+ answers", "passes MTU-byte packets and PEER answers", text)
    return re.sub(r"enrol` for \w+", "enrol` for NAME", text)


def table() -> str:
    return "\n".join(f"{text}\n" + "".join(f"    {place}\n" for place in places) for text, places in advice().items())


def test_each_text_was_read_against_its_properties():
    assert table() == READ.read_text(), __doc__


def test_for_what_is_unknown_the_advice_is_to_find_out():
    """
    What is unknown may be data that is alive.
    """
    texts = {
        diff.remedy(claim, name, FOUND[" unknown"])
        for declared in RESOURCES.values()
        for claim in declared.kind.claims(declared.spec, STACK.repository)
        for name in claim.want
    }

    assert texts - {""} and all(text.startswith("find out") for text in texts - {""})


def helps() -> Iterator[str]:
    """Yield the texts of the source that a diagnostic has as its help, the parts of a text joined."""
    for path in (path for folder in FOLDERS for path in (Path(rackwright.__file__).parent / folder).rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Diagnostic":
                for each in (*node.args[3:4], *(word.value for word in node.keywords if word.arg == "help")):
                    yield from literals(each)
            if isinstance(node, ast.Assign):
                yield from assigned_texts(node.targets[0], node.value)


def assigned_texts(target: ast.expr, value: ast.expr) -> Iterator[str]:
    """Yield the text of a variable ``help`` or ``line``, or of a constant."""
    match target, value:
        case ast.Tuple(elts=names), ast.Tuple(elts=values):
            for name, each in zip(names, values, strict=True):
                yield from assigned_texts(name, each)
        case ast.Name(id=name), _ if name in ("help", "line") or name.lstrip("_").isupper():
            yield from literals(value)


def literals(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=parts):
            yield "".join("".join(literals(part)) or "…" for part in parts)
        case ast.IfExp(body=body, orelse=orelse):
            yield from (*literals(body), *literals(orelse))


def sentences(text: str) -> bool:
    """Whether a person reads it: no shell text, pattern or name."""
    return " " in text and "\n" not in text and not text.startswith(("^", "[", "/"))


def test_no_text_destroys_unless_its_case_allows_it():
    """
    A new one is read against its case, and stands among HARMLESS with the reason.
    """
    kinds = [text for text in {*helps()} if sentences(text)]
    assert len(kinds) > 80
    destroys = [text for text in (*advice(), *kinds) if DESTROYS.search(text)]

    assert sorted(text for text in destroys if not any(part in text for part in HARMLESS)) == []
    assert [part for part in HARMLESS if not any(part in text for text in destroys)] == []


PROGRAMS = {
    "apparmor_parser", "apt-get", "apt-mark", "atrm", "augenrules", "blkid", "cat", "chage", "chattr", "chmod",
    "chown", "chronyc", "cp", "cryptsetup", "date", "depmod", "dkms", "docker", "dpkg", "dpkg-divert",
    "dpkg-reconfigure", "e2fsck", "exportfs", "findmnt", "fsfreeze", "gio-querymodules", "gpasswd", "grpck",
    "grub-editenv", "grub-install", "hostname", "hwclock", "ifup", "ip", "kmod", "kubeadm", "kubectl", "ldconfig",
    "loginctl",
    "lsblk", "mdadm", "mokutil", "netplan", "networkctl", "nft", "nvidia-ctk", "nvidia-smi", "pam-auth-update",
    "passwd", "pvs", "pwck", "rm", "setcap", "setfacl", "setupcon", "sysctl", "systemctl", "systemd-machine-id-setup",
    "systemd-sysext", "tc", "timedatectl", "update-alternatives", "update-ca-certificates", "update-grub",
    "update-initramfs", "userdel", "usermod", "vigr", "vipw", "visudo", "wipefs", "xfs_repair",
}  # fmt: skip
"""Programs in remedies of rules and claims. Those that change a host are applied by the line truth3[remedies]."""
DOES_NOT = {"visudo": ("-f",), "systemctl": ("remove",), "exportfs": ("-d",)}
"""Options with which a program does not do what a remedy says of it."""
KEYS = re.compile(r"[\w.]+: |^[\w./-]+$|Match ")
"""Texts in backticks that are lines, names or paths, and no commands."""


def parameters(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, list[Any]]]:
    """Yield the words of each command of the command line, with its parameters."""
    below = getattr(command, "commands", None)
    if below is None:
        yield " ".join(words), command.params
    for name, child in (below or {}).items():
        yield from parameters(child, (*words, name))


PARAMETERS = dict(parameters(typer.main.get_command(app)))


def problem_of(command: str) -> str:
    """Return why the command line does not take *command* of rackwright; empty for one that it takes.

    A remedy may leave out arguments, and has other words in their place: STACK, or … for a value.
    """
    words = [word for word in re.split(r" [<>|] ", command)[0].split()[1:] if word != "…"]
    if len(words) == 1 and any(name.startswith(f"{words[0]} ") for name in PARAMETERS):
        return ""  # all commands of a group
    name = next((" ".join(words[:count]) for count in (2, 1) if " ".join(words[:count]) in PARAMETERS), None)
    if name is None:
        return f"there is no {command}"
    rest = words[len(name.split()) :]
    options = {option: each for each in PARAMETERS[name] for option in (*each.opts, *each.secondary_opts)}
    arguments = sum(max(each.nargs, 1) for each in PARAMETERS[name] if each.param_type_name == "argument")
    is_endless = any(each.nargs < 0 for each in PARAMETERS[name])
    given = 0
    while rest:
        option, equals, _ = rest.pop(0).partition("=")
        if not option.startswith("-") or option == "-":
            given += 1
        elif option not in {**options, "--help": None}:
            return f"{name} has no option {option}"
        elif equals or option == "--help" or getattr(options[option], "is_flag", False):
            continue
        elif rest and rest.pop(0).startswith("-"):  # the last option may be named without its value
            return f"{name} {option} needs a value"
    return f"{name} takes {arguments} arguments" if given > arguments and not is_endless else ""


RULE_TEXTS = {id: rule.remedy for id, rule in RULES.items()}
FILE_TEXTS = {pattern: text.format(path="/etc/x", copy="/usr/share/x") for pattern, text in REMEDIES}
UNKNOWN_TEXTS = {id: rule.remedy_unknown or REMEDY_UNKNOWN_RULE for id, rule in RULES.items()}


def quoted() -> Iterator[tuple[str, str]]:
    """Yield each text in backticks of the remedies of rules and claims, with its remedy."""
    for text in (*RULE_TEXTS.values(), *FILE_TEXTS.values(), *UNKNOWN_TEXTS.values(), *advice()):
        yield from ((each, text) for each in re.findall(r"`([^`]+)`", text))


def test_each_command_of_a_remedy_is_one_that_exists_and_does_that():
    seen = set()
    for command, text in quoted():
        program, *words = command.split()
        if program == "rackwright":
            assert not problem_of(command), f"{problem_of(command)}: {text}"
        elif words and not KEYS.match(command):
            assert program in PROGRAMS, f"{command}: {text}"
            assert not {*words} & {*DOES_NOT.get(program, ())}, f"{command}: {text}"
        seen.add(program)

    assert len(seen & PROGRAMS) > 15, seen
    assert "visudo" in seen and not any("visudo -f" in text for text in RULE_TEXTS.values())


def own_commands() -> Iterator[tuple[str, str]]:
    """Yield each command of rackwright in a text of the source, with the file: the remedies of all messages."""
    root = Path(rackwright.__file__).parent
    for path in sorted(root.rglob("*.py")):
        if "data" in path.relative_to(root).parts[:1]:
            continue  # of an installed copy
        for node in ast.walk(ast.parse(path.read_text())):
            text = "".join(literals(node)) if isinstance(node, ast.JoinedStr | ast.Constant) else ""
            for each in re.findall(r"`(rackwright [^`]+)`", text):
                yield each, path.name


def test_each_command_in_a_message_is_taken_by_the_command_line():
    found = {*own_commands()}

    wrong = sorted(f"{file}: {problem}" for command, file in found if (problem := problem_of(command)))
    assert wrong == []
    assert len(found) > 60


@pytest.mark.parametrize(
    "command",
    [
        "rackwright audits STACK",
        "rackwright drive swap STACK",
        "rackwright audit STACK --snapshots DIR",
        "rackwright audit STACK --save --json",
        "rackwright drive replace STACK NAME OLD NEW MORE",
    ],
)
def test_a_wrong_command_of_a_remedy_is_found(command: str):
    assert problem_of(command)


@pytest.mark.parametrize(
    "command", ["rackwright up", "rackwright audit STACK --save DIR", "rackwright secret set STACK NAME < FILE"]
)
def test_a_right_command_of_a_remedy_is_taken(command: str):
    assert not problem_of(command)


if __name__ == "__main__":
    READ.write_text(table())
