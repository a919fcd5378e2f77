"""What a trained model must beat: neighbours, linear classifiers, trees of labels, and the pixels themselves."""
