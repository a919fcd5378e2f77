"""Multi-Head Encoding in JAX: classifiers with thousands to hundreds of millions of classes."""

__version__ = "0.2.0"
