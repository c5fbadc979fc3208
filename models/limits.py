"""What can be trained: how a batch may be divided, and images of which size. Imports no TensorFlow."""
import math

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


def check_parts(batch_per_replica, batch_size, replicas=1):
    """Raises UsageError unless each replica's share of the batch is whole parts of `batch_per_replica` images, and D
    sees the same groups of images in parts as at once. 0 is the whole share."""
    share = batch_size // replicas
    if not batch_per_replica or batch_per_replica == share:
        return
    fitting = [size for size in range(GROUP, share + 1, GROUP) if share % size == 0]
    if batch_per_replica not in fitting:
        sizes = ', '.join(map(str, [0, *fitting]))
        raise UsageError(f'--batch-per-replica={batch_per_replica}: each replica has {share} images of a step, which '
                         f'it takes in equal parts of whole groups of {GROUP}; take one of {sizes} (0: all at once)')


def check_resolution(resolution):
    """Raises UsageError unless a network can be built for the images' resolution."""
    if resolution not in [2 ** r for r in range(4, 11)]:
        raise UsageError(f'images of resolution {resolution}: expected a power of two from 16 to 1024; '
                         'make the dataset anew with dataset_tool.py --resolution')


def check_networks(config, resolution):
    """Raises UsageError unless a generator of this configuration exists for the images' resolution."""
    check_resolution(resolution)
    if not any(is_modulated(config, res) for res in resolutions(resolution)):
        raise UsageError(f'--res-modulated-range={config.res_modulated_range} meets none of the resolutions 4 to '
                         f'{resolution} of these images, so that nothing would be modulated; '
                         f'take a range within 4-{resolution}')


def is_modulated(config, resolution):
    """Whether the convolutions of a resolution are modulated."""
    return config.res_modulated_range.low <= resolution <= config.res_modulated_range.high


def resolutions(resolution):
    """4, 8, ... up to and with `resolution`."""
    return [2 ** r for r in range(2, int(math.log2(resolution)) + 1)]
