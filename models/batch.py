"""How a batch may be divided over replicas. Imports no TensorFlow."""
from dnnlib.util import UsageError

GROUP = 4  # images of a minibatch standard deviation (Karras et al. 2018, arXiv 1710.10196, section 3)


def check_division(batch_size, replicas=1):
    """Raises UsageError unless D sees the same groups of images however many replicas there are.

    Each replica's share must be whole groups; alone, a replica also takes a batch smaller than one group.
    """
    if batch_size % (GROUP * replicas) == 0 or (replicas == 1 and batch_size <= GROUP):
        return
    step = GROUP * replicas
    low, high = batch_size // step * step, -(-batch_size // step) * step
    sizes = ' or '.join(str(size) for size in (low, high) if size)
    where = f' over {replicas} replicas' if replicas > 1 else ''
    raise UsageError(f'--batch-size={batch_size}{where}: the discriminator compares images in groups of {GROUP}, all '
                     f'on one replica; take a multiple of {step}, such as {sizes}')
