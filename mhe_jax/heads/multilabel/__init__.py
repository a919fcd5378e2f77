"""Heads for examples with any number of labels."""
