"""Backbones for faces."""
