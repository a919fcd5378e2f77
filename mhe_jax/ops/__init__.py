"""Pure functions on arrays: the mathematics of the heads, without parameters."""
