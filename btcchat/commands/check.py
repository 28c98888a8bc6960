"""``btcchat check``: check whether a change encoder, vision tower or projector fulfils its contract."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from btcchat.commands.options import RAW, Commands, at_least_1
from btcchat.errors import BTCChatError, choose

if TYPE_CHECKING:
    from btcchat.contract.findings import Check, Finding

CHECK = """\
Check your own part against its contract, with small forward passes through new instances; no checkpoint is needed.

  btcchat check change_encoder my_package:MyEncoder --option gain=0.5
  btcchat check change_encoder attentive
  btcchat check projector my_package:MyProjector
  btcchat check vision_tower my_package:MyTower --option hidden_size=64

The exit code is 0 if every check passes, with or without warnings, and 3 if one fails."""
FAILED = 3


def add(commands: Commands) -> None:
    about = "check a change encoder, vision tower or projector of your own"
    parser = commands.add_parser("check", help=about, description=CHECK, **RAW)
    add = parser.add_argument
    add("kind", choices=tuple(CHECKS), metavar="KIND", help=", ".join(CHECKS))
    add("part", metavar="PART", help="MODULE:CLASS to import (also from the current folder), or a registered name")
    options = "an option of its constructor, as JSON or text; for a vision tower, a key of its config (repeatable)"
    add("--option", action="append", default=[], metavar="NAME=VALUE", help=options)
    sizes = parser.add_argument_group("sizes of a vision tower that a change encoder must work with")
    sizes.add_argument("--grid", type=at_least_1, metavar="N", help="tokens per side (default: only small grids)")
    sizes.add_argument("--num-depths", type=at_least_1, metavar="N", help="selected layers (default 1)")
    sizes.add_argument("--hidden-size", type=at_least_1, metavar="N", help="maximum channels of a token (default 1024)")
    add("--json", action="store_true", help="print JSON")
    add("-v", "--verbose", action="store_true", help="print more on stderr")
    parser.set_defaults(run=run, parser=parser)


def run(args: argparse.Namespace) -> int:
    from btcchat.contract.findings import failed, run_checks

    options = dict(_option(text) for text in args.option)
    if args.kind != "change_encoder" and any((args.grid, args.num_depths, args.hidden_size)):
        raise BTCChatError("--grid, --num-depths and --hidden-size are for btcchat check change_encoder")
    with _current_folder():
        part = _imported(args.part) if ":" in args.part else None
        checks_of, device = CHECKS[args.kind], _device()
        findings = run_checks(checks_of(args, part, options, device), device)
        constructor = findings[:1]
        if options and failed(constructor) and not failed(run_checks(checks_of(args, part, {}, device)[:1])):
            raise BTCChatError(findings[0].found.rpartition("; expected ")[0])
    if args.json:
        rows = [vars(finding) for finding in findings]
        result = {"kind": args.kind, "part": args.part, "options": options, "passed": not failed(findings)}
        print(json.dumps({**result, "checks": rows}, ensure_ascii=False))
    else:
        print(_table(findings))
    return FAILED if failed(findings) else 0


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise BTCChatError(f"--option {text}: expected NAME=VALUE, such as gain=0.5")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


@contextmanager
def _current_folder() -> Iterator[None]:
    """Also search the current folder for modules, after all others."""
    folder = os.getcwd()
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _imported(text: str) -> Any:
    """The class of ``MODULE:CLASS``. Its code is run, since the user named it."""
    import importlib
    import inspect

    from btcchat.contract.construct import brief
    from btcchat.plugins.load import check_name, missing

    module_name, _, name = text.partition(":")
    check_name(module_name, "module")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        if absent := missing(module_name, error):
            way_out = "install it, add its folder to PYTHONPATH, or run the command in its folder"
            raise BTCChatError(f"there is no module '{absent}'; {way_out}") from error
        raise BTCChatError(f"module '{module_name}' cannot be imported: {brief(error)}") from error
    classes = {key: value for key, value in vars(module).items() if inspect.isclass(value)}
    return choose(f"class of module '{module_name}'", name, classes)


# -- one function per kind ---------------------------------------------------------------------------------------------


def _change_encoder(args: argparse.Namespace, part: Any, options: dict[str, Any], device: str) -> "list[Check]":
    from functools import partial

    from btcchat.change_encoder import CHANGE_ENCODERS, CHG_TYPES
    from btcchat.change_encoder.contract import KIND, WIDTHS, Sizes, encoder_checks
    from btcchat.registry import build_part

    name = CHG_TYPES.get(args.part, args.part)
    part = CHANGE_ENCODERS.find(name) if part is None else part
    sizes = None
    if any((args.grid, args.num_depths, args.hidden_size)):
        sizes = Sizes(args.hidden_size or WIDTHS[-1], args.grid or 4, args.num_depths or 1)
    return encoder_checks(partial(build_part, KIND, name, part, options), sizes, device=device, saved=True)


def _projector(args: argparse.Namespace, part: Any, options: dict[str, Any], device: str) -> "list[Check]":
    from functools import partial

    from btcchat.multimodal_projector import PROJECTORS, build_projector
    from btcchat.multimodal_projector.contract import KIND, projector_checks
    from btcchat.registry import build_part

    part = PROJECTORS.get(args.part) if part is None else part
    if part is None or args.part == "mlpNx_gelu":  # a family of projectors, such as mlp2x_gelu, or unknown
        make: Callable[..., Any] = partial(build_projector, {"mm_projector_type": args.part, **options})
        make(in_features=8, out_features=8)
    else:
        make = partial(build_part, KIND, args.part, part, options)
    return projector_checks(make, device=device, saved=True)


def _vision_tower(args: argparse.Namespace, part: Any, options: dict[str, Any], device: str) -> "list[Check]":
    from btcchat.contract.construct import construct
    from btcchat.multimodal_encoder import VISION_TOWERS
    from btcchat.multimodal_encoder.contract import KIND, tower_checks

    part = VISION_TOWERS.find(args.part) if part is None else part

    def make(select_layer: int | list[int]) -> Any:
        config = {"vision_tower_type": args.part, **options}
        selected: dict[str, Any] = {"select_layer": select_layer, "select_feature": "cls_patch"}
        return construct(KIND, args.part, part, config, **selected)

    return tower_checks(make, device=device)


CHECKS = {"change_encoder": _change_encoder, "vision_tower": _vision_tower, "projector": _projector}


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


# -- printed output ----------------------------------------------------------------------------------------------------


def _table(findings: "Sequence[Finding]") -> str:
    rows = [("check", "result", "found"), *((one.check, one.result, one.found) for one in findings)]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    counts = {result: sum(one.result == result for one in findings) for result in ("pass", "warn", "fail")}
    total = ", ".join(f"{count} {result}" for result, count in counts.items() if count)
    checks = "1 check" if len(findings) == 1 else f"{len(findings)} checks"
    return "\n".join([*(f"{a:{widths[0]}}  {b:{widths[1]}}  {c}" for a, b, c in rows), f"{checks}: {total}"])
