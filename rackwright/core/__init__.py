"""Claims, their comparison, and what a kind must provide; no kind is known here."""
