"""How face recognition is measured: pure NumPy on embeddings; knows no model and no training."""
