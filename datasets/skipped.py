"""What a source of images leaves out: how many for which reason, and which."""
import collections


class Skipped(collections.Counter):
    """{reason: count} of what is left out.

    Attributes:
        names: a list of (name, reason) in the order they were met.
    """

    def __init__(self):
        super().__init__()
        self.names = []

    def add(self, name, reason):
        """Counts one more for a reason, and remembers its name."""
        self[reason] += 1
        self.names.append((name, reason))
