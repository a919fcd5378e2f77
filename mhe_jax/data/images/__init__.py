"""Data sets of pictures: where they come from, how they are decoded, augmented and fed."""
