"""Metrics, one per file. Importing the package registers them all."""
from metrics import bit_accuracy, fid, forgery, robustness  # noqa: F401
