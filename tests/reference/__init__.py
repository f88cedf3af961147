"""The reference of docs/reference, made from the code. `python -m tests.reference` writes the pages."""
