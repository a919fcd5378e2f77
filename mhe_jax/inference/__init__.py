"""A trained run, used: opened, asked for predictions, embeddings, and figures."""
