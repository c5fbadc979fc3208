"""A command line that begins a folder, says so and waits, for tests that end it in every way: hold_folder.py FOLDER."""
import os
import signal
import sys

from dnnlib import cli
from dnnlib.util import atomic_folder


def main(args):
    with atomic_folder(args.folder) as temporary:
        with open(os.path.join(temporary, 'half'), 'w') as file:
            file.write('written')
        print('begun', flush=True)
        sys.stdin.readline()


if __name__ == '__main__':
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it, and so would we
    parser = cli.ArgumentParser(prog='hold_folder.py')
    parser.add_argument('folder', help='the folder to make')
    cli.run(parser, main)
