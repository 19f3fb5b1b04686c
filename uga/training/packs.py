"""Packs: training patches that travel with a model, to replay in fine-tuning or to measure what a change costs.

A pack is a folder: ``pack.json``, ``images/<name>.jpg`` (or ``.png``) in RGB and ``labels/<name>.png`` with the model's
label values. A model folder may hold two, ``replay/`` and ``holdout/``; their files are listed in ``model.json``.
"""

from __future__ import annotations

import logging
import shutil
from collections import defaultdict
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from uga.errors import UserError
from uga.model.card import first_problem
from uga.output.files import partial_path
from uga.training.cases import LesionClass
from uga.training.sampling import PatchKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from uga.model.folder import Model
    from uga.training.dataset import Dataset, PatchRecord

log = logging.getLogger(__name__)

PACK_FILE = "pack.json"
Purpose = Literal["replay", "holdout"]
_FileName = Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z_.-]*$")]


class PackItem(BaseModel):
    """One patch of a pack.

    ``x``, ``y`` is its top-left corner in pixels of the working grid, ``size_px`` its side; ``fold`` is the fold that
    validates the patch, None where no fold does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: _FileName
    case: str
    kind: PatchKind
    x: int
    y: int
    size_px: int = Field(gt=0)
    centre: str
    patient: str
    lesion: LesionClass
    fold: Annotated[int, Field(ge=0)] | None


class PackIndex(BaseModel):
    """The content of ``pack.json``; ``quality`` is that of the JPEG images (4:4:4), None where they are PNG."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal["1.0"] = "1.0"
    purpose: Purpose
    spacing_um: float = Field(gt=0)
    labels: dict[str, int]
    quality: Annotated[int, Field(ge=1, le=100)] | None
    items: tuple[PackItem, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_unique(self) -> PackIndex:
        if len({item.name for item in self.items}) < len(self.items):
            raise ValueError("items must have unique names")
        return self


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack whose files are all there; the patches are read one by one."""

    path: Path
    index: PackIndex

    def image_file(self, item: PackItem) -> Path:
        """The patch's image."""
        return self.path / "images" / f"{item.name}{'.png' if self.index.quality is None else '.jpg'}"

    def labels_file(self, item: PackItem) -> Path:
        """The patch's label map."""
        return self.path / "labels" / f"{item.name}.png"

    def files(self) -> tuple[Path, ...]:
        """Every file of the pack."""
        return (
            self.path / PACK_FILE,
            *(file for item in self.index.items for file in (self.image_file(item), self.labels_file(item))),
        )

    def read_image(self, item: PackItem) -> npt.NDArray[np.uint8]:
        """RGB (size_px, size_px, 3), uint8.

        Raises:
            UserError: the file is damaged.
        """
        return _pixels(self.image_file(item))

    def read_labels(self, item: PackItem) -> npt.NDArray[np.uint8]:
        """Label values (size_px, size_px), uint8.

        Raises:
            UserError: the file is damaged or holds a value that is no label.
        """
        labels = _pixels(self.labels_file(item))
        unknown = sorted({int(value) for value in np.unique(labels)} - set(self.index.labels.values()))
        if unknown:
            raise UserError(f"{self.labels_file(item)} holds the values {unknown}, which are no labels; copy it again.")
        return labels


def read_pack(path: Path) -> Pack:
    """Open a pack and check that every file is there and has the stated size.

    Raises:
        UserError: there is no pack, or it is damaged.
    """
    file = path / PACK_FILE
    try:
        pack = Pack(path, PackIndex.model_validate_json(file.read_bytes()))
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); name the folder of a pack.") from error
    except ValidationError as error:
        raise UserError(f"{file} does not describe a pack ({first_problem(error)}); copy the pack again.") from error
    for item in pack.index.items:
        _check_header(pack.image_file(item), "RGB", item.size_px)
        _check_header(pack.labels_file(item), "L", item.size_px)
    return pack


def model_pack(model: Model, purpose: Purpose) -> Pack | None:
    """The pack of that purpose in a verified model folder; None if it holds none.

    Raises:
        UserError: the pack is damaged, or holds a file whose hash `model.json` does not list.
    """
    if f"{purpose}/{PACK_FILE}" not in model.card.files:
        return None
    pack = read_pack(model.path / purpose)
    for file in pack.files():
        if file.relative_to(model.path).as_posix() not in model.card.files:
            raise UserError(f"{file} is not listed in model.json; copy the model again.")
    return pack


def write_pack(
    dataset: Dataset,
    target: Path,
    *,
    purpose: Purpose,
    patches: int,
    size_px: int,
    max_bytes: int,
    quality: int | None,
    seed: int,
) -> Pack:
    """Write a pack of a dataset's patches: tumour and benign in equal numbers where there are enough, slides in turn.

    Args:
        dataset: A written dataset; a replay pack takes each patch's fold from its splits.
        target: The new folder; must not exist.
        purpose: Replay or hold-out.
        patches: At most this many; fewer if the dataset holds fewer or ``max_bytes`` is reached.
        size_px: Side of the patches, cropped at random from the dataset's; a tumour patch keeps tumour.
        max_bytes: The pack's files together are not larger.
        quality: Of the JPEG images, 1 to 100; None for PNG.
        seed: Same seed and dataset: same pack.

    Raises:
        UserError: the target exists, or the dataset's patches or ``max_bytes`` are too small.
    """
    if target.exists():
        raise UserError(f"The pack {target} exists already; remove it or choose another folder.")
    index = dataset.index()
    folds = _validating_folds(dataset) if purpose == "replay" else {}
    work = partial_path(target)
    shutil.rmtree(work, ignore_errors=True)
    for folder in ("images", "labels"):
        (work / folder).mkdir(parents=True)
    header = PackIndex.model_construct(
        purpose=purpose,
        spacing_um=index.request["spacing_um"],
        labels=dataset.dataset_json()["labels"],
        quality=quality,
        items=(),
    )
    pack, items = Pack(work, header), []
    spent = len(header.model_dump_json(indent=1))
    for record in _in_turn(index.patches, seed)[:patches]:
        item, image, labels = _crop(dataset, record, folds.get(record.name), size_px, seed)
        encoded = _encode(image, quality), _encode(labels, None)
        # Each item stands in pack.json too, indented by two more columns.
        spent += sum(map(len, encoded)) + len(item.model_dump_json(indent=1)) + 40
        if spent > max_bytes:
            break
        pack.image_file(item).write_bytes(encoded[0])
        pack.labels_file(item).write_bytes(encoded[1])
        items.append(item)
    if not items:
        shutil.rmtree(work)
        raise UserError(f"No patch of {size_px} px fits into a pack of {max_bytes} bytes; allow a larger pack.")
    complete = header.model_copy(update={"items": tuple(sorted(items, key=lambda item: item.name))})
    (work / PACK_FILE).write_text(complete.model_dump_json(indent=1), "utf-8")
    work.rename(target)
    log.info("%s pack: %d patches of %d px, %.1f MB.", purpose, len(items), size_px, spent / 1e6)
    return read_pack(target)


def _validating_folds(dataset: Dataset) -> dict[str, int]:
    return {name: fold for fold, split in enumerate(dataset.splits()) for name in split["val"]}


def _in_turn(records: Sequence[PatchRecord], seed: int) -> list[PatchRecord]:
    """Tumour and benign patches in alternation; within each, one slide after the other gives one patch."""
    rng = np.random.default_rng([seed, len(records)])
    queues: dict[bool, dict[str, list[PatchRecord]]] = {True: defaultdict(list), False: defaultdict(list)}
    for record in sorted(records, key=lambda record: record.name):
        queues[record.kind == "tumour"][record.case].append(record)
    ordered = {tumour: _dealt(queue, rng) for tumour, queue in queues.items()}
    paired = [record for pair in zip(ordered[True], ordered[False], strict=False) for record in pair]
    common = len(paired) // 2
    return paired + ordered[True][common:] + ordered[False][common:]


def _dealt(queues: Mapping[str, list[PatchRecord]], rng: np.random.Generator) -> list[PatchRecord]:
    shuffled = [[queues[case][i] for i in rng.permutation(len(queues[case]))] for case in sorted(queues)]
    shuffled = [shuffled[i] for i in rng.permutation(len(shuffled))]
    longest = max(map(len, shuffled), default=0)
    return [queue[round_] for round_ in range(longest) for queue in shuffled if round_ < len(queue)]


def _crop(
    dataset: Dataset, record: PatchRecord, fold: int | None, size_px: int, seed: int
) -> tuple[PackItem, npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    image = _pixels(dataset.raw / "imagesTr" / f"{record.name}_0000.png")
    labels = _pixels(dataset.raw / "labelsTr" / f"{record.name}.png")
    height, width = labels.shape
    if min(height, width) < size_px:
        raise UserError(f"The dataset's patches are {width} px wide; ask for a pack of at most that size.")
    rng = np.random.default_rng([seed, *record.name.encode()])
    x, y = int(rng.integers(width - size_px + 1)), int(rng.integers(height - size_px + 1))
    rows, columns = np.nonzero(_foreground(labels, dataset))
    if record.kind == "tumour" and len(rows):
        # Random around a random tumour pixel, so that small deposits are not lost and never always central.
        pixel = int(rng.integers(len(rows)))
        dx, dy = rng.integers(size_px, size=2)
        x = min(max(int(columns[pixel] - dx), 0), width - size_px)
        y = min(max(int(rows[pixel] - dy), 0), height - size_px)
    item = PackItem(
        name=record.name,
        case=record.case,
        kind=record.kind,
        x=record.x + x,
        y=record.y + y,
        size_px=size_px,
        centre=record.centre,
        patient=record.patient,
        lesion=record.lesion,
        fold=fold,
    )
    window = slice(y, y + size_px), slice(x, x + size_px)
    return item, image[window], labels[window]


def _foreground(labels: npt.NDArray[np.uint8], dataset: Dataset) -> npt.NDArray[np.bool_]:
    ignore = dataset.dataset_json()["labels"].get("ignore")
    return (labels > 0) & (labels != ignore) if ignore is not None else labels > 0


def _encode(pixels: npt.NDArray[np.uint8], quality: int | None) -> bytes:
    buffer = BytesIO()
    if quality is None:
        Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    else:
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling="4:4:4", optimize=True)
    return buffer.getvalue()


def _check_header(file: Path, mode: str, size_px: int) -> None:
    try:
        with Image.open(file) as image:
            found = image.mode, image.size
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UserError(f"{file} is missing or damaged ({error}); copy the pack again.") from error
    if found != (mode, (size_px, size_px)):
        raise UserError(
            f"{file} is a {found[0]} image of {found[1][0]} x {found[1][1]} px, not {mode} of {size_px} x {size_px} px "
            "as stated in its pack; copy the pack again."
        )


def _pixels(file: Path) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(file) as image:
            return np.asarray(image, np.uint8)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UserError(f"{file} is missing or damaged ({error}); copy it again.") from error
