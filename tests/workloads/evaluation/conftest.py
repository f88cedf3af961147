"""Tests of trained models take PyTorch: `make test` runs them with the environment of the workloads."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("torch") else ["test_trained.py"]
