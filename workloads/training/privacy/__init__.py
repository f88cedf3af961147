"""Training with differential privacy: its noise, its clipping, its accountant, and the ledger of a data set."""
