"""From new data to another served model: one stage after the other, each with its time, and two that may refuse it."""
