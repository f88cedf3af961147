"""Printed diagnostics, as one sentence each for comparison."""

import re


def sentences(printed: str) -> str:
    """Return *printed* with each diagnostic on one line, as ``str()`` of it gives it, without its severity."""
    text = re.sub(r"^error: ", "", printed, flags=re.M)
    text = re.sub(r"\n  help: +([^\n]*)", r". \1.", text)
    return re.sub(r"\n  (?:expected|note): +", "; ", text)
