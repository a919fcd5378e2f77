"""Exchange of weights with other systems."""
