"""The exceptions: their tree, what else they are, and that they travel between processes."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

import hwkit
from hwkit import errors

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, BaseException)
]


def test_all_errors_share_one_base() -> None:
    """``except HwkitError`` catches everything that hwkit raises on purpose."""
    for error in CLASSES:
        assert issubclass(error, (errors.HwkitError, Warning))


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.ArgumentError, ValueError),
        (errors.DtypeError, TypeError),
        (errors.NoKernel, NotImplementedError),
        (errors.Unavailable, RuntimeError),
    ],
)
def test_errors_are_what_numpy_users_catch(
    error: type[Exception], builtin: type[Exception]
) -> None:
    """A bad shape is a ValueError, a bad dtype a TypeError, and so on."""
    assert issubclass(error, builtin)
    # What is printed must stay what was written.
    assert str(error("what failed: what to type")) == "what failed: what to type"


def test_every_error_is_public_and_drawn() -> None:
    """Each class is exported by hwkit, and is in the tree of the docstring."""
    for error in CLASSES:
        assert getattr(hwkit, error.__name__) is error
        assert error.__name__ in (errors.__doc__ or "") or issubclass(error, Warning)


@pytest.mark.parametrize("failure", errors.FAILURE_CLASSES)
def test_kernel_failure_keeps_its_class_on_the_way(failure: str) -> None:
    """Workers send failures to the tuner by pickle."""
    error = errors.KernelFailure(failure, "out of registers")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (twin.failure, str(twin)) == (failure, "out of registers")


def test_kernel_failure_of_an_unknown_class_is_refused() -> None:
    """The classes are stored, and there are six."""
    with pytest.raises(ValueError, match="'slow' is not one of"):
        errors.KernelFailure("slow", "it is slow")


@pytest.mark.parametrize("error", CLASSES)
def test_errors_survive_pickle(error: type[BaseException]) -> None:
    """Every error can cross a process boundary."""
    given = ("wrong", "reason") if error is errors.KernelFailure else ("reason",)
    twin = pickle.loads(pickle.dumps(error(*given)))
    assert type(twin) is error
    assert str(twin) == "reason"
