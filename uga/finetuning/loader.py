"""Batches of corrections, each as one of its variants, and of replayed patches, in a fixed share.

Import this module only after `NnunetFolders.activate`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader

from uga.finetuning.drawing import CorrectionDraw
from uga.finetuning.variants import UNCHANGED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from uga.finetuning.options import CorrectionNotes, ReplayNotes, Triple
    from uga.finetuning.variants import Variant

_RECOLOURED = 0.5
"""Share of the old patches that are shown in the colours of a corrected centre."""
_TRIES = 10
_BACKGROUND = 0


class MixedLoader(nnUNetDataLoader):  # type: ignore[misc]
    """nnU-Net's loader for 2D patches, with variants.

    Crops are nnU-Net's, but never overhang a patch further than its margin for rotation requires, and what is outside
    a patch is not judged: a patch is cut from tissue that goes on.

    Args:
        data: nnU-Net's dataset of the fold's training patches.
        variants: Name of each correction -> its variants.
        notes: Name of each correction -> what is known of it.
        replay: How to recolour old patches, if they can be.
        share: Mean share of a batch that is corrections.
        ignore_label: nnU-Net's.
        **options: `nnUNetDataLoader`'s.
    """

    def __init__(
        self,
        data: Any,
        *,
        variants: Mapping[str, Sequence[Variant]],
        notes: Mapping[str, CorrectionNotes],
        replay: ReplayNotes | None,
        share: float,
        ignore_label: int,
        **options: Any,
    ) -> None:
        super().__init__(data, probabilistic_oversampling=True, **options)
        own = {name: notes[name] for name in data.identifiers if name in notes}
        self._corrections = CorrectionDraw(own) if own else None
        self._replay = [name for name in data.identifiers if name not in variants]
        self._variants = variants
        self._notes = notes
        self._recolouring = replay
        self._share = share if self._replay else 1.0
        self._ignore = ignore_label

    def draw_batch(self) -> list[tuple[str, int | None]]:
        """Names of a batch, corrections with the label to centre on; a broken share is rounded up as often as due."""
        draw = self._corrections
        corrections = int(self._share * self.batch_size + np.random.random()) if draw else 0  # noqa: NPY002
        old = np.random.choice(self._replay or [""], self.batch_size - corrections)  # noqa: NPY002
        return [*(draw.draw() for _ in range(corrections) if draw), *((str(name), None) for name in old)]

    def get_bbox(self, data_shape: Any, *args: Any, **options: Any) -> tuple[list[int], list[int]]:
        """nnU-Net's crop, moved back to where a random crop may lie."""
        starts, _ = super().get_bbox(data_shape, *args, **options)
        for axis, (start, length, size) in enumerate(zip(starts, data_shape, self.patch_size, strict=True)):
            margin = max(self.need_to_pad[axis], size - length)
            starts[axis] = int(min(start, length + margin // 2 + margin % 2 - size))
        return starts, [start + size for start, size in zip(starts, self.patch_size, strict=True)]

    @torch.no_grad()
    def generate_train_batch(self) -> dict[str, Any]:
        """A batch: ``data`` float32 (B, 3, h, w), ``target`` int16 per deep-supervision scale, ``keys``."""
        drawn = self.draw_batch()
        samples = [self._sample(name, label) for name, label in drawn]
        targets = [sample["segmentation"] for sample in samples]
        return {
            "data": torch.stack([sample["image"] for sample in samples]).float(),
            "target": [torch.stack(list(scale)) for scale in zip(*targets, strict=True)]
            if isinstance(targets[0], list)
            else torch.stack(targets),
            "keys": [name for name, _ in drawn],
        }

    def _sample(self, name: str, label: int | None) -> dict[str, Any]:
        data, labels, _, properties = self._data.load_case(name)
        box = self._box(labels, label, properties["class_locations"])
        image = torch.from_numpy(crop_and_pad_nd(data, box, 0)).float()[:, 0]
        target = torch.from_numpy(crop_and_pad_nd(labels, box, self._ignore, cast_cropped_to=np.int16))[:, 0]
        variant = self._draw(name)
        if variant is not UNCHANGED:
            note = self._notes[name]
            image = variant.place(_in_rgb(variant.colour, image, note.black, note.white)).contiguous()
            target = variant.place(target).contiguous()
        elif label is None:
            image = self._recoloured(image, name)
        sample: dict[str, Any] = self.transforms(image=image, segmentation=target.to(torch.int16))
        return sample

    def _draw(self, name: str) -> Variant:
        choices = self._variants.get(name)
        return choices[np.random.randint(len(choices))] if choices else UNCHANGED  # noqa: NPY002

    def _box(self, labels: Any, label: int | None, locations: Any) -> list[list[int]]:
        """Where a crop lies: around the label; around foreground, in old patches (None), as often as nnU-Net asks."""
        shape = labels.shape[1:]
        for _ in range(_TRIES):
            if label is None:
                starts, ends = self.get_bbox(shape, self.get_do_oversample(0), locations)
            else:
                starts, ends = self.get_bbox(shape, label != _BACKGROUND, locations, label or None)
            if label != _BACKGROUND or labels[(0, *_middle(starts, ends, shape))] == _BACKGROUND:
                break  # nnU-Net keeps no places of the background
        return [[start, end] for start, end in zip(starts, ends, strict=True)]

    def _recoloured(self, image: torch.Tensor, name: str) -> torch.Tensor:
        """An old patch in the colours of one of the corrected centres, or as it is."""
        notes = self._recolouring
        choices = notes.gains.get(name) if notes else None
        if notes is None or not choices or np.random.random() >= _RECOLOURED:  # noqa: NPY002
            return image
        gain = torch.tensor(choices[np.random.randint(len(choices))])[:, None, None]  # noqa: NPY002
        return _in_rgb(lambda rgb: rgb.clamp(0, 1) ** gain, image, notes.black, notes.white)


def _middle(starts: Sequence[int], ends: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    """The pixel of a patch in the middle of a crop."""
    return tuple(
        min(max((start + end) // 2, 0), length - 1) for start, end, length in zip(starts, ends, shape, strict=True)
    )


def _in_rgb(
    change: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor, black: Triple, white: Triple
) -> torch.Tensor:
    """Change colours in RGB between 0 and 1, whatever the normalisation."""
    low, high = (torch.tensor(point)[:, None, None] for point in (black, white))
    return change((image - low) / (high - low)) * (high - low) + low
