import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from dnnlib.images import to_float, to_uint8
from dnnlib.perturbations.table import PAPER_NAMES, TABLE
from dnnlib.pictures import CAPTION, LABEL
from dnnlib.util import UsageError, UserError
from experiments import curves, robustness
from helpers import ROOT, save_run
from metrics.base import Model
from release.redrawing.reading import Redrawn


def point(value, accuracy=0.75):
    return {'value': value, 'bit_accuracy': accuracy, 'interval': [0.7, 0.8], 'psnr': None, 'ssim': 0.9, 'fid': 1.5,
            'attributable': {'1e-03': {'share': 0.5}, '1e-06': {'share': 0.25}}, 'attributable_many': None}


def make_record(accuracy=0.75, names=PAPER_NAMES, fid='fid768'):
    return {'parameters': {name: TABLE[name].parameter for name in names}, 'fid': fid,
            'curves': {'none': [point(None, 1.0)],
                       **{name: [point(value, accuracy) for value in TABLE[name].strengths] for name in names}}}


def test_the_table_is_markdown_with_as_many_cells_in_each_row():
    lines = robustness.table(make_record()).splitlines()
    assert len(lines) == 3 + sum(len(TABLE[name].strengths) for name in PAPER_NAMES)
    assert {line.count('|') for line in lines} == {11} and 'fid768' in lines[0]
    assert lines[2] == '| none | – | 1.000 | 0.700 to 0.800 | 50.0% | 25.0% | – | – | 0.900 | 1.50 |'
    assert '| jpeg | 95 | 0.750 | 0.700 to 0.800 | 50.0% | 25.0% | – | – | 0.900 | 1.50 |' in lines
    without = robustness.table(make_record(fid=None)).splitlines()
    assert {line.count('|') for line in without} == {10} and 'fid' not in without[0]


def test_the_picture_shows_the_image_and_its_perturbed_versions():
    image = np.random.default_rng(0).integers(0, 256, [32, 32, 3]).astype(np.uint8)
    canvas = np.asarray(robustness.picture(image, make_record()['curves'], 0))
    assert canvas.shape == (6 * (128 + CAPTION), LABEL + 7 * 128, 3)
    np.testing.assert_array_equal(canvas[:128:4, LABEL:LABEL + 128:4], image)
    blurred = canvas[2 * (128 + CAPTION):][:128:4, LABEL + 128:LABEL + 256:4]
    assert 10 < blurred.std() < image.std()


def test_the_curves_lie_where_the_accuracies_are():
    records = {'before': make_record(0.6, ('crop', 'flip')), 'after': make_record(0.9, ('crop', 'flip'))}
    canvas = np.asarray(robustness.curves_plot(records))
    for column, name in enumerate(('crop', 'flip')):
        count = 1 + len(TABLE[name].strengths)
        for colour, accuracy in zip(curves.COLOURS, (0.6, 0.9)):
            expected = tuple(int(colour[i:i + 2], 16) for i in (1, 3, 5))
            x, y = curves.place((column * curves.WIDTH, curves.LEGEND), count - 1, accuracy, count)
            assert tuple(canvas[y, x]) == expected
    left, y = curves.place((0, curves.LEGEND), 0, 0.75, 7)
    assert tuple(canvas[y, left + 1]) == (0, 0, 0) != tuple(canvas[y, left + 6])  # the accepted line, dashed


def main(*flags):
    return robustness.main(robustness.make_parser().parse_args(flags))


def test_the_command_on_two_runs(tmp_path, capsys):
    first, second = (save_run(str(tmp_path / name), seed) for seed, name in enumerate(('first', 'second')))
    main(f'--run={first}', f'--beside={second}', '--num-images=8', '--perturbations=flip,greyscale')
    said = capsys.readouterr().out
    assert said.count('| perturbation') == 2 and said.count('| greyscale') == 2
    written = [f'robustness_000001{ending}' for ending in ('.md', '.png', '_curves.png')]
    assert sorted(os.listdir(f'{first}/pictures')) == written
    Image.open(f'{first}/pictures/robustness_000001_curves.png').load()
    for folder in (first, second):
        with open(os.path.join(folder, 'metrics.jsonl')) as file:
            record = json.loads(file.read())
        assert record['metric'] == 'robustness' and record['kimg'] == 1 and record['images'] == 8


def test_a_model_that_looks_reads_what_was_turned_or_is_as_it_is():
    """A toy whose logits are sure where the middle of the upper edge is bright, and unsure elsewhere."""
    def decode(images):
        assert images.dtype == np.float32
        sure = images[:, 0, 14:18].max(axis=(1, 2)) > 0
        return np.where(sure[:, None], 9.0, 0.1) * np.array([1.0, -1.0])

    plain = Model(None, decode, 4, 2, 32)
    model = robustness.looking(plain, None, search=True)
    upright = np.full([32, 32, 3], -1, np.float32)
    upright[0:3, 14:18] = 1
    turned = to_float(np.asarray(Image.fromarray(to_uint8(upright)).rotate(30, Image.Resampling.BILINEAR)))
    blank = np.full([32, 32, 3], -1, np.float32)
    assert decode(turned[None])[0, 0] == 0.1
    images = np.stack([upright, turned, blank])
    np.testing.assert_array_equal(model.decode(images)[:, 0], [9.0, 9.0, 0.1])

    given, coherent = [], iter([True, False, False])

    class Redrawer:
        def __call__(self, image, placing):
            given.append(placing)
            return Redrawn(np.full(2, 1.0), 0.9 if next(coherent) else 0.1, 0.5, placing, 20.0, 10.0)
    model = robustness.looking(plain, Redrawer(), search=True)      # what coheres counts, be it less sure
    np.testing.assert_array_equal(model.decode(images)[:, 0], [1.0, 9.0, 0.1])
    assert given[0] is None and 10 < np.degrees(given[1][3]) < 40   # where the search put it, if it reads surer there


def test_a_searched_table_is_another_metric(tmp_path, capsys):
    run = save_run(str(tmp_path / 'run'), 0)
    main(f'--run={run}', '--num-images=1', '--perturbations=flip', '--search')
    assert 'placement searched' in capsys.readouterr().out
    assert 'robustness_search_000001.md' in os.listdir(f'{run}/pictures')
    with open(os.path.join(run, 'metrics.jsonl')) as file:
        assert json.loads(file.read())['metric'] == 'robustness_search'


def test_a_table_of_pictures_drawn_again_is_another_metric(tmp_path, capsys):
    run = save_run(str(tmp_path / 'run'), 3, preset='adopted', method='adopted', read_side=16, sign_map=2)
    main(f'--run={run}', '--num-images=1', '--perturbations=greyscale', '--redraw')
    assert 'drawn again' in capsys.readouterr().out
    assert 'robustness_redraw_000001.md' in os.listdir(f'{run}/pictures')
    with open(os.path.join(run, 'metrics.jsonl')) as file:
        assert json.loads(file.read())['metric'] == 'robustness_redraw'
    other = save_run(str(tmp_path / 'other'), 0)
    with pytest.raises(UserError, match='leave --redraw out'):
        main(f'--run={other}', '--num-images=1', '--redraw')


def test_a_wrong_name_on_the_command_line():
    ran = subprocess.run([sys.executable, '-m', 'experiments.robustness', '--perturbations=crops'], cwd=ROOT, text=True,
                         capture_output=True)
    assert ran.returncode == 2 and ran.stderr.count('\n') == 1 and "'crops' does not exist" in ran.stderr


def test_what_cannot_work_is_said_before_anything_is_measured(tmp_path, run_dir):
    out = tmp_path / 'out'
    with pytest.raises(UsageError, match="'crops' does not exist"):
        main(f'--run={run_dir}', '--perturbations=crops', f'--out={out}')
    with pytest.raises(UserError, match='absent'):
        main(f'--run={run_dir}', f'--beside={tmp_path}/absent', f'--out={out}')
    with pytest.raises(UserError, match='there is no FID network at'):
        main(f'--run={run_dir}', f'--inception={tmp_path}/absent.pb', f'--out={out}')
    assert not out.exists()


def test_too_few_images_for_fid(monkeypatch, run_dir):
    monkeypatch.setattr(robustness, 'fid_network', lambda path, count: (None, '4 images are too few'))
    with pytest.raises(UsageError, match='--inception=graph.pb: 4 images are too few'):
        main(f'--run={run_dir}', '--inception=graph.pb', '--num-images=4')
