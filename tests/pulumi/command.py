"""The command line as its script starts it, for tests that send it signals."""

from rackwright.cli import main

main()
