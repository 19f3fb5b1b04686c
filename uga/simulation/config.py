"""The configuration of an experiment: a TOML file, every key known, every mistake named."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from uga.errors import UserError
from uga.finetuning.options import TrainingOptions
from uga.model.card import first_problem
from uga.model.choices import EngineChoice, Precision, PrecisionChoice, TrainingPrecisionChoice
from uga.ranking import Exclusion, Strategy
from uga.simulation.oracle import Choosing
from uga.training.cases import Unannotated

SHIPPED_MODEL = "demo"
_CONFIGS = "configs"
_OF_GPUS = "fp16"
_Positive = Annotated[int, Field(ge=1)]
_Count = Annotated[int, Field(ge=0)]
_Size = Annotated[float, Field(gt=0)]
_Name = Annotated[str, Field(pattern=r"^[0-9a-z][0-9a-z-]*$")]


class Strict(BaseModel):
    """Base of all parts: immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class VirtualSlides(Strict):
    """How many virtual slides of each lesion class every centre gives, and how large they are."""

    negative: _Count = 0
    itc: _Count = 0
    micro: _Count = 0
    macro: _Count = 0
    size_um: _Size
    node_um: _Size
    folds: _Count = 0
    blurred_areas: _Count = 0


class VirtualData(Strict):
    """Slides drawn by `uga.virtual`; every slide is another tissue and a patient of its own.

    Attributes:
        centres: Virtual centres that are queried and tested.
        home: Virtual centres that the baseline knows; ``train`` is drawn for each of them.
        train: Slides of each home centre for a baseline that is trained first.
        query: Query pool of each centre.
        test: Test slides of each centre.
        seed: Of the tissues.
    """

    source: Literal["virtual"]
    centres: Annotated[tuple[int, ...], Field(min_length=1)] = (1, 2, 3, 4, 5)
    home: tuple[int, ...] = (1,)
    train: VirtualSlides | None = None
    query: VirtualSlides
    test: VirtualSlides
    seed: Annotated[int, Field(ge=0, lt=1000)] = 0


class CohortData(Strict):
    """The user's own slides, as cohort files of `uga train`; paths are relative to ``--data``.

    Attributes:
        train: Slides for a baseline that is trained first.
        query: Query pools; the column ``centre`` tells them apart.
        test: Untouched slides.
        labels: The model's labels in order, with what means each in a reference.
        unannotated: What area outside all shapes is, where the cohort does not say.
        home: Centres that the baseline knows.
    """

    source: Literal["cohort"]
    train: Path | None = None
    query: Path
    test: Path
    labels: str
    unannotated: Unannotated = "ignore"
    home: tuple[str, ...] = ()


class GlasTiles(Strict):
    """Tiles of GlaS patients that make up a part of a pool; one slide a patient and group."""

    centre: str
    patients: Annotated[tuple[Annotated[int, Field(ge=1, le=16)], ...], Field(min_length=1)]
    grades: Annotated[tuple[Literal["benign", "malignant"], ...], Field(min_length=1)] = ("benign", "malignant")
    shifted: bool = False


class MosaicLayout(Strict):
    """How tiles are laid out on a slide, pixels of the tiles.

    Attributes:
        cell_px: Width and height of the cell each tile lies in, at its top left; what is left of it is blank.
        crop_px: Larger tiles are cut to this width and height, about their centre.
    """

    cell_px: tuple[_Positive, _Positive]
    crop_px: tuple[_Positive, _Positive] | None = None


class GlasData(Strict):
    """The GlaS (Warwick-QU) gland tiles in the folder named by ``--data``; research use only."""

    source: Literal["glas"]
    layout: MosaicLayout
    train: tuple[GlasTiles, ...] = ()
    query: Annotated[tuple[GlasTiles, ...], Field(min_length=1)]
    test: Annotated[tuple[GlasTiles, ...], Field(min_length=1)]


class NucleiTiles(Strict):
    """Images of one group of the nuclei set, taken in a seeded order and never twice."""

    centre: str
    domain: str
    images: _Positive
    shifted: bool = False


class NucleiData(Strict):
    """The bright-field tissue images of BBBC038 in the folder named by ``--data``; no patients are known.

    Attributes:
        layout: Of the slides made of the images.
        images_per_slide: Images of a slide; a slide counts as a patient.
        spacing_um: Pixel size to assume; the images do not state one.
        train: Images of the baseline's training.
        query: Query pools.
        test: Test images.
        seed: Of the order in which images are taken.
    """

    source: Literal["nuclei"]
    layout: MosaicLayout
    images_per_slide: _Positive
    spacing_um: _Size = 1.0
    train: tuple[NucleiTiles, ...] = ()
    query: Annotated[tuple[NucleiTiles, ...], Field(min_length=1)]
    test: Annotated[tuple[NucleiTiles, ...], Field(min_length=1)]
    seed: _Count = 0


class CamelyonData(Strict):
    """Camelyon16 and Camelyon17 in the folder named by ``--data``.

    Attributes:
        train_centres: Centres of Camelyon16 whose slides train the baseline.
        centres: Centres of Camelyon17 that are queried and tested; empty for all.
        home: Of these, the ones that the baseline knows.
        benign_per_annotated: Benign slides of Camelyon17 for each annotated one, centre by centre.
        test_share: Share of each centre's slides that is never queried; patients stay together.
        seed: Of the choice of benign slides and of the split.
    """

    source: Literal["camelyon"]
    train_centres: tuple[str, ...] = ("RUMC",)
    centres: tuple[str, ...] = ()
    home: tuple[str, ...] = ()
    benign_per_annotated: Annotated[float, Field(ge=0)] = 1.0
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    seed: _Count = 0


Data = Annotated[VirtualData | CohortData | GlasData | NucleiData | CamelyonData, Field(discriminator="source")]


class BaselineTraining(Strict):
    """A baseline that is trained first; what is None is the preset's."""

    preset: str = "demo"
    folds: Annotated[int, Field(ge=2)] = 5
    epochs: _Positive | None = None
    iterations: _Positive | None = None
    window_px: Annotated[int, Field(ge=32)] | None = None
    batch_size: _Positive | None = None
    patch_px: Annotated[int, Field(ge=32)] | None = None
    spacing_um: _Size | None = None
    max_per_slide: _Positive | None = None
    """Tumour patches, and benign ones, that a slide gives at most."""
    replay_patches: _Positive = 64
    seed: _Count = 0


class Baseline(Strict):
    """The model that everything starts from: a folder (``demo`` is the shipped one), or one that is trained first."""

    model: str | None = None
    training: BaselineTraining | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Baseline:
        if (self.model is None) == (self.training is None):
            raise ValueError("give either model or the table training")
        return self


class Query(Strict):
    """What can be queried.

    Attributes:
        patch_px: Side of a patch on the working grid.
        stride_px: Step of patch corners; the patch if None.
        exclusion: Rule that drops black and white patches.
        scope: Whether a budget is for each ``centre``, as in the paper, or for the ``cohort``, one pool of all centres.
        per_slide_cap: Patches of one slide at most.
        rarity: Shares of shifted patches; for each a pool with as many is drawn from all patches, with the seed of the
            cell. Empty for one pool of all patches.
        unsure_um: Pixels nearer than this to the border of a label are left unjudged in corrections.
    """

    patch_px: Annotated[int, Field(ge=64)] = 1024
    stride_px: _Positive | None = None
    exclusion: Exclusion = Exclusion.PAPER
    scope: Literal["centre", "cohort"] = "centre"
    per_slide_cap: _Positive | None = None
    rarity: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    unsure_um: Annotated[float, Field(ge=0)] = 0.0


class Grid(Strict):
    """The cells: every strategy with every budget and seed. Budget 0, the baseline, is always there."""

    strategies: Annotated[tuple[Choosing, ...], Field(min_length=1)]
    budgets: Annotated[tuple[_Positive, ...], Field(min_length=1)]
    seeds: Annotated[tuple[_Count, ...], Field(min_length=1)] = (0, 1, 2)

    @model_validator(mode="after")
    def _names_each_once(self) -> Grid:
        for name in ("strategies", "budgets", "seeds"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} holds a value twice")
        return self


_DEFAULTS = TrainingOptions()


class Finetuning(Strict):
    """Options of the fine-tuning of a cell, as of `uga finetune`."""

    epochs: _Positive = _DEFAULTS.epochs
    iterations: _Positive = _DEFAULTS.iterations
    lr: Annotated[float, Field(gt=0, lt=1)] = _DEFAULTS.lr
    mix: Annotated[float, Field(gt=0, le=1)] = _DEFAULTS.mix
    recolour: Annotated[float, Field(ge=0, le=1)] = _DEFAULTS.recolour
    variants: _Positive = _DEFAULTS.variants
    precision: TrainingPrecisionChoice = "auto"
    """On a CPU; ``auto`` is bf16 where the processor has it."""
    guard_patches: _Positive = 24
    """Old patches that the guard compares on; a cell is evaluated whatever the guard says."""

    def options(self, seed: int, precision: Precision) -> TrainingOptions:
        """What decides the weights, with the precision that is computed in."""
        chosen = self.model_dump(exclude={"guard_patches", "precision"})
        return TrainingOptions(**chosen, seed=seed, precision=precision)


class Inference(Strict):
    """How slides are segmented, query pools and test slides alike.

    ``auto`` takes the fastest that gives the same labels; what it took for the query pool is taken for all cells.
    """

    overlap: Annotated[float, Field(ge=0, le=0.9)] = 0.25
    engine: EngineChoice = "auto"
    precision: PrecisionChoice = "auto"


class Evaluation(Strict):
    """What is reported.

    Attributes:
        label: The label whose Dice counts.
        shown_as: What readers are told that label is.
        centres: Centres whose mean is the headline; empty for all.
        compare_with: The strategy that all others are compared with.
        resamples: Bootstrap resamples.
        level: Of the intervals.
        seed: Of the bootstrap.
    """

    label: str = "tumour"
    shown_as: str = "tumour"
    centres: tuple[str, ...] = ()
    compare_with: Strategy = Strategy.FOREGROUND_RANDOM
    resamples: Annotated[int, Field(ge=100)] = 2000
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    seed: _Count = 0


class SimulationConfig(Strict):
    """A whole experiment; docs/simulation.md explains every key."""

    name: _Name
    title: str
    description: str = ""
    keep_models: bool = False
    data: Data
    baseline: Baseline
    query: Query = Query()
    grid: Grid
    finetuning: Finetuning = Finetuning()
    inference: Inference = Inference()
    evaluation: Evaluation = Evaluation()

    def reduced_to(self, strategy: str, budget: int, seed: int) -> SimulationConfig:
        """The same experiment with one cell."""
        grid = Grid.model_validate({"strategies": [strategy], "budgets": [budget], "seeds": [seed]})
        return self.model_copy(update={"grid": grid})


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration and where it came from.

    Attributes:
        config: The configuration.
        folder: What relative paths in it are relative to.
        called: What the user called it.
        changes: Options of the command that have changed it.
        only_baseline: Whether it is the manifest of a baseline, which repeats no other cell.
        baseline_sha256: Of the model that a cell started from, if it is a cell's manifest.
        threads: CPU threads that a cell was computed with, likewise.
    """

    config: SimulationConfig
    folder: Path
    called: str
    changes: tuple[str, ...] = ()
    only_baseline: bool = False
    baseline_sha256: str | None = None
    threads: int | None = None

    def with_grid(self, **lists: str | None) -> LoadedConfig:
        """The same with another grid.

        Args:
            lists: Values with commas between them in place of the grid's ``strategies``, ``budgets`` or ``seeds``; None
                for what stays.

        Raises:
            UserError: a list is not valid, or a cell is repeated, which has no grid.
        """
        given = {name: text for name, text in lists.items() if text is not None}
        if not given:
            return self
        if self.threads is not None:
            raise UserError(f"{self.called} repeats one cell; leave out {', '.join(f'--{name}' for name in given)}.")
        values = {name: [each.strip() for each in text.split(",")] for name, text in given.items()}
        try:
            grid = Grid.model_validate(self.config.grid.model_dump() | values)
        except ValidationError as error:
            told = " ".join(f"--{name} '{text}'" for name, text in given.items())
            raise UserError(
                f"{told} is not valid ({first_problem(error)}); give values with commas, such as --budgets 5,10."
            ) from error
        changed = self.config.model_copy(update={"grid": grid})
        _check_comparison(changed, self.called)
        said = tuple(f"--{name} {','.join(str(each) for each in getattr(grid, name))}" for name in given)
        return replace(self, config=changed, changes=said)


def load_config(name_or_path: str) -> LoadedConfig:
    """A configuration that comes with UGA by its name, a TOML file, or the manifest of a cell, which repeats the cell.

    Raises:
        UserError: no such configuration, or not valid; the key is named.
    """
    path = Path(name_or_path)
    if name_or_path in shipped_configs():
        return LoadedConfig(_parse(config_text(name_or_path), name_or_path), Path.cwd(), name_or_path)
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"There is no configuration '{name_or_path}'; use one of {', '.join(shipped_configs())}, a TOML file or "
            "the manifest.json of a cell."
        ) from error
    if path.suffix.lower() == ".json":
        return _cell_config(text, path)
    return LoadedConfig(_parse(text, name_or_path), path.resolve().parent, name_or_path)


def shipped_configs() -> tuple[str, ...]:
    """Names of the configurations that come with UGA."""
    folder = resources.files("uga.simulation") / _CONFIGS
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def config_text(name: str) -> str:
    """The file of a shipped configuration, for a user to copy and change."""
    return (resources.files("uga.simulation") / _CONFIGS / f"{name}.toml").read_text("utf-8")


def _parse(text: str, source: str) -> SimulationConfig:
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"The configuration {source} is not TOML ({error}); correct it.") from error
    config = _validate(content, source)
    _check_comparison(config, source)
    return config


def _check_comparison(config: SimulationConfig, source: str) -> None:
    other, strategies = config.evaluation.compare_with, config.grid.strategies
    if other not in strategies:
        raise UserError(
            f"The grid of {source} has the strategies {', '.join(strategies)}, but all are compared with {other}; "
            "add it, or set evaluation.compare_with to one of them."
        )


def _cell_config(text: str, path: Path) -> LoadedConfig:
    """The configuration in a cell's manifest, reduced to that cell and to what it was computed with."""
    try:
        manifest = json.loads(text)
        cell, content, training = manifest["cell"], manifest["config"], manifest.get("training")
        strategy, budget, seed, rarity = cell.get("strategy"), cell["budget"], cell["seed"], cell.get("rarity")
        content["query"]["rarity"] = [] if rarity is None else [rarity]
        content["inference"] |= {key: manifest["computation"][key] for key in ("engine", "precision")}
        if training is not None and training["precision"] != _OF_GPUS:
            content["finetuning"]["precision"] = training["precision"]
        threads, baseline = int(manifest["threads"]), str(manifest["baseline"]["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not the manifest of a cell; name the manifest.json in a cell's folder.") from error
    config = _validate(content, str(path))
    if strategy is not None:
        config = config.reduced_to(strategy, budget, seed)
    return LoadedConfig(
        config, Path.cwd(), str(path), only_baseline=strategy is None, baseline_sha256=baseline, threads=threads
    )


def _validate(content: dict[str, Any], source: str) -> SimulationConfig:
    try:
        return SimulationConfig.model_validate(content)
    except ValidationError as error:
        raise UserError(
            f"The configuration {source} is not valid ({first_problem(error)}); correct that key."
        ) from error
