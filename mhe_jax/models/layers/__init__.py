"""Layers that several backbones are built from."""
