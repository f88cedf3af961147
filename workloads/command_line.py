"""What all commands of the workloads are alike in."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter


def new_parser(module: str, text: str | None, epilog: str | None = None) -> ArgumentParser:
    """Return the parser of ``python -m MODULE``, whose help has *text* as it stands; nothing of it can be shortened."""
    return ArgumentParser(
        prog=f"python -m {module}",
        description=text,
        epilog=epilog,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
