"""What to train, ready made: a row per preset, whose options override those of training.config. Imports no TensorFlow.

    preset     method        data   bits  size    costs                    reaches
    config-e   fingerprinted yours  128   128x128 6 days on 2 V100 (paper) bit accuracy 0.991, FID 11.50 (CelebA; paper)
    stylegan2  stylegan2     yours  -     128x128 as much                  FID 9.37 (CelebA; paper)
    quickstart fingerprinted digits 32    32x32   9 minutes on 2 cores     bit accuracy 0.991 on PNG
"""
import dataclasses
from typing import Optional

METHOD_NAMES = ('fingerprinted', 'stylegan2')


@dataclasses.dataclass(frozen=True)
class Preset:
    """help: one line. dataset: what it trains on if none is named. options: {name: value or text of it}."""
    help: str
    dataset: Optional[str]
    options: dict


PRESETS = {
    'config-e': Preset("the paper's: StyleGAN2 config E, 128 bits, days on two GPUs", None, {}),
    'stylegan2': Preset("config E without fingerprints, the baseline of the paper's Table 1", None,
                        dict(method='stylegan2', metrics='none')),
    'quickstart': Preset('small networks, 32 bits, minutes on a laptop; trains on the bundled digits', 'digits', dict(
        latent_dim=64, fingerprint_bits=32, embedding_dim=128, mapping_layers=1, mapping_lrmul=1.0,
        fmap_base=512, fmap_max=64,
        lambda_latent=5.0, lambda_fingerprint='30', lambda_consistency='0:0-20:10',
        r1_gamma=10.0, path_length_interval=0, path_length_weight=0.0,
        learning_rate=0.005, batch_size=16, ema_kimg=2.0,
        total_kimg=48, tick_kimg=2, image_snapshot_ticks=6, snapshot_ticks=6,
        metrics='bit_accuracy,forgery', metric_images=500)),
}
