"""How face recognition is measured: NumPy on embeddings and pixels; knows no model and no training."""
