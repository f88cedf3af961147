"""A model made smaller and faster for the processor it will run on, and refused where that costs its accuracy."""
