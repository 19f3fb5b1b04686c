"""TIAToolbox's SemanticSegmentor with an exported ensemble; runs in a Python that has TIAToolbox, and knows no UGA.

``tiatoolbox_worker.py TORCHSCRIPT WINDOW_PX SLIDE OUTPUT``
"""

import json
import sys
from pathlib import Path

import numpy as np
import tiatoolbox
import torch
from tiatoolbox.models.engine.io_config import IOSegmentorConfig
from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor
from tiatoolbox.models.models_abc import ModelABC
from tiatoolbox.wsicore.wsireader import OpenSlideWSIReader


class Exported(ModelABC):
    """Mean probability of the folds, as TIAToolbox wants a model."""

    windows = 0

    def __init__(self, file: str) -> None:
        super().__init__()
        self.network = torch.jit.load(file)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.network(batch)

    @staticmethod
    def preproc(image: np.ndarray) -> np.ndarray:
        return image

    @staticmethod
    def infer_batch(model: torch.nn.Module, batch_data: torch.Tensor, *, device: str) -> np.ndarray:
        batch = batch_data.to(device).float().permute(0, 3, 1, 2).contiguous() / 255
        with torch.inference_mode():
            found = torch.cat([model(window[None]) for window in batch])
        Exported.windows += len(batch)
        return found.permute(0, 2, 3, 1).cpu().numpy()


def main() -> None:
    """One slide; prints how many windows were run."""
    file, window, slide, output = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
    spacing = [{"units": "mpp", "resolution": 1.0}]
    config = IOSegmentorConfig(
        input_resolutions=spacing,
        output_resolutions=spacing,
        patch_input_shape=[window, window],
        patch_output_shape=[window, window],
        stride_shape=[window // 2, window // 2],
        save_resolution={"units": "mpp", "resolution": 1.0},
    )
    segmentor = SemanticSegmentor(Exported(file), batch_size=1, num_workers=0, device="cpu", verbose=False)
    reader = OpenSlideWSIReader(Path(slide))
    segmentor.run(
        [reader], patch_mode=False, ioconfig=config, save_dir=Path(output), output_type="zarr", overwrite=True
    )
    status = Path("/proc/self/status").read_text().splitlines()
    peak_kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    said = {"windows": Exported.windows, "version": tiatoolbox.__version__, "peak_mib": peak_kib / 1024}
    print(json.dumps(said))


if __name__ == "__main__":
    main()
