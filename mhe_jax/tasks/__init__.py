"""Tasks bind a backbone and a head to the meaning of a batch."""
