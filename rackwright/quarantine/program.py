"""The programs of roles quarantine_receiver and quarantine_reader, each as one file of a host."""

from importlib.resources import files

PATH = "/usr/local/sbin/rackwright-quarantine"
"""Path at which role quarantine_receiver installs the program."""


def verdict_receiver_program() -> str:
    """Return the text of the program that signs verdicts, with its module unchanged."""
    return _program("receiver")


def verdict_reader_program() -> str:
    """Return the text of the program that reads verdicts on each host, with its module unchanged."""
    return _program("reader")


def _program(module: str) -> str:
    text = files("rackwright.quarantine.onhost").joinpath(f"{module}.py").read_text()
    return "#!/usr/bin/python3 -ISXutf8\n" + text
