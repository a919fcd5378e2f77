"""Heads for examples with one label: a softmax over classes."""
