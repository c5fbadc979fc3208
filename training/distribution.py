"""Where a run computes: one device, several GPUs of a host, or several hosts; and how images reach the replicas."""
import contextlib
import os

import tensorflow as tf

from dnnlib.util import UserError


def resolve_gpus(num_gpus):
    """The number of GPUs to use (None: all there are). Raises UserError where there are fewer than asked for."""
    gpus = tf.config.list_physical_devices('GPU')
    if num_gpus is None:
        return len(gpus)
    if num_gpus > len(gpus):
        way_on = f'--num-gpus={len(gpus)}' if gpus else '--num-gpus=0 to train on the CPU'
        raise UserError(f'--num-gpus={num_gpus}, but TensorFlow sees {len(gpus)} on this machine; go on with {way_on}')
    return num_gpus


def make_strategy(num_gpus):
    """The tf.distribute.Strategy: MultiWorkerMirroredStrategy when TF_CONFIG is set, else MirroredStrategy over the
    GPUs, or TensorFlow's own one-device default."""
    if num_gpus == 0:
        share_cores(len(os.sched_getaffinity(0)))
    tf.config.set_visible_devices(tf.config.list_physical_devices('GPU')[:num_gpus], 'GPU')
    if 'TF_CONFIG' in os.environ:
        return tf.distribute.MultiWorkerMirroredStrategy()
    devices = [f'/gpu:{i}' for i in range(num_gpus)]
    return tf.distribute.MirroredStrategy(devices) if len(devices) > 1 else tf.distribute.get_strategy()


def share_cores(cores):
    """Lets TensorFlow run two ops at once, each on half of the cores, unless its environment variables say otherwise.

    The ops of small networks are too short to gain from all cores: its default, every op on every core, takes 1.2 times
    as long for quickstart on two. A process that has already computed something keeps its threads.
    """
    if {'TF_NUM_INTEROP_THREADS', 'TF_NUM_INTRAOP_THREADS'} & set(os.environ):
        return
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_inter_op_parallelism_threads(min(cores, 2))
        tf.config.threading.set_intra_op_parallelism_threads(max(cores // 2, 1))


def worker(strategy):
    """(index, count) of this process among the strategy's workers."""
    resolver = strategy.cluster_resolver
    spec = resolver.cluster_spec().as_dict() if resolver else {}
    if not spec:
        return 0, 1
    chiefs, workers = len(spec.get('chief', [])), len(spec.get('worker', []))
    offset = 0 if resolver.task_type == 'chief' else chiefs
    return offset + resolver.task_id, chiefs + workers


def training_batches(strategy, dataset, batch_size, seed, start_image):
    """An iterator over the training split's global batches from `start_image` on, as the strategy's replicas take them.

    Replica r of R sees the r-th contiguous share of each global batch, whatever R is.
    """
    index, count = worker(strategy)

    def batches(_=None):
        return dataset.batches('train', batch_size // count, seed, start_image=start_image, num_shards=count,
                               shard_index=index)

    if strategy.num_replicas_in_sync == 1:
        return iter(batches())
    share = batch_size // strategy.num_replicas_in_sync
    options = tf.distribute.InputOptions(experimental_fetch_to_device=False)
    return iter(strategy.distribute_datasets_from_function(
        lambda context: batches().rebatch(share, drop_remainder=True), options))
