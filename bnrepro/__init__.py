"""bnrepro puts the claims of the Batch Normalization paper to the test."""

__version__ = "0.1.0"
