"""A run: config, state, step, snapshot, ticks, loop. It names no network: models/ does."""
