"""Where a role's promises are found in the facts."""

import math

from rackwright.facts.facts import Facts, NotKnown
from rackwright.kinds import observing
from rackwright.kinds.contract import Absent, Between, Claim, Unknown, Value


def look(facts: Facts, sort: str, key: str, name: str, claim: Claim) -> Value:
    match sort:
        case "host":
            return observing.identity(facts, name)
        case "file":
            return observing.file(facts, key, name)
        case "directory":
            return _directory(facts, key, name)
        case "package":
            return observing.package(facts, key, name)
        case "unit":
            return observing.unit(facts, key, name)
        case "sysctl":
            value = facts.sysctl(key)
            return Absent() if value is None else value
        case "module":
            return facts.module(key)
        case "kernel_parameter":
            return key in facts.kernel_parameters
        case "user":
            return _user(facts, key, name)
        case "group":
            group = facts.group(key)
            return group is not None if name == "present" else Absent() if group is None else group.members
        case "socket":
            protocol, _, port = key.partition(":")
            return any((found.protocol, found.port) == (protocol, int(port)) for found in facts.sockets)
        case "hostname":
            return facts.identity.hostname
        case "measure":
            return _measure(facts, key, claim)
        case "mount-option":
            return _mount_option(facts, key)
        case _:
            return observing.owner(facts, key, name)


def _directory(facts: Facts, path: str, name: str) -> Value:
    if name == "names":
        names = facts.listing(path)
        return Absent() if names is None else names
    directory = facts.directory(path)
    return Absent() if directory is None else directory.mode if name == "mode" else directory.owner


def _user(facts: Facts, key: str, name: str) -> Value:
    user = facts.user(key)
    if name == "present":
        return user is not None
    if user is None:
        return Absent()
    match name:
        case "groups":
            return user.groups
        case "shell":
            return user.shell
        case "home":
            return user.home
        case _:
            return user.password


def _measure(facts: Facts, key: str, claim: Claim) -> Value:
    """Return the figure in steps of its bound: a state must not change with every look."""
    bound = claim.want["value"]
    if isinstance(bound, Unknown):
        raise NotKnown(bound.reason)
    assert isinstance(bound, Between) and bound.high is not None
    return math.ceil(facts.measure(key) / bound.high) * bound.high or bound.high


def _mount_option(facts: Facts, key: str) -> Value:
    target, _, option = key.rpartition(":")
    mounts = [mount for mount in facts.mounts if mount.target == target]
    if not mounts:
        return Absent()
    if not mounts[-1].options:
        raise NotKnown(f"the mount at {target} shows no options")
    return option in mounts[-1].options
