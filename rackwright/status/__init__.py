"""The state of runs, servers, GPUs and registered models on the hosts of a stack."""
