"""Instances for users, and the attribution of images to them."""
