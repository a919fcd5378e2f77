"""What predictions and embeddings are worth: protocols and baselines on arrays; knows no model and no training."""
