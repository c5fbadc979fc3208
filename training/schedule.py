"""Values of options that are more than a number: a weight that changes while training, a range of resolutions."""
import math
import re
from typing import NamedTuple

from dnnlib.util import UsageError


class Schedule(NamedTuple):
    """A weight that moves linearly from `start` to `end` between two numbers of kimg; written '30:0-20:10', or '2'."""
    start: float
    begin_kimg: float
    end_kimg: float
    end: float

    @classmethod
    def parse(cls, text):
        """Reads START:KIMG-KIMG:END or one constant number. Raises UsageError."""
        number = r'([0-9.eE+-]+?)'
        ramp = re.fullmatch(rf'{number}:([0-9.]+)-([0-9.]+):{number}', text)
        try:
            values = [float(value) for value in ramp.groups()] if ramp else [float(text), 0.0, 0.0, float(text)]
        except ValueError:
            raise UsageError(f'{text!r} is neither a number nor START:KIMG-KIMG:END, such as 30:0-20:10') from None
        schedule = cls(*values)
        if not all(map(math.isfinite, schedule)):
            raise UsageError(f'{text!r}: every number in it must be finite')
        if schedule.begin_kimg > schedule.end_kimg:
            raise UsageError(f'{text!r}: it ends, at {schedule.end_kimg:g} kimg, before it begins')
        return schedule

    def __str__(self):
        if self.start == self.end:
            return f'{self.end:g}'
        return f'{self.start:g}:{self.begin_kimg:g}-{self.end_kimg:g}:{self.end:g}'

    def at(self, images_seen):
        """The weight after `images_seen` real images; with both kimg equal it jumps there."""
        if images_seen >= self.end_kimg * 1000:
            return self.end
        if images_seen <= self.begin_kimg * 1000:
            return self.start
        moved = (images_seen - self.begin_kimg * 1000) / ((self.end_kimg - self.begin_kimg) * 1000)
        return self.start * (1 - moved) + self.end * moved


class Range(NamedTuple):
    """Resolutions from `low` to `high`, both included; written '4-128'."""
    low: int
    high: int

    @classmethod
    def parse(cls, text):
        """Reads LOW-HIGH, two powers of two. Raises UsageError."""
        match = re.fullmatch(r'(\d+)-(\d+)', text)
        found = cls(*map(int, match.groups())) if match else None
        if not found or found.low > found.high or any(value & (value - 1) or not value for value in found):
            raise UsageError(f'{text!r}: expected LOW-HIGH, two powers of two such as 4-128')
        return found

    def __str__(self):
        return f'{self.low}-{self.high}'


def weight_at(config, name, step):
    """The value of a scheduled weight at a step, None instead of 0: without a loss, its images need not be made."""
    return getattr(config, name).at(step * config.batch_size) or None
