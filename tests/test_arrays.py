"""Arrays of other libraries, and numpy's own oddities, on their way in and out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hwkit
from hwkit import ArgumentError, DtypeError
from hwkit.arrays import Spec, as_operand, host_view, like, spec_of, writable_view
from hwkit.dispatch import parse_problem
from hwkit.op import Operand

WANTED = Operand("x", (2, 3), np.dtype("f4"))
X = np.arange(6, dtype="f4").reshape(2, 3)


class Foreign:
    """An array of a library that numpy knows by the array protocol only."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.shape, self.dtype = array.shape, array.dtype

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.array


class OnAnotherDevice:
    """An array whose memory the host cannot read."""

    shape, dtype = (2, 3), "float32"

    def __dlpack__(self, **_: Any) -> Any:
        raise BufferError("on cuda:0")

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError("copy it to the host first")


def test_spec() -> None:
    """A Spec has a shape and a dtype, and prints as it is written."""
    assert repr(Spec((2, 3))) == "Spec((2, 3), 'float32')"
    assert Spec([4], "float64").dtype == np.dtype("f8")
    for dtype in ("floating", "f4,i4:x"):
        with pytest.raises(DtypeError, match=f"dtype '{dtype}' is not known"):
            Spec((2,), dtype)
    for shape in (5, (2.5, 3), ("2", 3), None, parse_problem("gemm float32 nn m=2 n=2 k=2")):
        with pytest.raises(ArgumentError, match=r"shape .* must be whole numbers"):
            Spec(shape)  # type: ignore[arg-type]
    assert Spec((2,), "bfloat16").dtype.name == pytest.importorskip("ml_dtypes").bfloat16.__name__


def test_spec_of() -> None:
    """What has a shape and a dtype plans by these; lists are read; None stays."""
    assert spec_of(X) is X
    assert spec_of(None) is None
    assert (spec_of(Foreign(X)).shape, spec_of(Foreign(X)).dtype) == ((2, 3), "float32")
    assert spec_of([[1.0]]).dtype == np.dtype("f8")
    with pytest.raises(ArgumentError, match="of type type cannot be read as an array"):
        spec_of(np.float32)
    torch = pytest.importorskip("torch")
    assert spec_of(torch.zeros(2, dtype=torch.bfloat16)).dtype == "bfloat16"


def test_host_view() -> None:
    """Views share memory where they can; subclasses become plain arrays."""
    assert np.shares_memory(host_view(X), X)
    assert type(host_view(X.view(np.recarray))) is np.ndarray
    assert host_view([1.0, 2.0]).tolist() == [1.0, 2.0]
    assert np.shares_memory(host_view(Foreign(X)), X)


def test_host_view_refuses() -> None:
    """Masked elements and memory that numpy cannot reach are refused in one sentence."""
    with pytest.raises(ArgumentError, match="filled"):
        host_view(np.ma.masked_equal(X, 2))
    assert host_view(np.ma.array(X)).shape == (2, 3)
    with pytest.raises(
        ArgumentError, match=r"OnAnotherDevice cannot be read .*copy it to the host"
    ):
        host_view(OnAnotherDevice())


def test_as_operand() -> None:
    """What fits is passed through; strides and byte order are mended; the rest is refused."""
    assert as_operand(X, WANTED) is not None
    assert np.shares_memory(as_operand(X, WANTED), X)
    for odd in (np.asfortranarray(X), X.astype(">f4"), X[::-1, ::-1]):
        mended = as_operand(odd, WANTED)
        assert mended.flags.c_contiguous
        assert mended.dtype.isnative
        np.testing.assert_array_equal(mended, odd)
    with pytest.raises(ArgumentError, match=r"x has shape \(3, 2\), but this plan is for \(2, 3\)"):
        as_operand(X.T, WANTED)
    with pytest.raises(DtypeError, match="x has dtype int64"):
        as_operand(X.astype("i8"), WANTED)
    with pytest.raises(ArgumentError, match="x is None"):
        as_operand(None, WANTED)
    with pytest.raises(DtypeError, match=r"has dtype str32, .* float32: convert it$"):
        as_operand("a", WANTED)


def test_writable_view() -> None:
    """``out`` is written in place or refused; a silent copy would lose the result."""
    out = np.zeros(3)
    writable_view(out)[:] = 1
    assert out.tolist() == [1, 1, 1]
    with pytest.raises(ArgumentError, match="in place"):
        writable_view([0.0, 0.0])
    out.flags.writeable = False
    with pytest.raises(ArgumentError, match=r"in place .*read-only"):
        writable_view(out)


def test_like() -> None:
    """The result goes back as an array of the caller's library, without a copy."""
    assert like(X, X) is X
    torch = pytest.importorskip("torch")
    result = like(torch.zeros(1), X)
    assert isinstance(result, torch.Tensor)
    assert result.data_ptr() == X.ctypes.data


def test_bfloat16_of_torch() -> None:
    """Tensors of bfloat16 go in, are written in place, and come back, by their bits."""
    torch, ml_dtypes = pytest.importorskip("torch"), pytest.importorskip("ml_dtypes")
    tensor = torch.tensor([[1.5, -2.0], [0.25, float("inf")]], dtype=torch.bfloat16)
    view = host_view(tensor.T)
    assert view.dtype == ml_dtypes.bfloat16
    assert view.astype("f4").tolist() == tensor.T.tolist()
    writable_view(tensor)[0, 0] = 3
    assert tensor[0, 0] == 3
    back = like(tensor, view)
    assert back.dtype is torch.bfloat16
    assert back.data_ptr() == tensor.data_ptr()
    tensor.requires_grad_()
    with pytest.raises(ArgumentError, match="requires grad"):
        host_view(tensor)
    with pytest.raises(ArgumentError, match=r"cannot be written in place .*requires grad"):
        writable_view(tensor)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_change_of_sign_that_torch_puts_off(dtype: str) -> None:
    """The imaginary part of a conjugate is a view of its opposite, with a bit that says so."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("ml_dtypes")
    kind = getattr(torch, dtype)
    lazy = torch._neg_view(torch.arange(4.0).reshape(2, 2).to(kind))
    assert hwkit.ops.matmul(lazy, torch.eye(2, dtype=kind)).tolist() == [[0, -1], [-2, -3]]
    imaginary = torch.tensor([[1 + 2j, 3 - 4j]]).conj().imag
    assert host_view(imaginary).tolist() == [[-2, 4]]
    with pytest.raises(ArgumentError, match=r"cannot be written in place .*negative bit"):
        writable_view(imaginary)


def test_a_tensor_without_data_is_one_sentence() -> None:
    """torch's device "meta", which DLPack has no number for, is named by every function."""
    torch = pytest.importorskip("torch")
    nothing = torch.zeros(3, 3, device="meta")
    for function in (hwkit.ops.matmul, hwkit.ops.gemm):
        with pytest.raises(ArgumentError, match=r"b of type Tensor cannot be read .*meta"):
            function(np.ones((3, 3), np.float32), nothing)


def test_bfloat16_of_torch_through_a_call() -> None:
    """A convolution of torch's bfloat16 tensors gives one, within a rounding of torch's own."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("ml_dtypes")
    torch.manual_seed(0)
    x, w = (torch.randn(s).to(torch.bfloat16) for s in ((2, 6, 9, 9), (4, 6, 3, 3)))
    want = torch.nn.functional.conv2d(x.double(), w.double())
    out = torch.empty(want.shape, dtype=torch.bfloat16)
    packed = hwkit.plan("conv2d", x, w).prepack(w)
    assert hwkit.ops.conv2d(x, w, out=out) is out
    for y in (hwkit.ops.conv2d(x, w), packed(x), out):
        assert y.dtype is torch.bfloat16
        assert (y.double() - want).norm() <= 3e-3 * want.norm()
