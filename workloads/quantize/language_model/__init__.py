"""Quantising of language models: their weights in fewer bits, in the forms that vLLM and transformers load."""
