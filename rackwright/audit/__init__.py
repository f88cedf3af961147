"""The audit: what is declared, set against what is there."""
