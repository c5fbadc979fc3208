"""The owner's desk: issue fingerprinted instances, list and revoke them, attribute images, or see it all in a demo."""
import json

from dnnlib import cli
from dnnlib.util import UsageError, format_time


def make_parser():
    """The command line, one subcommand per task."""
    parser = cli.ArgumentParser(prog='run_release.py', description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND', parser_class=cli.ArgumentParser)
    run = dict(default='results/digits-quickstart', help="the training run's folder")
    registry = dict(default='registry.sqlite', help='SQLite file or database URL of the registry')

    issue = commands.add_parser('issue', help='draw a fingerprint for each user and export their instance',
                                description='Exports OUT/NAME/1, a SavedModel for TF Serving, for each new user.')
    issue.add_argument('name', nargs='+', metavar='NAME', help='new users')
    issue.add_argument('--run', **run)
    issue.add_argument('--registry', **registry)
    issue.add_argument('--out', default='instances', help='folder of all instances')
    issue.add_argument('--kimg', type=int, help='snapshot to issue from: the latest if not given; '
                       'once issued from, a registry stays with its snapshot')

    listing = commands.add_parser('list', help='show the users of a registry', description='Shows who has an instance.')
    listing.add_argument('--registry', **registry)
    listing.add_argument('--json', action='store_true', help='one JSON object per user')

    revoke = commands.add_parser('revoke', help='note that an instance is revoked', description='Marks a user as '
                                 'revoked. Their images are attributed as before: copies are out there.')
    revoke.add_argument('name', metavar='NAME', help='the user')
    revoke.add_argument('--reason', default='', help='why, for the record')
    revoke.add_argument('--registry', **registry)

    attribute = commands.add_parser('attribute', help='name the users whose instances drew these images',
                                    description='Decodes image files and names their users, or "no user".')
    attribute.add_argument('image', nargs='+', metavar='IMAGE', help='image files')
    attribute.add_argument('--run', **run)
    attribute.add_argument('--registry', **registry)
    attribute.add_argument('--fpr', type=float, default=1e-6, help='accepted chance, over all users together, of '
                           'naming anyone for an image that no instance drew')
    attribute.add_argument('--json', action='store_true', help='one JSON object per image')

    demo = commands.add_parser('demo', help='train on digits, issue two users, attribute their images',
                               description='The whole path on bundled data, on the CPU, in about 10 minutes.')
    demo.add_argument('--out', default='results/demo', help='folder for everything; the same command resumes')
    demo.add_argument('--total-kimg', type=int, help='shorter or longer training than the quickstart preset')
    return parser


def issue_command(args):
    from fingerprints.registry import Registry, check_name
    from release.instance import issue, issuing_snapshot
    for name in args.name:
        check_name(name)
    if len(set(args.name)) < len(args.name):
        raise UsageError('the same name twice; every user has one instance')
    registry = Registry(args.registry, create=True)
    snapshot = issuing_snapshot(args.run, registry, args.kimg)
    for name in args.name:
        folder, digest = issue(args.run, registry, name, args.out, snapshot=snapshot)
        print(f'issued {name}: {folder}  sha256 {digest[:16]}…  ({snapshot.config.fingerprint_bits} bits, '
              f'snapshot {snapshot.kimg} kimg)')


def list_command(args):
    import dataclasses

    from fingerprints.registry import Registry
    users = Registry(args.registry).list()
    for user in users:
        if args.json:
            print(json.dumps(dataclasses.asdict(user)))
        else:
            state = f'revoked {user.revoked_at} {user.reason}'.strip() if user.revoked_at else 'active'
            print(f'{user.name:20}  issued {user.issued_at}  sha256 {user.digest[:16]}…  {state}')
    if not users:
        print('no users yet')


def revoke_command(args):
    from fingerprints.registry import Registry
    Registry(args.registry).revoke(args.name, args.reason)
    print(f'revoked {args.name}; images of that instance are still attributed')


def attribute_command(args):
    from fingerprints.registry import Registry
    from fingerprints.statistics import check_fpr
    from release.attribute import Attributor
    check_fpr(args.fpr)
    failed = 0
    for result in Attributor(args.run, Registry(args.registry))(args.image, args.fpr):
        failed += result.error is not None
        print(json.dumps(result.record()) if args.json else describe(result))
    return 1 if failed else 0


def describe(result):
    """One line for a release.attribute.Result."""
    if result.error:
        return f'{result.path}: error: {result.error}'
    found = result.attribution
    named = f'user {found.user}' if found.user else f'no user (nearest {found.best_user})'
    return (f'{result.path}: {named}  {found.matching} of {found.bits} bits match  '
            f'p {found.p_value:.2g}, corrected for {found.users} users')


def demo_command(args):
    from experiments.demo import demo
    seconds = demo(args.out, args.total_kimg)
    print(f'done in {format_time(seconds)}; everything is in {args.out}')


COMMANDS = {'issue': issue_command, 'list': list_command, 'revoke': revoke_command, 'attribute': attribute_command,
            'demo': demo_command}


if __name__ == '__main__':
    cli.run(make_parser(), lambda args: COMMANDS[args.command](args))
