"""Optimizers, learning rates, rules for large tables, and averages of the weights."""
