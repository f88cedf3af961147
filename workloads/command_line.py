"""The argument parser that all commands of the workloads share."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter


def new_parser(module: str, text: str | None, epilog: str | None = None) -> ArgumentParser:
    """Return the parser of ``python -m MODULE``, with *text* unchanged as its help and without abbreviated options."""
    return ArgumentParser(
        prog=f"python -m {module}",
        description=text,
        epilog=epilog,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
