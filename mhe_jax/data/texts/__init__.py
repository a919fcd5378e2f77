"""Data sets of texts with labels: documents, tokens, and batches of like length."""
