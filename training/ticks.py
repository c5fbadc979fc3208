"""The cadence of a run, in thousands of real images: ticks, averages, the NaN check, the line of statistics.

Shared by the loops of TensorFlow and of JAX; imports neither.
"""
import math
import os
import resource
import time

import numpy as np

from dnnlib.util import UserError, append_json_line, format_time, keep_json_lines, progress

STATS = 'stats.jsonl'
CONFIDENT = 2.58  # standard deviations: 99%


class Ticks:
    """Counts a run's images and reports on them.

    Args:
        config: Config, of which it reads batch_size, tick_kimg and the intervals of pictures and snapshots.
        run_dir: the folder of stats.jsonl; None to write nothing.
        log: a dnnlib.util.Log.
        images_seen: how many images the run has seen so far.
        total_kimg: the length of the run.

    Attributes:
        images_seen: at the beginning of the tick.
        history: {statistic: scalar} of each step that the tick has made so far; a run that was stopped within a tick
            goes on with what it had.
    """

    def __init__(self, config, run_dir, log, images_seen, total_kimg):
        self.config, self.run_dir, self.log, self.total_kimg = config, run_dir, log, total_kimg
        self.images_seen = self.first_image = images_seen
        self.history = []
        self.started = time.time()
        if run_dir:
            # A killed run may have written more than it saved; those lines are about to be written again.
            keep_json_lines(os.path.join(run_dir, STATS), lambda record: record['kimg'] <= self.kimg)

    @property
    def kimg(self):
        return self.images_seen // 1000

    @property
    def done(self):
        return self.kimg >= self.total_kimg

    def due(self, interval):
        """Whether something that happens every `interval` ticks, and at the end, is due now."""
        return self.done or self.kimg // self.config.tick_kimg % interval == 0

    @property
    def next_image(self):
        """How many images were shown, those of the present tick included."""
        return self.images_seen + len(self.history) * self.config.batch_size

    def run(self, step_function, batches, stopping=lambda: False):
        """One tick: step_function(step, next(batches)) for each step of it. The device is read once, at the end.

        Returns {statistic: mean over the steps that reported it}, floats; None if `stopping()` told to leave before the
        last step: then `history` has the steps made, and the next call goes on after them.
        """
        size, images = self.config.batch_size, self.config.tick_kimg * 1000
        begun, resumed = time.time(), self.next_image
        with progress(total=images, unit='img', desc=f'from {self.kimg} kimg') as bar:
            bar.update(resumed - self.images_seen)
            while self.next_image < self.images_seen + images:
                if stopping():
                    return None
                self.history.append(step_function(self.next_image // size, next(batches)))
                bar.update(size)
        statistics = average(self.history)
        rate = (self.next_image - resumed) / (time.time() - begun)
        self.history = []
        return {**statistics, 'timing/images_per_second': rate}

    def check_finite(self, statistics, broken_nets, way_on):
        """Raises UserError if a statistic or a network has become NaN or infinite; `way_on` tells what there is."""
        broken = sorted(name for name, value in statistics.items() if not np.isfinite(value)) + broken_nets
        if broken:
            raise UserError(f'{", ".join(broken)} became NaN or infinite between {self.kimg} and '
                            f'{self.kimg + self.config.tick_kimg} kimg; {way_on}; try a lower --learning-rate, '
                            'or a higher --r1-gamma, in another --run-dir')

    def advance(self, statistics):
        """Counts the tick's images, prints its line and writes its record."""
        self.images_seen += self.config.tick_kimg * 1000
        rate, seconds = statistics['timing/images_per_second'], time.time() - self.started
        left = (self.total_kimg * 1000 - self.images_seen) * seconds / (self.images_seen - self.first_image)
        shown = '  '.join(f'{name.split("/")[-1]} {value:.3f}' for name, value in statistics.items()
                          if name.startswith('loss/') or name == 'bit_accuracy_float')
        # ru_maxrss is in KiB on Linux.
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20
        self.log(f'kimg {self.kimg}/{self.total_kimg}  time {format_time(seconds)}  left {format_time(max(left, 0))}  '
                 f'{rate:.1f} img/s  {memory:.1f} GiB  {shown}')
        self._warn_of_chance(statistics)
        if self.run_dir:
            losses = {name: value for name, value in statistics.items() if not name.startswith('timing/')}
            append_json_line(os.path.join(self.run_dir, STATS),
                             {'kimg': self.kimg, 'images_per_second': rate, **losses})

    def _warn_of_chance(self, statistics):
        """One line, after the first tenth of the run, if fingerprints are read no better than by chance."""
        before = self.images_seen - self.config.tick_kimg * 1000
        accuracy = statistics.get('bit_accuracy_float')
        if accuracy is None or self.done or not before < self.total_kimg * 100 <= self.images_seen:
            return
        # The codes are drawn anew for each image: by chance, the matches are binomial with probability ½.
        deviation = 0.5 / math.sqrt(self.config.tick_kimg * 1000 * self.config.fingerprint_bits)
        if accuracy - CONFIDENT * deviation <= 0.5:
            self.log(f'warning: the fingerprint is not being learned yet: bit accuracy {accuracy:.4f} over the last '
                     f'{self.config.tick_kimg} kimg is chance; try a higher --lambda-fingerprint, a '
                     '--lambda-consistency that rises from 0 (0:0-8:30, say), fewer --fingerprint-bits, '
                     'or --method=bound')


def average(history):
    """The mean of each statistic over the steps that reported it: {name: float}, from {name: scalar} per step."""
    series = {}
    for statistics in history:
        for name, value in statistics.items():
            series.setdefault(name, []).append(value)
    return {name: float(np.mean([np.asarray(value) for value in values])) for name, values in series.items()}
