"""hwkit.ops as a namespace and as a plugin."""

from __future__ import annotations

import pickle

import hwkit
import hwkit.ops
from hwkit.registry import Registry


def test_the_public_names() -> None:
    """A name that comes or goes is a change for users."""
    assert sorted(hwkit.ops.__all__) == [
        "avg_pool2d",
        "conv2d",
        "elementwise",
        "gemm",
        "global_avg_pool2d",
        "global_max_pool2d",
        "hwkit_ops",
        "local_response_norm",
        "matmul",
        "max_pool2d",
        "qconv2d",
        "qmatmul",
        "transpose",
    ]
    assert all(callable(getattr(hwkit.ops, name)) for name in hwkit.ops.__all__)


def test_the_module_is_a_plugin_like_any_other() -> None:
    """Its contracts come through the hook, and each has a public function of its name."""
    registry = Registry([("ops", hwkit.ops)], entry_points=False)
    names = set(registry.ops())
    assert names == set(hwkit.ops.__all__) - {"hwkit_ops"}
    assert registry.op("conv2d").name == "conv2d"


def test_contracts_survive_pickle() -> None:
    """Problems go to worker processes."""
    for op in hwkit.ops.hwkit_ops():
        problem = op.parse(op.samples[0])
        again = pickle.loads(pickle.dumps(problem))
        assert again == problem
        assert type(again.op) is type(op)
