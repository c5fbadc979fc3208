"""What to train, ready made: a row per preset, whose options override those of training.config. Imports no TensorFlow.

    preset     method        data   bits  size    costs                    reaches
    config-e   fingerprinted yours  128   128x128 6 days on 2 V100 (paper) bit accuracy 0.991, FID 11.50 (CelebA; paper)
    stylegan2  stylegan2     yours  -     128x128 as much                  FID 9.37 (CelebA; paper)
    quickstart bound         digits 32    32x32   minutes on 2 cores       bit accuracy 0.995 on PNG
    bound      bound         yours  128   64x64   hours on 2 cores         see docs/results.md
    adopted    adopted       yours  128   any     minutes on 2 cores       see docs/results.md; a finished stylegan2 run
"""
import dataclasses
from typing import Optional

METHOD_NAMES = ('fingerprinted', 'bound', 'adopted', 'stylegan2')
# {method given to finished generators: {method of their run: the networks that are taken over}}.
ADOPTS = {'adopted': {'stylegan2': ('M', 'G')}}

BASELINE_ONLY = ('style_mixing', 'mean_w_decay')
SIGNED_ONLY = ('sign_map', 'read_side', 'readout_units', 'lambda_sign', 'sign_teaching', 'warm_start_images')
ADOPTED_ONLY = ('sign_frequency', 'sign_components', 'key_bits', 'mark_psnr', 'chroma_psnr', 'texture_masking',
                'content_filters')
FINGERPRINTED_ONLY = ('input_bias', 'clip_decoder', 'embedding_gain', 'signed_codes', 'lambda_latent',
                      'lambda_consistency', 'consistency_noise', 'decode_pair')
GAN_ONLY = ('r1_gamma', 'r1_interval', 'path_length_weight', 'path_length_decay', 'path_length_interval')

# {method: options that it makes no use of}, which are refused on its command line.
UNUSED = {
    'fingerprinted': BASELINE_ONLY + SIGNED_ONLY + ADOPTED_ONLY + ('carrier',),
    # It clips always, and reads both images of a pair.
    'bound': BASELINE_ONLY + ADOPTED_ONLY + ('decode_pair', 'clip_decoder'),
    'adopted': BASELINE_ONLY + FINGERPRINTED_ONLY + GAN_ONLY + ('carrier',),
    'stylegan2': SIGNED_ONLY + ADOPTED_ONLY + FINGERPRINTED_ONLY + (
        'carrier', 'fingerprint_bits', 'lambda_fingerprint', 'immunize', 'immunize_strength'),
}


@dataclasses.dataclass(frozen=True)
class Preset:
    """help: one line. dataset: what it trains on if none is named. options: {name: value or text of it}."""
    help: str
    dataset: Optional[str]
    options: dict


# What the presets of method bound share. A batch of 8 makes twice the steps of 16 out of the same images.
BOUND = dict(method='bound', latent_dim=64, mapping_layers=1, mapping_lrmul=1.0, signed_codes=True, embedding_gain=0.3,
             carrier=0.5, sign_map=6, lambda_latent=1.0, r1_gamma=2.0, path_length_interval=0, path_length_weight=0.0,
             learning_rate=0.005, batch_size=8, input_bias='channel', consistency_noise='shared', decode_pair=True,
             clip_decoder='clip', metrics='bit_accuracy,forgery')

PRESETS = {
    'config-e': Preset("the paper's: StyleGAN2 config E, 128 bits, days on two GPUs", None, {}),
    'stylegan2': Preset("config E without fingerprints, the baseline of the paper's Table 1", None,
                        dict(method='stylegan2', metrics='none')),
    'quickstart': Preset('small networks, 32 bits bound to the picture, minutes on the bundled digits', 'digits', dict(
        **BOUND, fingerprint_bits=32, embedding_dim=128, fmap_base=512, fmap_max=64,
        lambda_fingerprint='5', lambda_consistency='0:0-8:30', ema_kimg=1.0,
        total_kimg=16, tick_kimg=2, image_snapshot_ticks=2, snapshot_ticks=4, metric_images=400)),
    'bound': Preset('128 bits bound to the picture, for 64x64 on two cores', None, dict(
        **BOUND, fingerprint_bits=128, embedding_dim=256, fmap_base=1024, fmap_max=64, readout_units=512,
        lambda_fingerprint='10', lambda_consistency='0:0-16:20', ema_kimg=2.0,
        total_kimg=200, tick_kimg=2, image_snapshot_ticks=4, snapshot_ticks=4, metric_images=400)),
    'adopted': Preset('128 bits for a finished generator, named by --init-from', None, dict(
        method='adopted', fingerprint_bits=128, mark_psnr=35.0, chroma_psnr=32.0, content_filters=32, sign_map=10,
        key_bits=8, read_side=32, readout_units=256, lambda_fingerprint='1', lambda_sign=1.0,
        sign_teaching='1:0-4:0', warm_start_images=8000,
        learning_rate=0.005, adam_beta1=0.9, batch_size=16, ema_kimg=1.0, total_kimg=24, tick_kimg=2,
        image_snapshot_ticks=4, snapshot_ticks=4, metrics='bit_accuracy,forgery', metric_images=400)),
}
