"""The chain in the small world: captions, tags, labels, training. `scoring.py` scores what it trains.

Each stage does what one of the project's commands does, with these arguments. It leaves files behind and
is skipped where they are. `demo.py` and `ablations.py` run it.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from common.errors import UserError
from common.flags import command_line
from common.storage import Folder
from labels.build import build
from labels.settings import BOTH
from labels.settings import Settings as LabelSettings
from parsing.job.run_folder import MANIFEST, RunFolder
from parsing.llm import student
from parsing.tags import Parsed, tags_table
from training.runs import PROJECTOR
from training.settings import Settings as TrainSettings
from training.tag_check.check import check_tags
from training.tag_check.page import section
from training.tag_check.settings import Settings as CheckSettings
from training.trainer import train
from workflows.shapes.dataset import Settings as WorldSettings
from workflows.shapes.dataset import write_world, written_whole
from workflows.sizes import Sizes

ROOT = Path(__file__).resolve().parents[1]
CLIP = ROOT / "workflows/shapes/clip"
TAG_LIST = ROOT / "workflows/shapes/tag_list.txt"
LLM, TAG2TEXT, GOLD = "llm", "tag2text", "gold"
PARSERS = (LLM, "nltk", "spacy", TAG2TEXT, GOLD)
ABOUT = "chain.json"
# For thousands of 64-pixel scenes and a CLIP of five blocks; all other settings are the paper's.
TRAINING: dict[str, Any] = {
    "batch_size": 250,
    "micro_batch": 250,
    "epochs": 4,
    "lr": 0.048,  # the trainer scales it with the batch: 2.9e-3 at 250
    "min_scale": 0.5,
    "normalisation": "clip",  # this world's CLIP was trained so, and no weights of others are compared
    "depth": 5,
    "log_every": 2,
    "save_every": 1_000_000,
    "workers": 1,
}


@dataclass(frozen=True)
class Recipe:
    """The settings of one training in the small world.

    Attributes:
        parser: whose tags, one of `PARSERS`.
        kinds: `object` or `both`.
        k: tags of each kind in the vocabulary.
        changes: settings of `training/train.py` that differ from `TRAINING`, as (name, value).
        seed: of order, augmentation and initial weights.
    """

    parser: str = LLM
    kinds: str = BOTH
    k: int = 200
    changes: tuple[tuple[str, Any], ...] = ()
    seed: int = 0

    @property
    def labels(self) -> str:
        return f"{self.parser}-{self.kinds}-k{self.k}"

    @property
    def name(self) -> str:
        changes = "".join(f"-{name}={value}" for name, value in self.changes)
        return f"{self.labels}{changes}-seed{self.seed}"


@dataclass(frozen=True)
class Stage:
    """What a stage did and how long it took.

    Attributes:
        command: what a person would type for it.
        seconds: wall clock.
    """

    command: str
    seconds: float


@dataclass
class Chain:
    """The stages in one folder.

    Args:
        folder: where everything goes.
        sizes: of the world; they cannot change once the folder is begun.
        say: called with each command as its stage begins.

    Attributes:
        stages: those that ran in this or an earlier process, by name.

    Raises:
        UserError: the folder was begun with other sizes.
    """

    folder: Path
    sizes: Sizes = field(default_factory=Sizes)
    say: Callable[[str], None] = print
    stages: dict[str, Stage] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._files = Folder(str(self.folder))
        self._files.make()
        if self._files.exists(ABOUT):
            about = self._files.read_json(ABOUT)
            if about["sizes"] != asdict(self.sizes):
                raise UserError(
                    f"{self.folder} was begun with other sizes: remove it, or name another --out"
                )
            self.stages = {name: Stage(**stage) for name, stage in about["stages"].items()}
        self._save()

    @property
    def world(self) -> Path:
        return self.folder / "world"

    def make_world(self) -> None:
        """Writes scenes with captions and gold tags, two benchmarks, and scenes for thresholds."""
        sizes = self.sizes
        for name, *numbers in (
            ("world", sizes.train, sizes.held_out, sizes.world),
            ("tuning", 1, sizes.tuning, sizes.world + 1),
        ):
            settings = WorldSettings(str(self.folder / name), *numbers)
            if not (Path(settings.out) / "world.json").exists():
                with self.stage(name, command_line("workflows/shapes/make.py", settings)):
                    write_world(settings)

    def tags(self, parser: str) -> Path:
        """The captions' tags by a parser, as `parsing/run.py` writes them; `gold` are the scenes' own."""
        out = self.folder / "tags" / parser
        if (out / MANIFEST).exists() and RunFolder(str(out)).manifest().get("finished"):
            return out
        if parser == GOLD:
            return self._gold_tags(out)
        arguments = ["--captions", f"{self.world}/train", "--parser", parser, "--output", str(out)]
        arguments += ["--shard-size", "500"]
        if parser == LLM:
            arguments += ["--model", student.NAME]  # also where GPUs could run a larger one
        if parser == TAG2TEXT:
            arguments += ["--tag-list", str(TAG_LIST.relative_to(ROOT))]
        self._command(f"tags {parser}", ["parsing/run.py", *arguments])
        return out

    def labels(self, recipe: Recipe) -> Path:
        """The label file of a recipe."""
        out = self.folder / "labels" / f"{recipe.labels}.parquet"
        tags = self.tags(recipe.parser)
        if not out.exists():
            settings = LabelSettings((str(tags),), str(out), recipe.k, kinds=recipe.kinds)
            command = command_line("labels/build_vocab.py", settings)
            with self.stage(f"labels {recipe.labels}", command):
                build(settings, note=lambda sentence: None)
        return out

    def run(self, recipe: Recipe) -> Path:
        """The folder of a recipe's finished training."""
        runs = self.folder / "runs"
        out = runs / recipe.name
        labels = self.labels(recipe)
        if (out / PROJECTOR).exists():
            return out
        shutil.rmtree(out, ignore_errors=True)  # cut off, and it takes a minute: begin again
        settings = TrainSettings(
            labels=str(labels),
            images=f"{self.world}/train",
            runs=str(runs),
            name=recipe.name,
            cache=str(self.folder / "cache"),
            model=str(CLIP),
            weights=None,
            seed=recipe.seed,
            precision=fast_precision(),
            **TRAINING | dict(recipe.changes),
        )
        shown = replace(settings, model=str(CLIP.relative_to(ROOT)), weights=TrainSettings.weights)
        with self.stage(f"run {recipe.name}", command_line("training/train.py", shown)):
            train(settings)
        return out

    def check(self, recipe: Recipe) -> str:
        """Checks a recipe's tags against the pictures; what it did, as a section of an HTML page."""
        labels = self.labels(recipe)
        shown = labels.with_name(f"{labels.stem}-seen.section.html")
        if not shown.exists():
            settings = CheckSettings(
                labels=str(labels),
                images=f"{self.world}/train",
                out=str(labels.with_name(f"{labels.stem}-seen.parquet")),
                cache=str(self.folder / "cache"),
                model=str(CLIP),
                weights=None,
                depth=TRAINING["depth"],
                workers=TRAINING["workers"],
                page=8,
            )
            typed = replace(
                settings, model=str(CLIP.relative_to(ROOT)), weights=CheckSettings.weights
            )
            command = command_line("training/check_tags.py", typed)
            with self.stage(f"check {recipe.labels}", command):
                checked = check_tags(settings)
                assert checked is not None  # a single process is the first rank
                Folder(shown.parent).write(shown.name, section(checked).encode())
        return shown.read_text("utf-8")

    def _gold_tags(self, out: Path) -> Path:
        """The scenes' own tags, laid out as a run; captions and index are copied from another run."""
        like = self.tags("spacy")
        shutil.rmtree(out, ignore_errors=True)
        stage = self.stage("tags gold", f"(the gold tags of {self.world}/gold.jsonl)")
        with stage, written_whole(out) as aside:
            for part in ("captions", "index"):
                shutil.copytree(like / part, aside / part)
            folder, read = RunFolder(str(aside)), RunFolder(str(like))
            gold = {one["caption"]: one for one in _lines(self.world / "gold.jsonl")}
            for shard in read.committed():
                table = read.read(shard, ["caption_id", "caption"])
                folder.commit(shard, _gold_table(table, gold), {})
            shards = {"shards": len(read.committed()), "finished": True, "fingerprint": {}}
            folder.folder.write_json(MANIFEST, shards)
        return out

    def _command(self, name: str, arguments: Sequence[str]) -> None:
        with self.stage(name, f"python {shlex.join(arguments)}"):
            done = subprocess.run([sys.executable, *arguments], cwd=ROOT, check=False)
            if done.returncode:
                raise UserError(f"{arguments[0]} failed (exit code {done.returncode}): see above")

    @contextmanager
    def stage(self, name: str, command: str) -> Iterator[None]:
        """Shows the command and keeps how long it took."""
        self.say(f"\n$ {command}")
        began = time.perf_counter()
        yield
        self.stages[name] = Stage(command, round(time.perf_counter() - began, 1))
        self._save()

    def _save(self) -> None:
        stages = {name: asdict(stage) for name, stage in self.stages.items()}
        self._files.write_json(ABOUT, {"sizes": asdict(self.sizes), "stages": stages})


def _gold_table(captions: pa.Table, gold: dict[str, dict[str, Any]]) -> pa.Table:
    ids, texts = captions["caption_id"].to_pylist(), captions["caption"].to_pylist()
    parsed = [
        Parsed(gold[text]["objects"], [tuple(pair) for pair in gold[text]["attributes"]])
        for text in texts
    ]
    return tags_table(ids, texts, parsed)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def fast_precision() -> str:
    """bfloat16 where the processor multiplies it, which is several times as fast; see `--precision`."""
    if torch.cuda.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "auto"
    return "bf16"
