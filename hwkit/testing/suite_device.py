"""The part of the conformance suite that asks what a Backend and its Device promise."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys

import numpy as np

from ..registry import registry
from .cases import is_jsonable_fact, round_trip_arrays
from .suite_base import Suite

__all__ = ["DeviceTests"]

_IMPORT = """\
import importlib, sys
sys.path[:] = {path!r}
importlib.import_module({module!r})
from hwkit.registry import registry
registry().backends()
found = [name for name in {drivers!r} if name in sys.modules]
assert not found, f"importing the plugin imports {{found}}"
"""


class DeviceTests(Suite):
    """Name, count, memory, clock and facts."""

    def test_backend_is_known_by_its_name(self) -> None:
        """The name is lower-case, and the registry has the backend under it."""
        name = self.device.partition(":")[0]
        backend = registry().backends()[name]
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
        assert backend.name == name

    def test_backend_counts_its_devices(self) -> None:
        """The count is a whole number above zero, and the same when asked again."""
        backend = self._backend()
        count = backend.count()
        assert type(count) is int
        assert count >= 1
        assert backend.count() == count

    def test_importing_the_plugin_imports_no_driver(self) -> None:
        """Drivers are imported by count, open and build, never by import."""
        backend = self._backend()
        code = _IMPORT.format(
            path=sys.path, module=type(backend).__module__, drivers=tuple(self.drivers)
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def test_device_prints_as_its_name(self) -> None:
        """``str`` gives what a user would type."""
        device = self._device()
        assert str(device) == f"{device.backend}:{device.index}"
        assert str(device) == (self.device if ":" in self.device else f"{self.device}:0")

    def test_fingerprint_is_plain_and_stable(self) -> None:
        """The fingerprint survives JSON, names the backend, and is the same when opened again."""
        device = self._device()
        backend = self._backend()
        facts = device.fingerprint
        assert is_jsonable_fact(facts.identity), facts.identity
        assert is_jsonable_fact(facts.environment), facts.environment
        assert facts.identity.get("backend") == device.backend
        assert json.loads(json.dumps(dict(facts.identity))) == facts.identity
        assert not backend.open(device.index).fingerprint.differences(facts)

    def test_arch_is_one_word(self) -> None:
        """Records are shared by arch, and it becomes part of a file name."""
        assert re.fullmatch(r"[A-Za-z0-9_.+-]+", self._device().arch)

    def test_put_and_get_round_trip(self, array: str) -> None:
        """What goes in comes out: values, shape and dtype, from any strides."""
        given = round_trip_arrays()[array]
        device = self._device()
        back = device.get(device.put(given))
        assert back.shape == given.shape
        assert back.dtype == given.dtype
        np.testing.assert_array_equal(back, given)

    def test_empty_has_shape_and_dtype(self) -> None:
        """An uninitialised buffer has the shape and dtype that were asked for."""
        device = self._device()
        for shape in ((), (0,), (3, 5)):
            back = device.get(device.empty(shape, np.dtype(np.float32)))
            assert (back.shape, back.dtype) == (shape, np.float32)

    def test_time_is_positive_seconds_of_one_run(self) -> None:
        """The clock calls the run, and gives finite seconds above zero."""
        calls: list[int] = []
        seconds = self._device().time(lambda: calls.append(sum(range(1000))))
        assert calls
        assert math.isfinite(seconds)
        assert seconds > 0

    def test_ceilings_are_positive(self) -> None:
        """Measured ceilings are finite rates above zero; none at all is allowed."""
        assert all(0 < rate < math.inf for rate in self._device().ceilings().values())
