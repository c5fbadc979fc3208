"""The terms of the objective, each a function of tensors alone.

Equations 1 to 5 of Yu et al. 2022 (arXiv 2012.08726, section 3); the non-saturating adversarial loss of Goodfellow et
al. 2014; R1 of Mescheder et al. 2018 (arXiv 1801.04406, equation 9); path length of Karras et al. 2020
(arXiv 1912.04958, equation 4). Every function returns one value per image [N], so that the caller decides how a
batch split over replicas is averaged.
"""
import tensorflow as tf


def generator_adversarial(fake_logits):
    """Equation 1, the generator's side, non-saturating: softplus(−D(G(z, c))). [N, 1] → [N]."""
    # Equation 1.
    return tf.nn.softplus(-fake_logits[:, 0])  # [N]


def discriminator_adversarial(real_logits, fake_logits):
    """Equation 1, the discriminator's side: softplus(D(G(z, c))) + softplus(−D(x)). Two [N, 1] → [N]."""
    # Equation 1.
    fake = tf.nn.softplus(fake_logits[:, 0])   # [N]
    real = tf.nn.softplus(-real_logits[:, 0])  # [N]
    return fake + real


def latent_reconstruction(latents, decoded):
    """Equation 2: the mean over components of (z − F_z(G(z, c)))². Two [N, latent_dim] → [N]."""
    # Equation 2.
    return tf.reduce_mean(tf.math.squared_difference(latents, decoded), axis=1)  # [N]


def fingerprint_reconstruction(fingerprints, logits):
    """Equation 3: the mean over bits of the cross-entropy between c and sigmoid(F_c(G(z, c))). Two [N, bits] → [N]."""
    # Equation 3.
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=fingerprints, logits=logits)  # [N, bits]
    return tf.reduce_mean(losses, axis=1)                                                 # [N]


def consistency(images1, images2):
    """Equation 4: the mean over pixels of (G(z, c1) − G(z, c2))². Two [N, H, W, 3] → [N]."""
    # Equation 4.
    return tf.reduce_mean(tf.math.squared_difference(images1, images2), axis=[1, 2, 3])  # [N]


def r1_penalty(discriminator, images):
    """‖∇x D(x)‖², the squared norm of the logit's gradient at real images [N, H, W, 3] → [N]."""
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = tf.reduce_sum(discriminator(images))
    gradients = tape.gradient(logits, images)                   # [N, H, W, 3]
    # arXiv 1801.04406, equation 9.
    return tf.reduce_sum(tf.square(gradients), axis=[1, 2, 3])  # [N]


def path_lengths(synthesize, embeddings, directions):
    """√(mean over layers of ‖∂(G(w)·y)/∂w_l‖²) per image.

    Args:
        synthesize: maps embeddings to images.
        embeddings: [N, L, embedding_dim], one copy of w per modulated layer.
        directions: y, [N, H, W, 3], already divided by √(H·W).

    Returns: [N].
    """
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        projection = tf.reduce_sum(synthesize(embeddings) * directions)
    gradients = tape.gradient(projection, embeddings)       # [N, L, embedding_dim]
    squares = tf.reduce_sum(tf.square(gradients), axis=2)   # [N, L]
    # arXiv 1912.04958, equation 4: the length ‖J·y‖, here its root mean square over copies of w.
    return tf.sqrt(tf.reduce_mean(squares, axis=1) + 1e-16)  # [N]
