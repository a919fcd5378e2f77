"""Accelerators that need not be here: their descriptions, and devices to compile for."""
