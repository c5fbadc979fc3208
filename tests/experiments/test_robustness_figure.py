import json
import os
import subprocess
import sys

import numpy as np
from PIL import Image

from dnnlib.pictures import CAPTION, LABEL
from experiments.robustness import picture, table
from helpers import ROOT, save_run
from metrics.robustness import PERTURBATIONS


def curves():
    return {name: [{**({kind.parameter: strength} if kind.parameter else {}), 'bit_accuracy': 0.75,
                    'attributable': {'1e-06': {'share': 0.5}}} for strength in kind.strengths]
            for name, kind in PERTURBATIONS.items()}


def test_the_table_is_markdown_with_as_many_cells_in_each_row():
    lines = table(curves()).splitlines()
    assert len(lines) == 2 + len(PERTURBATIONS) and {line.count('|') for line in lines} == {7}
    assert lines[2].startswith('| none | 0.750 (50%) |')
    assert '| jpeg, quality | 95: 0.750 (50%) | 90: 0.750 (50%) |' in table(curves())


def test_the_picture_shows_the_image_and_its_perturbed_versions(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, [32, 32, 3]).astype(np.uint8)
    picture(tmp_path / 'a.png', image, curves(), 0)
    canvas = np.asarray(Image.open(tmp_path / 'a.png'))
    assert canvas.shape == (6 * (96 + CAPTION), LABEL + 5 * 96, 3)
    np.testing.assert_array_equal(canvas[:96:3, LABEL:LABEL + 96:3], image)
    blurred = canvas[2 * (96 + CAPTION):][:96:3, LABEL + 96:LABEL + 192:3]
    assert 10 < blurred.std() < image.std()


def test_the_command_on_a_run(tmp_path):
    run_dir = save_run(str(tmp_path / 'run'))
    ran = subprocess.run([sys.executable, '-m', 'experiments.robustness', f'--run={run_dir}', '--num-images=8'],
                         cwd=ROOT, text=True, capture_output=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith('| perturbation') and os.path.exists(f'{run_dir}/pictures/robustness_000001.png')
    with open(os.path.join(run_dir, 'metrics.jsonl')) as file:
        record = json.loads(file.read())
    assert record['metric'] == 'robustness' and record['kimg'] == 1 and record['images'] == 8
