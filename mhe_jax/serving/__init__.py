"""Trained runs behind HTTP: requests become batches, batches become answers. `mhe serve` starts it."""
