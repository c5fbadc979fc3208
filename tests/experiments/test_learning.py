import os

import numpy as np
import pytest
from PIL import Image

from dnnlib.util import UsageError, UserError, append_json_line, read_json_lines
from experiments import learning
from experiments.learning import (
    PAPER_VARIANTS,
    WINNER_VARIANTS,
    chosen,
    main,
    make_parser,
    make_plan,
    place,
    plot,
    results,
    table,
    variants_of,
)
from helpers import TINY, save_run, write_dataset
from models.presets import PRESETS
from training.config import FIELDS

ROW = dict(variant='paper', seed=0, kimg=8, adopted_kimg=None, stopped=None, bit_accuracy=0.95, fid=None, forged=0.005,
           psnr=28.14, kimg_to_goal=8, seconds=61.2, curve=[[4, 0.75], [8, 0.95]])


def flags(*texts):
    return make_parser().parse_args(texts)


@pytest.fixture(scope='module')
def plain_run(tmp_path_factory):
    return save_run(str(tmp_path_factory.mktemp('learning') / 'plain'), method='stylegan2', fmap_max=24)


@pytest.mark.parametrize('preset', ['quickstart', 'bound', 'adopted'])
def test_every_variant_can_be_trained(preset, plain_run):
    args = flags(f'--config={preset}', *([f'--init-from={plain_run}'] if preset == 'adopted' else []))
    plans = {name: make_plan(args, name, 3, 'out') for name in variants_of(preset)}
    for name, plan in plans.items():
        assert plan.config.seed == 3 and plan.config.total_kimg == 48
        assert plan.config.method == ('fingerprinted' if name.startswith('paper') or name == 'winner, no sign maps'
                                      else PRESETS[preset].options['method'])
        if preset == 'adopted':
            assert plan.config.fmap_max == 24
            assert plan.config.init_from == ('' if name.startswith('paper') else plain_run)
    assert len({plan.run_dir for plan in plans.values()}) == len(plans)


def test_the_papers_settings_are_config_es():
    plan = make_plan(flags('--config=bound'), 'paper', 0, 'out')
    sizes = {'fingerprint_bits': 128, 'embedding_dim': 256, 'fmap_base': 1024, 'fmap_max': 64, 'latent_dim': 64,
             'readout_units': 512}
    changed = {field.name for field in FIELDS if not field.metadata['may_change']
               and getattr(plan.config, field.name) != field.default}
    assert changed == set(sizes) - {'fingerprint_bits'}
    assert {name: getattr(plan.config, name) for name in sizes} == sizes


def test_a_generator_must_be_named():
    with pytest.raises(UsageError, match='name a run folder of --method=stylegan2 by --init-from'):
        make_plan(flags('--config=adopted'), 'winner', 0, 'out')


@pytest.mark.parametrize('variants', [PAPER_VARIANTS, *WINNER_VARIANTS.values()])
def test_variants_differ_from_their_base_in_one_factor(variants):
    # A learning rate multiplier belongs to the depth; strengths in luma and chroma go together.
    factors = {'paper, one mapping layer': 2, 'winner, 6 dB weaker': 2}
    for name, options in variants.items():
        if ', ' in name:
            base = variants[name.split(', ')[0]]
            changed = [key for key in {**base, **options} if base.get(key) != options.get(key)]
            assert len(changed) == factors.get(name, 1), name


def test_choosing():
    assert chosen('bound', 'paper; winner', '0,2') == [('paper', 0), ('paper', 2), ('winner', 0), ('winner', 2)]
    assert len(chosen('adopted', None, '1')) == len(variants_of('adopted'))
    with pytest.raises(UsageError, match="--config=bound has no variant 'nope'; choose from paper; "):
        chosen('bound', 'nope', '0')
    with pytest.raises(UsageError, match='--seeds=a: must be whole numbers'):
        chosen('bound', 'paper', 'a')


def test_results_are_read_from_the_run_folder(tmp_path):
    for kimg, value in ((4, 0.75), (8, 0.95), (12, 0.9)):
        append_json_line(tmp_path / 'metrics.jsonl', {'kimg': kimg, 'metric': 'bit_accuracy', 'value': value})
        append_json_line(tmp_path / 'metrics.jsonl', {'kimg': kimg, 'metric': 'forgery', 'value': 1 / kimg,
                                                      'between_users': {'psnr': 20 + kimg}})
        append_json_line(tmp_path / 'stats.jsonl', {'kimg': kimg, 'images_per_second': 10 * kimg})
    assert results(tmp_path) == {
        'kimg': 12, 'bit_accuracy': 0.9, 'fid': None, 'forged': 1 / 12, 'psnr': 32, 'kimg_to_goal': 8,
        'seconds': pytest.approx(4000 / 40 + 4000 / 80 + 4000 / 120), 'curve': [[4, 0.75], [8, 0.95], [12, 0.9]]}
    append_json_line(tmp_path / 'metrics.jsonl', {'kimg': 12, 'metric': 'fid768', 'value': 1.5})
    assert results(tmp_path)['fid'] == 1.5
    assert set(map(str, results(tmp_path / 'none').values())) == {'None', '[]'}


def test_the_table():
    lines = table([ROW, {**ROW, 'stopped': 'NaN', 'kimg_to_goal': None}, {**ROW, 'adopted_kimg': 40}]).splitlines()
    assert lines[2] == '| paper | 0 | 8 | 0.950 | – | 0.5% | 28.1 | 8 | 61 |'
    assert lines[3] == '| paper | 0 | 8 (stopped) | 0.950 | – | 0.5% | 28.1 | – | 61 |'
    assert lines[4] == '| paper | 0 | 40 + 8 | 0.950 | – | 0.5% | 28.1 | 8 | 61 |'
    assert {line.count('|') for line in lines} == {10}


def test_the_plot_has_each_point_in_its_place():
    assert place(0, 1, 8) == (48, 16) and place(8, 0.5, 8) == (688, 400) and place(4, 0.75, 8) == (368, 208)
    picture = np.asarray(plot([ROW, {**ROW, 'variant': 'winner', 'curve': [[4, 0.6], [8, 0.7]]}]))
    for point, colour in (((4, 0.75), (0x1f, 0x77, 0xb4)), ((8, 0.95), (0x1f, 0x77, 0xb4)),
                          ((4, 0.6), (0xff, 0x7f, 0x0e))):
        x, y = place(*point, 8)
        assert (picture[y - 2:y + 3, x - 2:x + 3] == colour).all(axis=-1).any(), point
    assert not (picture[17:60, 60:300] == (0x1f, 0x77, 0xb4)).all(axis=-1).any()


def test_runs_are_trained_resumed_and_reported(tmp_path, monkeypatch, capsys):
    images = np.random.default_rng(0).integers(0, 256, [48, 16, 16, 3]).astype(np.uint8)
    write_dataset(str(tmp_path / 'noise'), 'noise', 'random pixels', images[:40], images[40:])
    tiny = {**TINY, 'method': 'fingerprinted', 'metrics': 'bit_accuracy', 'metric_images': 8,
            'path_length_interval': 0}
    del tiny['total_kimg']
    monkeypatch.setattr(learning, 'variants_of', lambda preset: {'small': tiny, 'stuck': tiny})
    monkeypatch.setattr(learning, 'FORGED_IMAGES', 8)
    out = tmp_path / 'out'
    (out / 'stuck-0').mkdir(parents=True)
    (out / 'stuck-0' / 'training_options.json').write_text('{"config": {}}')  # another configuration, so it can't go on
    (out / 'stuck-0' / 'snapshots').mkdir()
    (out / 'stuck-0' / 'snapshots' / 'snapshot-1.index').write_text('')
    common = [f'--dataset={tmp_path}/noise', f'--out={out}', '--num-gpus=0', '--total-kimg=1']
    main(make_parser().parse_args([*common, '--variants=small']))
    with pytest.raises(UserError, match='1 of 2 runs stopped early; the first: stuck, seed 0: .*another configuration'):
        main(make_parser().parse_args([*common, '--variants=small;stuck']))
    printed = capsys.readouterr().out
    assert f'resuming {out}/small-0 at 1 kimg' in printed
    rows = read_json_lines(out / 'learning.jsonl')
    assert [row['variant'] for row in rows] == ['small', 'stuck'] and rows[0]['stopped'] is None
    assert [kimg for kimg, _ in rows[0]['curve']] == [1] and rows[0]['seconds'] > 0 and rows[1]['curve'] == []
    assert rows[0]['forged'] is None and rows[0]['psnr'] > 0  # 8 bits can't name anyone
    assert (out / 'learning.md').read_text() == table(rows) + '\n'
    assert Image.open(out / 'learning.png').size[0] == 48 + 640 + 240
    assert sorted(os.listdir(out)) == ['learning.jsonl', 'learning.md', 'learning.png', 'small-0', 'stuck-0']
