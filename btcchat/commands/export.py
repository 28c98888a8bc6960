"""``btcchat export``: a model in another form."""

import argparse
import shutil
from pathlib import Path

from btcchat.commands.options import RAW, Commands
from btcchat.errors import BTCChatError, choose

EXPORT = """\
Write a model in another form.

  btcchat export --merge ADAPTER OUT         merge a LoRA adapter with its base into a plain checkpoint
  btcchat export --llava-next MODEL OUT      a folder that the code of CCExpert and LLaVA-OneVision can read
  btcchat export --quantize KIND MODEL OUT   large weights in int8 or int4, for a CPU (docs/quantize.md)
  btcchat export --change-threshold RUN MODEL OUT
                                             a copy with the threshold that RUN, of btcchat eval --masks, chose for
                                             its change maps (docs/scenes.md)"""
OTHERS = {
    "merge": ("vision_tower",),
    "llava_next": ("base", "dtype"),
    "quantize": ("base", "dtype", "vision_tower"),
    "change_threshold": ("base", "dtype", "vision_tower"),
}


def add(commands: Commands) -> None:
    parser = commands.add_parser("export", help="write a model in another form", description=EXPORT, **RAW)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--merge", metavar="ADAPTER", help="an adapter folder; its base is loaded with it")
    what.add_argument("--llava-next", metavar="MODEL", help="a model with only parts that a LLaVA-NeXT folder supports")
    bits = "KIND is int8 or int4; a model whose weights are not quantised yet"
    what.add_argument("--quantize", nargs=2, metavar=("KIND", "MODEL"), help=bits)
    threshold = "RUN is the folder of btcchat eval MODEL SET:val --masks"
    what.add_argument("--change-threshold", nargs=2, metavar=("RUN", "MODEL"), help=threshold)
    parser.add_argument("out", metavar="OUT", help="folder to write; it must not exist")
    base = "with --merge: new location of the base (default: where it was in training)"
    parser.add_argument("--base", metavar="PATH_OR_ID", help=base)
    types = ("auto", "float32", "bfloat16", "float16")
    parser.add_argument(
        "--dtype", choices=types, help="with --merge: precision of the weights (default auto: the base's)"
    )
    tower = "with --llava-next: the tower that the other code should build (default: the one MODEL was imported with)"
    parser.add_argument("--vision-tower", metavar="PATH_OR_ID", help=tower)
    parser.set_defaults(run=run, parser=parser)
    parser.add_argument("-v", "--verbose", action="store_true", help="print more on stderr")


def run(args: argparse.Namespace) -> int:
    for name in next(others for export, others in OTHERS.items() if getattr(args, export) is not None):
        if getattr(args, name) is not None:
            raise BTCChatError(f"--{name.replace('_', '-')} cannot be used with this export; see btcchat export --help")
    if args.merge is not None:
        return _merge(args)
    if args.quantize is not None:
        return _quantize(args.quantize[0], args.quantize[1], args.out)
    if args.change_threshold is not None:
        from btcchat.eval.maps.calibrate import export_calibrated

        run, model = args.change_threshold
        threshold = export_calibrated(run, model, args.out)
        print(f"{args.out}: changed is what has more than {threshold['value']}, chosen on {threshold['chosen_on']}")
        return 0
    from btcchat.checkpoint.relayout import export_llava_next

    export_llava_next(args.llava_next, args.out, vision_tower=args.vision_tower)
    print(f"{args.out}: {args.llava_next} as a LLaVA-NeXT folder")
    return 0


def _merge(args: argparse.Namespace) -> int:
    if Path(args.out).exists():
        raise BTCChatError(f"{args.out} already exists; give a new folder")
    import torch

    from btcchat import BTCChat
    from btcchat.checkpoint import adapter
    from btcchat.checkpoint.folder import open_folder
    from btcchat.checkpoint.hub import resolve
    from btcchat.checkpoint.load import DTYPES, stored_dtype
    from btcchat.eval.runs.evaluate import SELECTION

    folder = resolve(args.merge)
    if adapter.read_base(folder) is None:
        raise BTCChatError(f"{args.merge} is already a plain checkpoint, not an adapter; there is nothing to merge")
    # Added in float32: half precision would round small updates twice.
    model = BTCChat.from_pretrained(folder, base=args.base, device="cpu", dtype=torch.float32)
    stored = args.dtype or "auto"
    if stored == "auto":
        stored = stored_dtype(open_folder(folder, base=args.base).llm_folder)
    adapter.merge(model)
    model.save_pretrained(args.out, dtype=DTYPES[stored])
    if (folder / SELECTION).is_file():
        shutil.copy(folder / SELECTION, args.out)  # how it was chosen, which evaluations report
    print(f"{args.out}: {args.merge} merged, in {stored}")
    return 0


def _quantize(kind: str, path: str, out: str) -> int:
    choose("quantize", kind, dict.fromkeys(("int8", "int4")))
    if Path(out).exists():
        raise BTCChatError(f"{out} already exists; give a new folder")
    import torch

    from btcchat import BTCChat
    from btcchat.checkpoint import adapter
    from btcchat.checkpoint.folder import open_folder
    from btcchat.checkpoint.hub import resolve
    from btcchat.checkpoint.load import DTYPES, stored_dtype

    folder = resolve(path)
    if adapter.read_base(folder) is not None:
        raise BTCChatError(f"{path} is an adapter; merge it first: btcchat export --merge {path} OUT")
    source = open_folder(folder)
    if source.config.quantization is not None:
        raise BTCChatError(
            f"{path} is already {source.config.quantization['kind']}; give the checkpoint it was made from"
        )
    model = BTCChat.from_pretrained(folder, device="cpu", dtype=torch.float32, quantize=kind)
    model.save_pretrained(out, dtype=DTYPES.get(stored_dtype(source.llm_folder)))
    parts = model.config.quantization["parts"] if model.config.quantization else []
    names = " and ".join(part.replace("_", " ").replace("llm", "language model") for part in parts)
    print(f"{out}: {path} with the {names} in {kind}")
    return 0
