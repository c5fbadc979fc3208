"""Pictures that were mirrored, turned or inverted, attributed by trying the versions; p-values corrected for that."""
import types

import numpy as np
import pytest
from PIL import Image

from fingerprints.matching import attribute
from release.alignments import ALIGNMENTS, AS_IT_IS, best_alignment
from release.attribute import Attributor
from release.results import as_text

EDITS = {'mirrored': lambda image: image[:, ::-1], 'flipped': lambda image: image[::-1],
         'turned by 90°': lambda image: np.rot90(image, 1), 'turned by 180°': lambda image: np.rot90(image, 2),
         'inverted': lambda image: 255 - image, 'all three': lambda image: 255 - np.rot90(image[:, ::-1], 3),
         'nothing': lambda image: image}


def test_the_versions_are_all_that_these_edits_reach_each_once():
    image = np.random.default_rng(0).integers(0, 256, [1, 4, 4, 3]).astype(np.uint8)
    versions = {version(image).tobytes() for version in ALIGNMENTS.values()}
    assert len(versions) == 16 and next(iter(ALIGNMENTS)) == AS_IT_IS
    for edit in EDITS.values():
        edited = edit(image[0])[None]
        assert {version(edited).tobytes() for version in ALIGNMENTS.values()} == versions


@pytest.fixture
def attributors(released):
    """Two Attributors, without and with alignments, whose decoder reads a bit from each pixel of the first row."""
    run_dir, registry, _ = released
    found = [Attributor(run_dir, registry, align) for align in (False, True)]
    for attributor in found:
        attributor.model = types.SimpleNamespace(resolution=16, decode=lambda images: images[:, 0, :, 0])
    return found


@pytest.mark.parametrize('edit', EDITS)
def test_an_edited_picture_is_named_with_alignments_alone(released, attributors, tmp_path, edit):
    image = np.random.default_rng(1).integers(0, 256, [16, 16, 3]).astype(np.uint8)
    image[0] = 255 * released[1].code('alice')[:, None]
    path = str(tmp_path / 'edited.png')
    Image.fromarray(np.ascontiguousarray(EDITS[edit](image))).save(path)
    plain, aligned = (next(attributor([path], 1e-3)) for attributor in attributors)
    assert plain.attribution.user == ('alice' if edit == 'nothing' else None)
    assert plain.alignment is None and plain.record()['alignment'] is None
    assert aligned.attribution.user == 'alice'
    assert aligned.attribution.p_value == pytest.approx(2 * 16 * 2.0 ** -16)  # two users, 16 versions, 16 of 16 bits
    assert (aligned.alignment == AS_IT_IS) == (edit == 'nothing')
    assert f'user alice, {aligned.alignment}  16 of 16 bits' in as_text(aligned, {})
    assert attributors[1].provenance['alignments'] == 16


def test_users_of_different_versions_are_both_told():
    """One in the picture as it is, another in its mirror image: as suspicious as two within one version."""
    codes = np.random.default_rng(2).integers(0, 2, [3, 64])
    names = ['ann', 'ben', 'cem']
    nothing = 2 * np.tile([0, 1], 32) - 1
    logits = [2 * codes[1] - 1, 2 * codes[0] - 1, nothing]
    logits[1] = logits[1] * np.where(np.arange(64) < 2, -1, 1)  # two bits wrong
    found = [attribute(one[None].astype(float), names, codes, 1e-6, num_alignments=3)[0] for one in logits]
    assert [one.user for one in found] == ['ben', 'ann', None]
    number, together = best_alignment(found)
    assert number == 0 and together.user is None and together.reason == 'several'
    assert together.over_threshold == ('ben', 'ann') and (together.matching, together.second_matching) == (64, 62)
    assert best_alignment([found[2], found[1]]) == (1, found[1])
    assert best_alignment([found[1], found[1]]) == (0, found[1])
    assert best_alignment([found[2]]) == (0, found[2])
