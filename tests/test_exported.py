"""The public surface, pinned: a name here is a promise, and adding one is a decision."""

from __future__ import annotations

import importlib
import inspect
import typing

import pytest

import hwkit

PUBLIC: dict[str, set[str]] = {
    "hwkit": {
        "ArgumentError", "Backend", "Config", "DatabaseError", "Device", "DtypeError",
        "Fingerprint", "HwkitError", "HwkitWarning", "Kernel", "KernelFailure", "NoKernel", "Op",
        "Operand", "Plan", "PluginError", "Problem", "Run", "Space", "Spec", "Unavailable",
        "__version__", "explain", "hookimpl", "load", "ops", "plan", "tune", "use",
    },
    "hwkit.ops": {
        "avg_pool2d", "conv2d", "elementwise", "gemm", "global_avg_pool2d", "global_max_pool2d",
        "hwkit_ops", "local_response_norm", "matmul", "max_pool2d", "qconv2d", "qmatmul",
        "transpose",
    },
    "hwkit.testing": {
        "BackendSuite", "FAULTS", "FakeBackend", "FaultyBackend", "OnnxBackend", "ReplayBackend",
        "unavailable",
    },
    "hwkit.hookspecs": {
        "hookimpl", "hookspec", "hwkit_backends", "hwkit_kernels", "hwkit_nodes", "hwkit_ops",
        "hwkit_passes", "hwkit_records", "hwkit_strategies",
    },
    "hwkit.graph": {
        "Built", "Composite", "Glue", "Graph", "Late", "Model", "Node", "NodeType", "Pass",
        "Setting", "Value", "View", "hwkit_nodes", "hwkit_passes", "load",
    },
    "hwkit.loading": {"GROUP", "LoadedPlugin", "Plugins"},
    "hwkit.registry": {"Registry", "registry"},
}  # fmt: skip


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_these(module: str) -> None:
    """``__all__`` is the list above, and every name in it is there."""
    found = importlib.import_module(module)
    assert set(found.__all__) == PUBLIC[module]
    for name in found.__all__:
        assert getattr(found, name) is not None


def test_late_names_show_in_dir_and_unknown_ones_fail() -> None:
    """Names that are loaded when asked for behave like the others."""
    assert set(dir(hwkit)) >= PUBLIC["hwkit"]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hwkit.nothing  # noqa: B018


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_documented(module: str) -> None:
    """Every public class and function has a docstring, and so have their public methods."""
    found = importlib.import_module(module)
    for name in found.__all__:
        value = getattr(found, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{module}.{name}"
        members = vars(value).items() if inspect.isclass(value) else ()
        for member, function in members:
            if inspect.isfunction(function) and not member.startswith("_"):
                assert inspect.getdoc(function), f"{module}.{name}.{member}"


@pytest.mark.parametrize("name", ["tune", "plan", "use", "explain", "load"])
def test_public_verbs_are_fully_annotated(name: str) -> None:
    """Every argument and the answer have a type."""
    function = inspect.unwrap(getattr(hwkit, name))
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    missing = [p.name for p in signature.parameters.values() if p.annotation is p.empty]
    assert not missing


def test_version_is_that_of_the_installed_project() -> None:
    """The number in the code and that in the metadata are one."""
    version = typing.cast(str, hwkit.__version__)
    assert importlib.import_module("importlib.metadata").version("hwkit") == version
