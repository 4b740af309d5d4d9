"""The operators: public functions, and the plugin that brings their contracts.

Each module holds one contract (an Op), its reference in plain numpy, and the public function.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..hookspecs import hookimpl
from ..op import Op
from .conv2d import CONV2D, conv2d
from .elementwise import ELEMENTWISE, elementwise
from .gemm import GEMM, gemm
from .global_pool2d import (
    GLOBAL_AVG_POOL2D,
    GLOBAL_MAX_POOL2D,
    global_avg_pool2d,
    global_max_pool2d,
)
from .local_response_norm import LOCAL_RESPONSE_NORM, local_response_norm
from .matmul import MATMUL, matmul
from .pool2d import AVG_POOL2D, MAX_POOL2D, avg_pool2d, max_pool2d
from .qconv2d import QCONV2D, qconv2d
from .qmatmul import QMATMUL, qmatmul
from .transpose import TRANSPOSE, transpose

__all__ = [
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


@hookimpl
def hwkit_ops() -> Iterable[Op]:
    """Return the contracts of the operators above."""
    pools = [MAX_POOL2D, AVG_POOL2D, GLOBAL_MAX_POOL2D, GLOBAL_AVG_POOL2D]
    small = [ELEMENTWISE, LOCAL_RESPONSE_NORM, TRANSPOSE]
    return [CONV2D, GEMM, MATMUL, *pools, *small, QCONV2D, QMATMUL]
