"""Heads on cosines whose own class must win by a margin: they train embeddings, mostly of faces."""
