"""What everything else stands on: knows TensorFlow, knows nothing of GANs."""
from dnnlib import lanes

lanes.prepare()
