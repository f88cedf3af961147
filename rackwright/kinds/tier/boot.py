"""The files that bring a tier back when its host starts: line for mdadm, rules for udev, mount unit."""

from collections.abc import Collection, Iterator

from rackwright.core.contract import Claim, Command, OneOf, Put, Remove, Step, Want
from rackwright.core.repository import Repository
from rackwright.facts.facts import Facts
from rackwright.kinds.tier.spec import TierSpec


def conf_text(spec: TierSpec, repository: Repository) -> str:
    """Return the mdadm.conf.d file, the array's UUID as a reference."""
    return repository.render(
        "tier/etc/mdadm/mdadm.conf.d/tier.conf.j2",
        id=spec.id,
        name=spec.name,
        md_name=spec.array_key,
    )


def rule_text(spec: TierSpec, repository: Repository) -> str:
    """Return the udev rules, which set md's parameters when the host has started the array."""
    return repository.render(
        "tier/etc/udev/rules.d/tier.rules.j2",
        id=spec.id,
        md_name=spec.array_key,
        sync_speed_max_kib=spec.declared.sync_speed_max_kib,
    )


def unit_text(spec: TierSpec, repository: Repository) -> str:
    """Return the mount unit, the filesystem's UUID as a reference."""
    return repository.render(
        "tier/etc/systemd/system/tier.mount.j2",
        id=spec.id,
        carrier=spec.carrier,
        unlock=spec.declared.key and spec.unlock_unit,
        mount=spec.declared.mount,
        filesystem=spec.filesystem,
        options=spec.mount_options,
    )


def claims(spec: TierSpec, repository: Repository) -> Iterator[Claim]:
    file: dict[str, Want] = {"mode": "0644", "owner": "root:root"}
    conf: dict[str, Want] = {"content": conf_text(spec, repository), "initramfs": OneOf(("current", "none"))}
    yield Claim(f"file:{spec.conf_path}", file | conf)
    if spec.rule_path:
        yield Claim(f"file:{spec.rule_path}", file | {"content": repository.digest(rule_text(spec, repository))})
    yield Claim(f"unit:{spec.unit}", file | {"content": unit_text(spec, repository), "state": "enabled"})


def create_steps(spec: TierSpec, facts: Facts, repository: Repository) -> Iterator[Step]:
    """Yield the steps that write all of them."""
    yield from _conf_steps(spec, facts, repository)
    yield from _rule_steps(spec, repository)
    yield from _unit_steps(spec, repository)


def repair_steps(spec: TierSpec, facts: Facts, repository: Repository, things: Collection[str]) -> Iterator[Step]:
    """Yield the steps that write the files that differ.

    Args:
        things: Things of which a property differs.
    """
    if f"file:{spec.conf_path}" in things:
        yield from _conf_steps(spec, facts, repository)
    if f"file:{spec.rule_path}" in things:
        yield from _rule_steps(spec, repository)
    if f"unit:{spec.unit}" in things:
        yield from _unit_steps(spec, repository)


def mount_step(spec: TierSpec) -> Command:
    return Command(f"mount {spec.declared.mount}", ("systemctl", "start", spec.unit))


def unmount_steps(spec: TierSpec, facts: Facts) -> Iterator[Step]:
    """Yield the steps that unmount the tier for good."""
    if facts.file(spec.unit_path):
        yield Command(f"unmount {spec.declared.mount}", ("systemctl", "disable", "--quiet", "--now", spec.unit))
        yield Remove(f"remove {spec.unit_path}", spec.unit_path)
        yield Command("reload systemd", ("systemctl", "daemon-reload"))


def remove_steps(spec: TierSpec, facts: Facts) -> Iterator[Step]:
    """Yield the steps that remove the other files, once there is no array any more."""
    if spec.rule_path and facts.file(spec.rule_path):
        yield Remove(f"remove {spec.rule_path}", spec.rule_path)
    if facts.file(spec.conf_path):
        yield Remove(f"remove {spec.conf_path}", spec.conf_path)
        if tuple(facts.initramfs_times()):
            yield Command("take it out of the initramfs", ("update-initramfs", "-u", "-k", "all"))


def _conf_steps(spec: TierSpec, facts: Facts, repository: Repository) -> Iterator[Step]:
    yield Put(f"write {spec.conf_path}", spec.conf_path, conf_text(spec, repository))
    if tuple(facts.initramfs_times()):
        yield Command("put it into the initramfs", ("update-initramfs", "-u", "-k", "all"))


def _rule_steps(spec: TierSpec, repository: Repository) -> Iterator[Step]:
    if spec.rule_path:
        yield Put(f"write {spec.rule_path}", spec.rule_path, rule_text(spec, repository))


def _unit_steps(spec: TierSpec, repository: Repository) -> Iterator[Step]:
    yield Put(f"write {spec.unit_path}", spec.unit_path, unit_text(spec, repository))
    yield Command("reload systemd", ("systemctl", "daemon-reload"))
    yield Command(f"enable {spec.unit}", ("systemctl", "enable", "--quiet", spec.unit))
