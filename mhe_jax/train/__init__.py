"""The one training loop and the state it owns; everything else in the package is pure."""
