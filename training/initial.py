"""Beginning a run with the networks of another: a finished generator to adopt, or a run of the same method."""
import tensorflow as tf

from dnnlib.util import UsageError
from models.presets import ADOPTS
from training.config import check_initial
from training.snapshot import Snapshot
from training.state import restore


def take_over(config, state, resolution, log):
    """Sets a new run's networks to those of the latest snapshot of `config.init_from`; the optimizers begin anew.

    Args:
        config: the options of the run.
        state: its TrainState.
        resolution: of its images.
        log: what is told of it is given to this function, a line of text.

    Returns: whether all networks are taken over, so that nothing is left to be warmed up.

    Raises:
        UsageError: a method that begins with a finished run without one; a run of a method or size that doesn't fit.
        UserError: no snapshot, or a corrupt one.
    """
    check_initial(config)
    if not config.init_from:
        return False
    adopts = ADOPTS.get(config.method, {})
    source = Snapshot(config.init_from)
    same = source.config.method == config.method
    if not same and source.config.method not in adopts:
        raise UsageError(f'--init-from={config.init_from} is a run of --method={source.config.method}; this one takes '
                         f'{" or ".join([*adopts, config.method])}')
    if source.resolution != resolution:
        raise UsageError(f'--init-from={config.init_from} has images of {source.resolution} pixels a side, this '
                         f'dataset of {resolution}; take a dataset of the same size')
    if same:
        restore(tf.train.Checkpoint(nets=state.nets, ema=state.ema), source.path, partial=True)
    else:
        for name in adopts[source.config.method]:
            _copy(source.nets[name], state.nets[name], config.init_from)
    log(f'begins with the networks of {config.init_from} at {source.kimg} kimg')
    return same


def _copy(source, target, run_dir):
    """Assigns a network's variables to another's. Raises UsageError unless they are of the same shapes."""
    for taken, variable in zip(source.variables, target.variables):
        if taken.shape != variable.shape:
            raise UsageError(f'--init-from={run_dir}: {taken.name} has the shape {list(taken.shape)} there, '
                             f'{list(variable.shape)} here; leave out the flags of the networks')
        variable.assign(taken)
