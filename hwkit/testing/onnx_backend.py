"""OnnxBackend: hwkit as a backend of the conformance tests that the package onnx brings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnx.backend.base import Backend, BackendRep

from ..graph import Model, load

__all__ = ["OnnxBackend"]


class _Prepared(BackendRep):
    """A model that has been loaded."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def run(self, inputs: Any, **_: Any) -> tuple[Any, ...]:
        """Run on inputs in order, and return the outputs in order."""
        names = self.model.inputs
        given = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        return tuple(self.model.run(dict(zip(names, given, strict=True))).values())


class OnnxBackend(Backend):
    """``onnx.backend.base.Backend`` on hwkit's devices.

    Example::

        from onnx.backend.test import BackendTest
        from hwkit.testing import OnnxBackend

        globals().update(BackendTest(OnnxBackend, __name__).include("test_conv_.*").test_cases)
    """

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **options: Any) -> _Prepared:
        """Load a ModelProto; ``device`` is ``"CPU"`` or the name of a device of hwkit."""
        return _Prepared(load(model, _device(device), **options))

    @classmethod
    def run_model(cls, model: Any, inputs: Sequence[Any], device: str = "CPU", **_: Any) -> Any:
        """Load and run once."""
        return cls.prepare(model, device).run(inputs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether the device can be opened."""
        from ..errors import HwkitError
        from ..registry import registry

        try:
            registry().device(_device(device))
        except HwkitError:
            return False
        return True


def _device(name: str) -> str:
    return {"CPU": "cpu:0", "CUDA": "cuda:0"}.get(name, name)
