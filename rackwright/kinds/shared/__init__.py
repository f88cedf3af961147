"""Parts that several kinds share."""
