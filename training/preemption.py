"""What a run keeps when it is told to stop (SIGTERM from a cluster or cloud, Ctrl-C): its state after the last step.

RUN/preempted holds it until the next snapshot: a checkpoint, and what the steps of the unfinished tick have reported.
"""
import dataclasses
import os
from typing import Optional

import numpy as np
import tensorflow as tf

from dnnlib.util import atomic_folder, private_files, read_json, write_json

PREEMPTED = 'preempted'
STATE, TICK, INDEX = 'state-1', 'tick.json', 'checkpoint'  # TensorFlow adds the number, and the index


@dataclasses.dataclass(frozen=True)
class Preempted:
    """A state within a tick.

    path: the checkpoint's prefix. kimg: at the beginning of the tick. history: {statistic: float32} of each step made.
    """
    path: str
    kimg: int
    history: list[dict[str, np.float32]]


def save(folder: str, checkpoint: tf.train.Checkpoint, kimg: int, history: list[dict]) -> None:
    """Writes the present state to `folder`, in place of an earlier one. Raises UserError if anything else is in it."""
    with atomic_folder(folder, may_replace=_is_ours, private=True) as temporary, private_files():
        checkpoint.save(os.path.join(temporary, STATE[:-2]))
        steps = [{name: float(np.asarray(value, np.float32)) for name, value in step.items()} for step in history]
        write_json(os.path.join(temporary, TICK), {'kimg': kimg, 'history': steps})


def find(folder: str) -> Optional[Preempted]:
    """The state in `folder`; None if there is none."""
    tick, path = os.path.join(folder, TICK), os.path.join(folder, STATE)
    if not (os.path.exists(tick) and os.path.exists(f'{path}.index')):
        return None
    record = read_json(tick)
    history = [{name: np.float32(value) for name, value in step.items()} for step in record['history']]
    return Preempted(path, record['kimg'], history)


def remove(folder: str) -> None:
    """Removes what `save` made in `folder`, if it did: a snapshot has taken its place."""
    if os.path.isdir(folder) and _is_ours(folder):
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)


def _is_ours(folder):
    return all(name in (TICK, INDEX) or name.startswith(f'{STATE}.') for name in os.listdir(folder))
