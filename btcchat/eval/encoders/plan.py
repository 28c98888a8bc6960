"""The plan of a comparison: the encoders, the data, and the flags of each training run."""

import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from btcchat import __version__
from btcchat.change_encoder import CHANGE_ENCODERS, CHG_TYPES, check_options, encoder_defaults
from btcchat.checkpoint.hub import resolve
from btcchat.data.mixture import Mixture, build_datasets
from btcchat.data.mixture.facts import facts
from btcchat.data.mixture.hashes import checkpoint_hash, file_hash, joined
from btcchat.data.mixture.stream import StreamMixture
from btcchat.data.mixture.terms import parse_mixture
from btcchat.errors import BTCChatError
from btcchat.eval.runs.metrics import check_scoring
from btcchat.eval.runs.samples import EvalSet, read_sets, trained_on
from btcchat.train.encoder_flags import override
from btcchat.train.presets import Flags, load_preset

SELECT_LAYER = "mm_vision_select_layer"  # may be among the encoder's options: the depths that it reads
# Evaluation flags of a preset are ignored: the last weights of every training are compared, none is selected.
EVALUATION = (
    *("eval_mixture", "eval_strategy", "eval_steps", "metric_for_best_model", "greater_is_better"),
    "i_know_this_is_the_test_split",
)
MATTERS_NOT = {  # flags that affect neither weights nor data, so a finished training need not be repeated
    *("output_dir", "logging_dir", "logging_steps", "disable_tqdm", "resume", "save_strategy", "save_steps"),
    *("save_total_limit", "dataloader_num_workers", "data_root", "mixture_folder", "model_name_or_path", "report_to"),
}


@dataclass(frozen=True)
class ComparedEncoder:
    """A change encoder with its options, one row of the table."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    select_layer: int | list[int] | None = None  # None: as in the start model

    @classmethod
    def parse(cls, text: str) -> "ComparedEncoder":
        """``NAME`` or ``NAME:{"option": value}``. Raises BTCChatError for an unknown name or option."""
        name, colon, written = text.partition(":")
        try:
            options = json.loads(written) if colon else {}
        except json.JSONDecodeError:
            options = None
        if not isinstance(options, dict):
            raise BTCChatError(f"'{text}': expected NAME or NAME:{{\"option\": value}}, with its options as JSON")
        select_layer = options.pop(SELECT_LAYER, None)
        encoder = cls(name, options, select_layer)
        encoder_defaults(encoder.registered)  # raises for an unknown name
        check_options(encoder.registered, options)
        return encoder

    @property
    def registered(self) -> str:
        """The name in CHANGE_ENCODERS; ``name`` may be a published one."""
        return CHG_TYPES.get(self.name, self.name)

    @property
    def label(self) -> str:
        options = self._options()
        return " ".join([self.name, *(f"{key}={json.dumps(value)}" for key, value in options.items())])

    @property
    def folder(self) -> str:
        """The name of its folder in OUT: readable, and unique for every choice of options."""
        if not (options := self._options()):
            return self.name
        digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:6]
        return f"{re.sub(r'[^A-Za-z0-9._=-]+', '_', self.label)[:60]}-{digest}"

    def _options(self) -> dict[str, Any]:
        depths = {} if self.select_layer is None else {SELECT_LAYER: self.select_layer}
        return {**self.options, **depths}

    def flags(self) -> Flags:
        """The flags of `btcchat train` that initialise it."""
        change = self.registered != "concat"
        found: Flags = {"fresh_change_encoder": True, "from_origin": False, "chg_type": self.name, "chg": change}
        found |= {"cc_args": json.dumps(dict(self.options))} if self.options else {}
        return found | ({} if self.select_layer is None else {SELECT_LAYER: json.dumps(self.select_layer)})

    def code(self) -> str:
        """A hash of its source code: its file, or all files of the package if it is not ours."""
        module = CHANGE_ENCODERS.find(self.registered).__module__
        package = module.partition(".")[0]
        roots = [] if package == "btcchat" else list(getattr(sys.modules.get(package), "__path__", []))
        files = [file for root in roots for file in sorted(Path(root).rglob("*.py"))]
        source = getattr(sys.modules.get(module), "__file__", None)
        own = [Path(source)] if source and not files else files
        return joined([file_hash(file) for file in own])


@dataclass(frozen=True)
class ComparisonPlan:
    """All settings of a comparison. docs/data.md describes how to write a mixture."""

    encoders: Sequence[ComparedEncoder]
    data: str  # the mixture that they are trained on
    out: Path
    evaluated: str | None = None  # the mixture that they are compared on; None for the val splits of ``data``
    start: str = "tiny"  # the model whose tower, projector and language model they share
    preset: str = "tiny/3_llm"
    flags: Mapping[str, str] = field(default_factory=dict)  # of training, instead of the preset's
    steps: int | None = None
    epochs: float | None = None
    seeds: int = 3
    data_root: str | None = None
    mixture_folder: str | None = None
    allow_test: bool = False
    jobs: int = 1
    repeats: int = 20  # timings of a batch
    java: str | None = None

    @property
    def where(self) -> dict[str, str | None]:
        """data_root and folder of `read_sets`."""
        return {"data_root": self.data_root, "folder": self.mixture_folder}

    @property
    def mixture(self) -> str:
        """What is evaluated."""
        return val_splits(self.data) if self.evaluated is None else self.evaluated

    def training(self, encoder: ComparedEncoder, seed: int, folder: Path) -> Flags:
        """The flags of one `btcchat train`, from the preset and from the comparison."""
        ours: Flags = {
            "use_cpu": not torch.cuda.is_available(),
            "save_strategy": "no",
            "disable_tqdm": True,
            "series_change_tokens": False,  # not supported by every encoder
            "video_change_tokens": False,
            **self.flags,
            **encoder.flags(),
            "model_name_or_path": self.start,
            "data_mixture": self.data,
            "data_root": self.data_root,
            "mixture_folder": self.mixture_folder,
            "seed": seed,
            "data_seed": seed,
            "random_batches": True,  # batches by length would depend on the encoder's tokens
            "resume": True,
            "output_dir": folder,
        }
        ours |= {} if self.epochs is None else {"num_train_epochs": self.epochs, "max_steps": None}
        ours |= {} if self.steps is None else {"max_steps": self.steps}
        flags = override(load_preset(self.preset), ours) | ours
        return {name: value for name, value in flags.items() if name not in EVALUATION}

    def check(self) -> list[EvalSet]:
        """Return the sets to evaluate. Raises BTCChatError for faults that would otherwise be found after hours."""
        if not self.encoders:
            raise BTCChatError("no change encoder is given; name at least one")
        labels = [encoder.label for encoder in self.encoders]
        if repeated := next((label for label in labels if labels.count(label) > 1), None):
            raise BTCChatError(f"'{repeated}' is named twice; each encoder is one row of the table")
        if self.steps is not None and self.epochs is not None:
            raise BTCChatError("--steps and --epochs both set the length of each training run; give only one of them")
        owned = {*ComparedEncoder("x", {"a": 1}, 1).flags(), *EVALUATION, "seed", "data_seed", "data_mixture"}
        owned |= {"model_name_or_path", "output_dir", "random_batches", "max_tokens_per_batch", "data_root"}
        for name in self.flags:
            if name in owned:
                raise BTCChatError(f"--set {name}: this flag is set by the comparison; leave it out")
        sets = self._evaluated_sets()
        if trained := trained_on(sets, self.data, self.mixture_folder):
            raise BTCChatError(
                f"{trained[0]} is in --data, and scores on training samples are meaningless; name other samples with "
                "--eval MIXTURE"
            )
        tests = [one.name for one in sets if one.is_test]
        if tests and not self.allow_test:
            raise BTCChatError(
                f"{tests[0]} is a test split; compare on a val split while choosing, or add "
                "--i-know-this-is-the-test-split; the table will mention it"
            )
        check_scoring(sets, java=self.java)
        return sets

    def _evaluated_sets(self) -> list[EvalSet]:
        try:
            return read_sets(self.mixture, split="val", **self.where)
        except BTCChatError as error:
            if self.evaluated is not None:
                raise
            raise BTCChatError(f"{error}; name the samples to evaluate with --eval MIXTURE") from error


def val_splits(mixture: str) -> str:
    """The names of a mixture without split, sampling and repeats, for `read_sets` to read their val splits."""
    names = [text.partition("@")[0].strip() for text, _ in parse_mixture(mixture)]
    return "+".join(dict.fromkeys(re.sub(r":(train|val)$", "", name) for name in names))


def conditions(plan: ComparisonPlan) -> dict[str, Any]:
    """What all training runs depend on besides flags and encoder; a run under other conditions is not reused."""
    mixture: Mixture[None] | StreamMixture[None]
    mixture = build_datasets(plan.data, lambda record: None, data_root=plan.data_root, folder=plan.mixture_folder)
    return {
        "start": checkpoint_hash(resolve(plan.start)),
        "data": json.loads(json.dumps(facts(mixture), default=str)),
        "btcchat": __version__,
        "torch": torch.__version__,
    }


def identity(plan: ComparisonPlan, encoder: ComparedEncoder, seed: int, shared: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that one training run depends on, as JSON. shared: `conditions`."""
    flags = {name: str(v) for name, v in plan.training(encoder, seed, Path()).items() if name not in MATTERS_NOT}
    return {"flags": flags, "encoder's code": encoder.code(), **shared}


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The first difference between two `identity`, as text for the log; None if they are the same."""
    flags = {**before.get("flags", {}), **now["flags"]}
    for name in flags:
        old, new = (one.get("flags", {}).get(name) for one in (before, now))
        if old != new:
            return f"--{name} was {old} and is {new}"
    return next((f"{name} has changed" for name in now if before.get(name) != now[name]), None)
