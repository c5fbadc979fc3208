"""The ground floor: knows TensorFlow, knows nothing of GANs."""
import os

# TensorFlow reads this when it is first imported; its start-up banner would bury the one line a user should read.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
# Takes of a GPU's memory what it needs instead of all there is, so that others can use it too.
os.environ.setdefault('TF_FORCE_GPU_ALLOW_GROWTH', 'true')
