"""What happens to pictures in the world: `table` (names and ranges), `files` (on pictures), `tensors` (in training)."""
