"""What an OpenCL error code means to hwkit: one sentence, and what to type next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hwkit import HwkitError, KernelFailure, Unavailable

__all__ = ["INSTALL", "Refused", "translated"]

INSTALL = "pip install 'hwkit[opencl]'"

# Codes of cl.h; pyopencl raises different classes for one code, so only the code counts.
_LOST = {-2: "is not available", -1: "was not found", -33: "is no longer valid"}
_MEMORY = {-4, -5, -6, -40, -61}
_COMPILE = {-11, -15, -17, -42, -43}

NAMES = {
    -2: "DEVICE_NOT_AVAILABLE",
    -4: "MEM_OBJECT_ALLOCATION_FAILURE",
    -5: "OUT_OF_RESOURCES",
    -6: "OUT_OF_HOST_MEMORY",
    -11: "BUILD_PROGRAM_FAILURE",
    -40: "INVALID_IMAGE_SIZE",
    -53: "INVALID_WORK_DIMENSION",
    -54: "INVALID_WORK_GROUP_SIZE",
    -55: "INVALID_WORK_ITEM_SIZE",
    -61: "INVALID_BUFFER_SIZE",
}
"""Names of the codes that a message may carry."""


class Refused(KernelFailure):
    """What an emulated device would refuse.

    Attributes:
        code: the OpenCL error code that the device would return.
    """

    def __init__(self, failure: str, code: int, reason: str) -> None:
        super().__init__(failure, f"{NAMES[code]} ({code}): {reason}")
        self.code = code


@contextmanager
def translated(device: str, what: str) -> Iterator[None]:
    """Turn what pyopencl raises into hwkit's errors.

    Args:
        device: name of the device, ``"opencl:0"``.
        what: what is being done, for the message.

    Raises:
        KernelFailure: class ``compile``, ``memory`` or ``launch``.
        Unavailable: the device is lost.
    """
    try:
        yield
    except HwkitError:
        raise
    except MemoryError as error:
        raise KernelFailure("memory", f"{device} has no memory left while {what}") from error
    except Exception as error:
        code = getattr(error, "code", None)
        if not isinstance(code, int):
            raise
        text = " ".join(str(error).split())[:300]
        if code in _LOST:
            raise Unavailable(
                f"{device} {_LOST[code]} any more while {what} ({text}): type 'hwkit devices', and "
                "run on another one with hwkit.use(...)"
            ) from error
        failure = "memory" if code in _MEMORY else "compile" if code in _COMPILE else "launch"
        raise KernelFailure(failure, f"{device} failed while {what}: {text}") from error
