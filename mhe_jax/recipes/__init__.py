"""What configs share: sections with their defaults, recipes of a pipeline, and the argument string."""
