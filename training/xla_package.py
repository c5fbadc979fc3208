"""The package that training/xla_export.py writes and training/xla_run.py runs: its files, and its variants of a phase.

Imports neither TensorFlow nor JAX.
"""
from training.schedule import weight_at

MANIFEST, REALS, STATE, CONSTANTS = 'manifest.json', 'reals.zip', 'state.npz', 'constants.npz'


def hlo_file(name):
    """The file of a step's HloModuleProto."""
    return f'{name}.hlo'


def taken_values(config, takes, step, reals):
    """{name: value} of what a phase takes at a step, without the weights that are 0 then."""
    values = {name: reals if name == 'reals' else weight_at(config, name, step) for name in takes}
    return {name: value for name, value in values.items() if value is not None}


def variant_name(phase, takes, taken):
    """The step's name for a phase that is given `taken` of what it takes: a weight of 0 makes another graph."""
    return phase + ''.join(f'-without-{name}' for name in takes if name not in taken)
