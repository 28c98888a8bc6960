"""``btcchat train``: train with a preset or flags, without a shell script."""

import argparse

from btcchat.commands.options import RAW, Commands

TRAIN = """\
Train in this process, on the CPU or one GPU. For several processes see docs/training.md.

  btcchat train --list                                     list the presets
  btcchat train tiny/1_align                               train with one of them
  btcchat train release/3b/sft --learning_rate 5e-5        override a flag
  btcchat train release/3b/sft --smoke                     try it out: two steps, random weights, synthetic scenes, CPU
  btcchat train mine.yaml --resume True                    your own preset; resumes an interrupted run
  btcchat train tiny/2_change_encoder --plugin my_package --chg_type mine    use a part from a plugin
  btcchat train --model_name_or_path CHECKPOINT --data_mixture levir_cc --tune_mm_projector True --output_dir OUT

`python -m btcchat.train.train_mem --help` lists the flags."""


def add(commands: Commands) -> None:
    # Without prefix characters every word is a positional argument; flags are parsed later, when torch may be imported.
    usage = "btcchat train [PRESET] [--plugin MODULE] [--FLAG VALUE ...]"
    plain = RAW | {"prefix_chars": "\0", "add_help": False, "usage": usage}
    parser = commands.add_parser("train", help="train a model, from a preset or from flags", description=TRAIN, **plain)
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    parser.set_defaults(run=run, parser=parser, verbose=True, loads_plugins=True)


def run(args: argparse.Namespace) -> int:
    from btcchat.train.presets import presets, summary

    words = args.words
    if not words or words[0] in ("-h", "--help"):
        args.parser.print_help()
    elif words[0] == "--list":
        shipped = presets()
        width = max(len(name) for name in shipped) + 2
        for name, path in shipped.items():
            print(f"{name:{width}}{summary(path)}")
    else:
        from btcchat.train.train_mem import run as train

        train(words if words[0].startswith("-") else ["--preset", *words], args.plugins)
    return 0
