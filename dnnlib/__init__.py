"""The ground floor: knows TensorFlow, knows nothing of GANs."""
import os

# TensorFlow reads this when it is first imported; its start-up banner would bury the one line a user should read.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
