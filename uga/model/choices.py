"""What a user may choose about how networks are computed; free of torch, so that ``--help`` need not wait for it."""

from typing import Literal

EngineName = Literal["torch", "openvino"]
Precision = Literal["fp32", "bf16", "fp16"]
EngineChoice = Literal["auto", "torch", "openvino"]
TrainingPrecisionChoice = Literal["auto", "fp32", "bf16"]
PrecisionChoice = Literal["auto", "fp32", "bf16", "fp16"]
DeviceChoice = Literal["auto", "cpu", "cuda"]
