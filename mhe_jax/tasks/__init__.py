"""Tasks: a backbone and a head bound to the meaning of a batch."""
