"""Features that a network made before, and their labels."""
