"""Layouts of labelled documents on disk: a module for each, and one that finds out which it is."""
