"""``btcchat data list``: list the known data sets and mixtures."""

import argparse

from btcchat.commands.options import RAW, Commands

DESCRIPTION = """\
Print the data sets and mixtures that --data_mixture accepts, including your own. Only their YAML is read.

  btcchat data list
  btcchat data list --mixture-folder my_sets"""


def add(commands: Commands) -> None:
    about = "list the known data sets and mixtures"
    parser = commands.add_parser("list", help=about, description=DESCRIPTION, **RAW)
    parser.add_argument("--mixture-folder", "--mixture_folder", metavar="DIR", help="folder of your own YAML files")
    parser.add_argument("-v", "--verbose", action="store_true", help="print more on stderr")
    parser.set_defaults(run=list_data, parser=parser)


def list_data(args: argparse.Namespace) -> int:
    """Print one line per name: the sets, then the mixtures with their content."""
    from btcchat.data.mixture import known_sets

    known = known_sets(args.mixture_folder)
    width = max(map(len, known)) + 2
    for name in sorted(known, key=lambda name: ("mixture" in known[name], name)):
        description = known[name]
        made_of = f" = {description['mixture']}" if "mixture" in description else ""
        splits = f" (:{' :'.join(description['splits'])})" if "splits" in description else ""
        print(f"{name:{width}}{description.get('description', '')}{splits}{made_of}".rstrip())
    return 0
