"""The program of role quarantine_receiver, as one file on the monitoring host."""

from importlib.resources import files

PATH = "/usr/local/sbin/rackwright-quarantine"
"""Path at which role quarantine_receiver installs the program."""


def verdict_receiver_program() -> str:
    """Return the text of the program that signs verdicts, with its module unchanged."""
    return "#!/usr/bin/python3 -ISXutf8\n" + files("rackwright.quarantine.onhost").joinpath("receiver.py").read_text()
