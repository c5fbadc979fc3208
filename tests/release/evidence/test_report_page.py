"""The page: one file that loads and runs nothing, in which nothing that came from outside is markup."""
import base64
import hashlib
import html.parser
import re
import shutil
import xml.etree.ElementTree

import numpy as np
import pytest
from report_samples import BITS, attribution, record
from scipy import special

from dnnlib.util import UserError
from release.evidence import page
from release.evidence.chance import HEIGHT, WIDTH, binomial, figure

EVIL = '"><script>alert(1)</script><img src=http://x.example/ onerror=alert(1)>'
VOID = {'meta', 'img', 'br'}


class Parsed(html.parser.HTMLParser):
    """Elements, attributes and text of a page. Fails if an element is not closed where it must be."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.attributes, self.open, self.texts = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def shown(**changes):
    parsed = Parsed(page.html(record(**changes)))
    return re.sub(r'\s+', ' ', ' '.join(parsed.texts[2:]))


def test_it_loads_and_runs_nothing():
    text = page.html(record())
    parsed = Parsed(text)
    assert not {'script', 'iframe', 'object', 'embed', 'link', 'form', 'base'} & set(parsed.elements)
    assert not [name for name, _ in parsed.attributes if name.startswith('on') or name in ('href', 'style')]
    assert all(value.startswith('data:image/png;base64,') for name, value in parsed.attributes if name == 'src')
    policy = next(value for name, value in parsed.attributes if name == 'content' and 'default-src' in value)
    style = re.search('<style>(.*)</style>', text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; img-src data:;") and f"style-src 'sha256-{digest}'" in policy
    assert 'url(' not in style and '@import' not in style


@pytest.mark.parametrize('place', ['name', 'user', 'reason', 'event', 'near', 'dataset'])
def test_what_comes_from_outside_is_text(place):
    made = record(attribution(user=EVIL, best_user=EVIL, over_threshold=(EVIL,)) if place == 'user' else None)
    if place == 'name':
        made['picture']['name'] = EVIL
    if place == 'reason':
        made['instance'].update(revoked_at='2026-05-01', reason=EVIL)
    if place == 'near':
        made['near'][1]['user'] = EVIL
    if place == 'dataset':
        made['likelihood']['dataset'] = EVIL
    if place == 'event':
        made['ledger'] = {'checkpoint': EVIL, 'size': 3, 'public_key': None, 'proofs': [
            {'kind': EVIL, 'time': EVIL, 'index': 1, 'event': EVIL, 'hashes': [EVIL]}]}
    text = page.html(made)
    assert '<script' not in text and 'onerror=alert(1)&gt;' in text
    assert Parsed(text).elements.count('img') == 2


def test_bits_that_disagree_are_marked():
    text = page.html(record(attribution(matching=61)))
    assert text.count('class="no"') == 2 * 3  # in what was read and in the code
    assert 'None disagrees' in page.html(record(attribution(matching=BITS)))


def test_a_hidden_code_shows_which_bits_agree_and_neither_them_nor_the_code():
    made = record(attribution(matching=61))
    agree = made['bits']['agree']
    made['bits'] = {'agree': agree}
    text = shown(found=attribution(matching=61), bits=made['bits'])
    assert 'Confidential' not in text and 'code is left out' in text
    assert text.count('≠') == 3 and text.count('=') >= 61
    assert 'Confidential' in shown()


@pytest.mark.parametrize('reason', ['nobody', 'several', 'unreachable'])
def test_where_nobody_is_named_no_instance_is_described(reason):
    over = ('alice', 'bob') if reason == 'several' else ()
    needed = None if reason == 'unreachable' else 54
    found = attribution(user=None, reason=reason, over_threshold=over, threshold=needed)
    missing = {'missing': 'not done, since nobody is named'}
    text = shown(found=found, likelihood=missing, redrawn=missing)
    assert 'Code drawn' not in text and 'Re-synthesis: not done' in text
    assert text.count('(reaches the threshold)') == len([name for name in over if name in ('alice', 'bob')])


def test_sections_that_were_not_measured_say_so():
    text = shown()
    assert 'Nothing was measured on the snapshot' in text and 'No proof from the ledger: there is none' in text


def test_validation_tables():
    forgery = {'what': 'two instances', 'framed': {'1e-03': 0.043, '1e-06': None}, 'nobody': {}, 'images': 300}
    accuracy = {'what': 'bits read right, png', 'value': 0.9709, 'images': 300}
    robust = {'what': 'jpeg 75', 'value': 0.9, 'interval': [0.89, 0.91], 'unit': 'quality', 'images': 500}
    text = shown(validation={'accuracy': [accuracy], 'robustness': [robust], 'forgery': [forgery]})
    assert '97.1%' in text and '4.3%' in text and 'cannot be' in text
    assert '89.0% to 91.0%' in text and '(quality)' in text


def test_a_picture_drawn_again_stands_beside_it():
    redrawn = {'psnr': [31.25, 30.5, 29.0], 'own': [[32.0, 31.0, 30.0]], 'photographs': [[21.0, 21.5, 20.0]],
               'png': 'BBBB', 'words': ['first sentence', 'second sentence']}
    text = page.html(record(redrawn=redrawn))
    assert Parsed(text).elements.count('img') == 4 and 'BBBB' in text
    text = shown(redrawn=redrawn)
    assert '31.2 30.5' in text or '31.3 30.5' in text
    assert 'a photograph 21.0 21.5' in text and 'second sentence' in text


@pytest.mark.parametrize('share, text', [(0, '0%'), (1, '100%'), (0.5, '50.0%'), (0.99996, '99.996%'),
                                         (0.00004, '0.004%'), (0.0075, '0.8%')])
def test_shares_are_never_rounded_to_none_or_all(share, text):
    assert page.percent(share) == text


@pytest.mark.parametrize('bits', [8, 64, 512])
def test_the_figure_is_the_binomial_distribution(bits):
    exact = [special.comb(bits, count, exact=True) / 2 ** bits for count in range(bits + 1)]
    assert binomial(bits) == pytest.approx(exact, rel=1e-9)
    tree = xml.etree.ElementTree.fromstring(figure(bits, bits, bits - 2, [bits // 2]))
    bars = tree.findall('rect')
    heights = np.array([float(bar.get('height')) for bar in bars])
    shown_counts = [count for count, chance in enumerate(exact) if chance > 1e-5]
    expected = np.array([exact[count] for count in shown_counts])
    assert heights / heights.max() == pytest.approx(expected / expected.max(), abs=1e-3)
    assert len(tree.findall('circle')) == 1


@pytest.mark.parametrize('observed, threshold', [(0, 64), (33, None), (64, 64), (20, 21)])
def test_the_figure_stays_within_its_frame(observed, threshold):
    tree = xml.etree.ElementTree.fromstring(figure(64, observed, threshold))
    for line in tree.findall('line'):
        assert all(0 <= float(line.get(name)) <= WIDTH for name in ('x1', 'x2'))
        assert all(0 <= float(line.get(name)) <= HEIGHT for name in ('y1', 'y2'))
    for text in tree.findall('text'):
        room = float(text.get('x')) if text.get('text-anchor') == 'end' else WIDTH - float(text.get('x'))
        assert text.get('text-anchor') == 'middle' or room > 6.5 * len(text.text)
    assert [text.text for text in tree.findall('text')][-6:][0].startswith(('needed', 'observed', '0'))


def test_pdf_without_a_browser_is_one_line(monkeypatch):
    monkeypatch.setattr(shutil, 'which', lambda name: None)
    with pytest.raises(UserError, match='neither is installed'):
        page.find_browser()


def test_a_browser_that_fails_is_one_line():
    with pytest.raises(UserError, match='printed no PDF'):
        page.pdf('<p>x</p>', shutil.which('false'))


def test_a_pdf_is_printed():
    try:
        browser = page.find_browser()
    except UserError:
        pytest.skip('no Chromium is installed')
    data = page.pdf(page.html(record()), browser)
    assert data.startswith(b'%PDF') and data.rstrip().endswith(b'%%EOF')
