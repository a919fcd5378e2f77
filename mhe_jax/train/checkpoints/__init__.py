"""What a run keeps on disk to go on from: saved whole, sealed, and only restored into the same model."""
