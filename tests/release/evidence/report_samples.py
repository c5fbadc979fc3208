"""A record as release.evidence.facts makes it, without a model: what pages are rendered from in tests."""
import dataclasses

from fingerprints.matching import Attribution
from fingerprints.statistics import corrected, p_value
from release.evidence import words

BITS = 64
SIDE, CODE_BITS, INNOCENTS = 16, 16, 40  # of the small run


def attribution(**changes):
    """alice is named with 60 of 64 bits; keyword arguments change that."""
    found = dict(user='alice', reason='named', best_user='alice', matching=60, num_bits=BITS, p_value=3e-13,
                 threshold=54, over_threshold=('alice',), second_user='bob', second_matching=38, users=3)
    found.update(changes)
    return Attribution(**found)


def record(found=None, revoked=None, **changes):
    """The record of an Attribution; keyword arguments replace parts of it."""
    found = found or attribution()
    agree = '1' * found.matching + '0' * (BITS - found.matching)
    code = '10' * (BITS // 2)
    read = ''.join(bit if same == '1' else str(1 - int(bit)) for bit, same in zip(code, agree))
    whole = {
        'format': 1, 'made_at': '2026-11-24T12:00:00+00:00', 'versions': 'scalable-fingerprinting 0', 'version': '0',
        'picture': {'name': 'a.png', 'sha256': 'a' * 64, 'width': 64, 'height': 64, 'alignment': 'as it is',
                    'pixels_sha256': 'b' * 64, 'png': 'AAAA', 'aligned_png': 'AAAA'},
        'model': {'digest': 'd' * 64, 'kimg': 12, 'method': 'adopted', 'bits': BITS, 'resolution': 64, 'users': 3,
                  'trained_on': 'garments'},
        'attribution': dataclasses.asdict(found), 'fpr': 1e-6, 'alignments_tried': 1,
        'outcome': words.outcome(found, 1e-6, 1, revoked or {}), 'log10_p_of_one_code': -12.5,
        'instance': {'name': 'alice', 'user': 'alice', 'state': 'issued', 'reserved_at': '2026-01-01T00:00:00+00:00',
                     'issued_at': '2026-01-01T00:00:01+00:00', 'revoked_at': None, 'reason': None,
                     'digest': 'e' * 64, 'model_digest': 'd' * 64},
        'bits': {'read': read, 'code': code, 'agree': agree, 'logits': []},
        'near': [{'user': name, 'matching': count, 'p_value': float(corrected(p_value(count, BITS), 3)),
                  'state': 'issued'} for name, count in (('alice', found.matching), ('bob', 38), ('carol', 33))],
        'propositions': words.propositions(found), 'limits': words.LIMITS,
        'likelihood': {'ratio': 131.1, 'hit_rate': 0.985, 'false_rate': 0.0075, 'own_images': 400, 'innocents': 400,
                       'capped': True, 'verbal': 'moderately strong support', 'dataset': 'garments',
                       'dataset_digest': 'f' * 64, 'least_own': 57, 'most_innocent': 43,
                       'words': words.weight(131.1, True, 400, 400)},
        'redrawn': {'missing': 'not asked for'},
        'validation': {'accuracy': [], 'robustness': [], 'forgery': []},
        'ledger': {'missing': 'there is none'}}
    return {**whole, **changes}
