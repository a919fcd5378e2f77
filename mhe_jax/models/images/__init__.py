"""Backbones for pictures."""
