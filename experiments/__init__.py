"""The paper's tables and figures, and what goes beyond them."""
import dnnlib  # noqa: F401  (quiets TensorFlow before an experiment imports it)
