"""What a fingerprint is: codes, their statistics, the registry, attribution. NumPy and SQL only, no TensorFlow."""
