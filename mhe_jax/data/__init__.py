"""Data sets of images, faces and texts, and the feeds that turn them into batches; knows files, knows no model."""
