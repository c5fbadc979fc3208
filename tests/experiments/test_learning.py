import os

import numpy as np
import pytest
from PIL import Image

from dnnlib.util import UsageError, UserError, append_json_line, read_json_lines
from experiments import learning
from experiments.learning import VARIANTS, chosen, main, make_parser, make_plan, place, plot, results, table
from helpers import TINY, write_dataset

ROW = dict(variant='paper', seed=0, kimg=8, stopped=None, bit_accuracy=0.95, fid=None, forged=0.005, psnr=28.14,
           kimg_to_goal=8, seconds=61.2, curve=[[4, 0.75], [8, 0.95]])


def test_every_variant_can_be_trained_on_both_presets():
    for preset in ('quickstart', 'bound'):
        for name in VARIANTS:
            plan = make_plan(preset, name, 3, 48, 0, 'out')
            assert plan.config.seed == 3 and plan.config.total_kimg == 48
    folders = {make_plan('quickstart', name, 0, 48, 0, 'out').run_dir for name in VARIANTS}
    assert len(folders) == len(VARIANTS)


def test_variants_differ_from_their_base_in_one_factor():
    one_factor = {'paper, one mapping layer': 2}  # whose learning rate multiplier belongs to the depth
    for name, options in VARIANTS.items():
        if ', ' in name:
            base = VARIANTS[name.split(', ')[0]]
            changed = [key for key in {**base, **options} if base.get(key) != options.get(key)]
            assert len(changed) == one_factor.get(name, 1), name


def test_choosing():
    assert chosen('paper; winner', '0,2') == [('paper', 0), ('paper', 2), ('winner', 0), ('winner', 2)]
    assert len(chosen(None, '1')) == len(VARIANTS)
    with pytest.raises(UsageError, match="no variant 'nope'; choose from paper; "):
        chosen('nope', '0')
    with pytest.raises(UsageError, match='--seeds=a: must be whole numbers'):
        chosen('paper', 'a')


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
    lines = table([ROW, {**ROW, 'stopped': 'NaN', 'kimg_to_goal': None}]).splitlines()
    assert lines[2] == '| paper | 0 | 8 | 0.950 | – | 0.5% | 28.1 | 8 | 61 |'
    assert lines[3] == '| paper | 0 | 8 (stopped) | 0.950 | – | 0.5% | 28.1 | – | 61 |'
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
    tiny = {**TINY, 'method': 'fingerprinted', 'metrics': 'bit_accuracy,forgery', 'metric_images': 8,
            'path_length_interval': 0}
    del tiny['total_kimg']
    monkeypatch.setattr(learning, 'VARIANTS', {'small': tiny, 'stuck': tiny})
    out = tmp_path / 'out'
    (out / 'stuck-0').mkdir(parents=True)
    (out / 'stuck-0' / 'training_options.json').write_text('{"config": {}}')  # another configuration, so it can't go on
    (out / 'stuck-0' / 'snapshots').mkdir()
    (out / 'stuck-0' / 'snapshots' / 'snapshot-1.index').write_text('')
    flags = [f'--dataset={tmp_path}/noise', f'--out={out}', '--num-gpus=0', '--total-kimg=1']
    main(make_parser().parse_args([*flags, '--variants=small']))
    with pytest.raises(UserError, match='1 of 2 runs stopped early; the first: stuck, seed 0: .*another configuration'):
        main(make_parser().parse_args([*flags, '--variants=small;stuck']))
    printed = capsys.readouterr().out
    assert 'kimg 1  forgery 8 bits cannot name one of 100 users at 1e-3, ' in printed
    assert f'resuming {out}/small-0 at 1 kimg' in printed
    rows = read_json_lines(out / 'learning.jsonl')
    assert [row['variant'] for row in rows] == ['small', 'stuck'] and rows[0]['stopped'] is None
    assert [kimg for kimg, _ in rows[0]['curve']] == [1] and rows[0]['seconds'] > 0 and rows[1]['curve'] == []
    assert rows[0]['forged'] is None and rows[0]['psnr'] > 0  # 8 bits can't name anyone
    assert (out / 'learning.md').read_text() == table(rows) + '\n'
    assert Image.open(out / 'learning.png').size[0] == 48 + 640 + 240
    assert sorted(os.listdir(out)) == ['learning.jsonl', 'learning.md', 'learning.png', 'small-0', 'stuck-0']
