"""Sparse features: rows of a wide matrix that is mostly 0, read from files or made of the words of texts."""
