"""The documents say what is so, and the examples run."""
