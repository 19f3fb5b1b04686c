"""Batches of corrections, each as one of its variants, and of replayed patches, in a fixed share.

Import this module only after `NnunetFolders.activate`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader

from uga.finetuning.variants import UNCHANGED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from uga.finetuning.options import Points, Recolouring
    from uga.finetuning.variants import Variant


class MixedLoader(nnUNetDataLoader):  # type: ignore[misc]
    """nnU-Net's loader for 2D patches, with variants.

    Crops are nnU-Net's, but never overhang a patch further than its margin for rotation requires, and what is outside
    a patch is not judged: a patch is cut from tissue that goes on.

    Args:
        data: nnU-Net's dataset of the fold's training patches.
        variants: Name of each correction -> its variants.
        points: Name of each correction -> what black and white are in its channels.
        recolouring: Of old patches, if they can be.
        share: Mean share of a batch that is corrections.
        ignore_label: nnU-Net's.
        **options: `nnUNetDataLoader`'s.
    """

    def __init__(
        self,
        data: Any,
        *,
        variants: Mapping[str, Sequence[Variant]],
        points: Mapping[str, Points],
        recolouring: Recolouring | None,
        share: float,
        ignore_label: int,
        **options: Any,
    ) -> None:
        super().__init__(data, probabilistic_oversampling=True, **options)
        self._corrections = [name for name in data.identifiers if name in variants]
        self._replay = [name for name in data.identifiers if name not in variants]
        self._variants = variants
        self._points = points
        self._recolouring = recolouring
        self._share = share if self._replay else 1.0
        self._ignore = ignore_label

    def get_indices(self) -> list[str]:
        """Names of a batch: corrections first; a broken share is rounded up as often as is due."""
        corrections = int(self._share * self.batch_size + np.random.random()) if self._corrections else 0  # noqa: NPY002
        return [
            *np.random.choice(self._corrections or [""], corrections),  # noqa: NPY002 - the trainer seeds this one
            *np.random.choice(self._replay or [""], self.batch_size - corrections),  # noqa: NPY002
        ]

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
        names = self.get_indices()
        samples = [self._sample(name, force_foreground=self.get_do_oversample(j)) for j, name in enumerate(names)]
        targets = [sample["segmentation"] for sample in samples]
        return {
            "data": torch.stack([sample["image"] for sample in samples]).float(),
            "target": [torch.stack(list(scale)) for scale in zip(*targets, strict=True)]
            if isinstance(targets[0], list)
            else torch.stack(targets),
            "keys": names,
        }

    def _sample(self, name: str, *, force_foreground: bool) -> dict[str, Any]:
        data, labels, _, properties = self._data.load_case(name)
        starts, ends = self.get_bbox(data.shape[1:], force_foreground, properties["class_locations"])
        box = [[start, end] for start, end in zip(starts, ends, strict=True)]
        image = torch.from_numpy(crop_and_pad_nd(data, box, 0)).float()[:, 0]
        target = torch.from_numpy(crop_and_pad_nd(labels, box, self._ignore, cast_cropped_to=np.int16))[:, 0]
        variant = self._draw(name)
        if variant is not UNCHANGED:
            image = variant.place(_in_rgb(variant.colour, image, self._points[name])).contiguous()
            target = variant.place(target).contiguous()
        else:
            image = self._recoloured(image, name)
        sample: dict[str, Any] = self.transforms(image=image, segmentation=target.to(torch.int16))
        return sample

    def _draw(self, name: str) -> Variant:
        choices = self._variants.get(name)
        return choices[np.random.randint(len(choices))] if choices else UNCHANGED  # noqa: NPY002

    def _recoloured(self, image: torch.Tensor, name: str) -> torch.Tensor:
        """An old patch in the colours of one of the corrected centres, or as it is."""
        how = self._recolouring
        choices = how.gains.get(name) if how else None
        if how is None or not choices or np.random.random() >= how.share:  # noqa: NPY002
            return image
        gain = torch.tensor(choices[np.random.randint(len(choices))])[:, None, None]  # noqa: NPY002
        return _in_rgb(lambda rgb: rgb.clamp(0, 1) ** gain, image, how.points)


def _in_rgb(change: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor, points: Points) -> torch.Tensor:
    """Change colours in RGB between 0 and 1, whatever the normalisation."""
    black, white = (torch.tensor(point)[:, None, None] for point in (points.black, points.white))
    return change((image - black) / (white - black)) * (white - black) + black
