"""``btcchat data list``: the data sets and mixtures that are known."""

import argparse

from btcchat.commands.options import RAW, Commands

DESCRIPTION = """\
Print the data sets and mixtures that --data_mixture knows, those of your own included. Nothing is read but their YAML.

  btcchat data list
  btcchat data list --mixture-folder my_sets"""


def add(commands: Commands) -> None:
    about = "print the data sets and mixtures that are known"
    parser = commands.add_parser("list", help=about, description=DESCRIPTION, **RAW)
    parser.add_argument("--mixture-folder", "--mixture_folder", metavar="DIR", help="folder of YAML files of your own")
    parser.add_argument("-v", "--verbose", action="store_true", help="print more on stderr")
    parser.set_defaults(run=list_data, parser=parser)


def list_data(args: argparse.Namespace) -> int:
    """One line a name: the sets, then the mixtures with what they are made of."""
    from btcchat.data.mixture import known_sets

    known = known_sets(args.mixture_folder)
    width = max(map(len, known)) + 2
    for name in sorted(known, key=lambda name: ("mixture" in known[name], name)):
        description = known[name]
        made_of = f" = {description['mixture']}" if "mixture" in description else ""
        splits = f" (:{' :'.join(description['splits'])})" if "splits" in description else ""
        print(f"{name:{width}}{description.get('description', '')}{splits}{made_of}".rstrip())
    return 0
