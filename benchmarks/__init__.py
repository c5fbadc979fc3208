"""What things cost, measured as ratios in one run."""
import dnnlib  # noqa: F401  (quiets TensorFlow before a benchmark imports it)
