"""The page of an evidence report: one HTML file that needs nothing else, runs no script, prints well; and its PDF."""
import base64
import hashlib
import os
import shutil
import subprocess
import tempfile
from typing import Any

import jinja2
from markupsafe import Markup

from dnnlib.util import UserError
from release.evidence.chance import figure
from release.evidence.words import amount, chance_of, counted

FOLDER = os.path.dirname(os.path.abspath(__file__))
BITS_IN_A_ROW = 32
BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
PRINTING_SECONDS = 120


def html(record: dict[str, Any]) -> str:
    """The page of a record (release.evidence.facts). All that it shows is escaped."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, trim_blocks=True,
                                     undefined=jinja2.StrictUndefined)
    with open(os.path.join(FOLDER, 'report.css'), encoding='utf-8') as file:
        style = file.read()
    found = record['attribution']
    others = [one['matching'] for one in record['near'] if one['user'] != found['best_user']]
    chance = figure(found['num_bits'], found['matching'], found['threshold'], others)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template('report.html').render(
        record, style=Markup(style), style_hash=f'sha256-{digest}', chance=chance, bit_rows=bit_rows(record['bits']),
        disagree='0' in record['bits']['agree'], amount=amount, chance_of=chance_of, counted=counted, percent=percent)


def bit_rows(bits: dict[str, str]) -> list[list[tuple[str, list[tuple[str, bool]]]]]:
    """Rows of BITS_IN_A_ROW bits; each is lines of (label, [(bit, whether it agrees)]).

    Without a code there is one line a row, of '=' and '≠'.
    """
    agree = bits['agree']
    if 'code' in bits:
        lines = [('read', bits['read']), ('code', bits['code'])]
    else:
        lines = [('', agree.replace('1', '=').replace('0', '≠'))]
    return [[(label, [(text[i], agree[i] == '1') for i in range(start, min(start + BITS_IN_A_ROW, len(agree)))])
             for label, text in lines] for start in range(0, len(agree), BITS_IN_A_ROW)]


def percent(share: float) -> str:
    """A share as '99.2%', with more digits where it is next to 0 or 1, and never rounded to either."""
    for digits in range(1, 8):
        text = f'{100 * share:.{digits}f}'
        if share in (0, 1) or float(text) not in (0, 100):
            return f'{float(text):g}%' if share in (0, 1) else f'{text}%'
    return f'{100 * share:.2g}%'


def find_browser() -> str:
    """The path of an installed browser that prints. Raises UserError if there is none."""
    for name in BROWSERS:
        path = shutil.which(name)
        if path:
            return path
    raise UserError('--pdf needs Chromium or Chrome, and neither is installed; install one, or print the HTML file '
                    'from any browser')


def pdf(page: str, browser: str) -> bytes:
    """The bytes of a PDF of an HTML page. Raises UserError if the browser prints none."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = (os.path.join(folder, name) for name in ('report.html', 'report.pdf'))
        with open(source, 'w', encoding='utf-8') as file:
            file.write(page)
        # No sandbox: a container's root has none to give, and the page runs no script and loads nothing.
        command = [browser, '--headless', '--no-sandbox', '--disable-gpu', '--no-pdf-header-footer',
                   f'--user-data-dir={folder}/profile', f'--print-to-pdf={target}', f'file://{source}']
        try:
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                           timeout=PRINTING_SECONDS, check=True)
            with open(target, 'rb') as file:
                return file.read()
        except (subprocess.SubprocessError, OSError) as error:
            raise UserError(f'{browser} printed no PDF ({type(error).__name__}); leave --pdf out, and print the HTML '
                            'file from any browser') from None
