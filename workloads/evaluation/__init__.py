"""Evaluation of a served language model on local data, as a gate of new models."""
