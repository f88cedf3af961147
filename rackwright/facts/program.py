"""The probe as one file that stays on a host: for whoever may look at everything there and change nothing."""

from functools import cache

from rackwright.facts import probe
from rackwright.facts.facts import FORMAT

PATH = "/usr/local/sbin/rackwright-probe"
"""Where role access puts it, and what its auditors may run as root, without arguments."""
_HEAD = '''\
#!/usr/bin/python3 -ISXutf8
"""Prints what this host is, and changes nothing: the probe of rackwright, which `rackwright audit` sends otherwise.

Written by rackwright, and put back when it is changed. It takes no arguments. On standard input it takes the key of the
digests that it prints, as 2 to 64 hex digits, and nothing else.
"""
import re, sys, types

if len(sys.argv) > 1:
    sys.exit("the probe takes no arguments")
salt = sys.stdin.read(80).strip()
if not re.fullmatch("([0-9A-Fa-f]{2}){1,32}", salt):
    sys.exit("the probe takes a key of 2 to 64 hex digits on standard input")

MODULES = {
'''
_TAIL = f"""\
}}

sys.modules["rackwright.facts.probe"] = types.ModuleType("rackwright.facts.probe")
for name, source in MODULES.items():
    module = sys.modules[name] = types.ModuleType(name)
    setattr(sys.modules["rackwright.facts.probe"], name.split(".")[-1], module)
    exec(compile(source, name, "exec"), module.__dict__)
module.main({{"format": {FORMAT}, "salt": salt}})
"""


@cache
def program() -> str:
    """Return the text of the program. Its modules stand in it as they are here, to be read by who runs it as root."""
    return _HEAD + "".join(f"{name!r}: {_literal(source)},\n" for name, source in probe.modules()) + _TAIL


def stdin(salt: bytes) -> bytes:
    """Return what the program reads; *salt* keys the digests of files."""
    return salt.hex().encode() + b"\n"


def _literal(source: str) -> str:
    """Return *source* as a literal of Python's: readable where it can be."""
    return f"r'''{source}'''" if "'''" not in source and not source.endswith(("\\", "'")) else repr(source)
