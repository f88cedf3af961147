"""Printed diagnostics, as one sentence each for comparison."""

import re


def sentences(printed: str) -> str:
    """Return *printed* with each diagnostic on one line, as ``str()`` of it gives it, without its severity and id.

    Pulumi indents the lines.
    """
    text = re.sub(r"^\[\d+\]<std(err|out)>:", "", printed, flags=re.M)  # Horovod's launcher names the process
    text = re.sub(r"^( *)error(\[[a-z-]+\])?: ", "", text, flags=re.M)
    text = re.sub(r"^( *)\[[a-z-]+\] ", r"\1", text, flags=re.M)
    text = re.sub(r"\n +help: +([^\n]*)", r". \1.", text)
    return re.sub(r"\n +(?:expected|note): +", "; ", text)
