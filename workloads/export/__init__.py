"""Export of trained language models in the formats of other programs."""
