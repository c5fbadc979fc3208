"""What leaves the house, instances, and what comes back, images to attribute."""
