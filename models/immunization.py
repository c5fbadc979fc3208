"""Perturbations before the decoder while it trains, so that marks survive them (arXiv 2012.08726, section 4.5)."""
import tensorflow as tf

from dnnlib.perturbations.table import check_names


def perturbed(config, images, batch, strength):
    """What F reads while it trains: each image under one of the perturbations that `immunize` names, or under none.

    Args:
        config: the options of the run.
        images: [K · N, H, W, 3], K images for each latent of the batch.
        batch: a batch with `latents` [N, ...], `seed` [2] and `first`, the place of its first image.
        strength: scalar in [0, 1]; None for no perturbations.

    Returns: images of the same shape, clipped to [−1, 1] if any perturbation is named, else as they are.
    """
    names = check_names(config.immunize)
    if not names or strength is None:
        return images
    from dnnlib.perturbations.tensors import perturb
    count = batch.latents.shape[0]
    sets = tf.split(tf.clip_by_value(images, -1.0, 1.0), images.shape[0] // count)
    return tf.concat([perturb(part, tf.random.fold_in(batch.seed, number), names, strength, batch.first)
                      for number, part in enumerate(sets)], 0)
