"""What a trained model must beat: nearest neighbours, TF-IDF, and the pixels themselves."""
