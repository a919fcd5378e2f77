"""Encoders for texts."""
