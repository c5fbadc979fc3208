"""The method: configuration, layers, networks, losses, steps, state and the loop, to be read in that order."""
