"""Loads the C++ and CUDA ops and says which implementation a caller gets."""
IMPLS = ('auto', 'ref', 'native')


def resolve(impl):
    """'native' or 'ref' for 'auto', 'ref' or 'native'. Raises ValueError for anything else."""
    if impl not in IMPLS:
        raise ValueError(f'impl must be one of {", ".join(IMPLS)}, got {impl!r}')
    if impl == 'native':
        raise NotImplementedError('the native ops are not built yet; use impl=\'ref\'')
    return 'ref'
