"""The kernel that prepares Konvolution by a halo, as rows for tests/kernels/test_offline.py: one per kind of layer."""

from __future__ import annotations

from konvlib.konvolution.preparation import CHANNELS, TILE, warps_of
from konvlib.runtime import power_of_2
from tests.kernels.offline.compiling import Row

POINTERS = {"w_ptr": "*bf16", "table_ptr": "*fp32", "kappa_ptr": "*bf16", "first_ptr": "*bf16", "bias_ptr": "*bf16"}
LAYER = ("channels", "in_h", "in_w", "stride_h", "stride_w", "padding_h", "padding_w", "dilation_h", "dilation_w")
ENDS = ("first_h", "last_h", "first_w", "last_w", "kinds_w", "kinds")
STRIDES = ("stride_wo", "stride_tk", "stride_ko", "stride_kd", "stride_kc", "stride_kh")
TYPES = {**POINTERS, **dict.fromkeys((*LAYER, *ENDS, *STRIDES), "i32"), "stride_kw": 1}


def _row(kernel: tuple[int, int], degrees: int, phases: int = 1, **given: int) -> Row:
    taps = power_of_2(kernel[0] * kernel[1])
    constants = {
        "KERNEL_H": kernel[0], "KERNEL_W": kernel[1], "PHASES": phases, "DEGREES": degrees, "FIRST": 1, "BIAS": True,
        "MASKED": True, "TAPS": taps, "BLOCK_C": CHANNELS, "GROUP": 1,
        "WIDE_C": min(TILE // taps, 256), "BLOCK_K": 16, **given,
    }  # fmt: skip
    label = " ".join(map(str, ("prepare", *kernel, degrees, phases, *given.values())))
    return Row(
        label,
        "konvlib.konvolution.preparation",
        "prepare_kernel",
        TYPES,
        constants,
        warps_of(taps),
        aligned=("stride_wo",),
    )


ROWS = [
    _row((3, 3), 4),
    _row((3, 3), 8),
    _row((3, 3), 4, phases=2),
    _row((1, 1), 4, MASKED=False),
    _row((7, 7), 2),
    _row((5, 5), 4),
    _row((7, 1), 8),
    _row((3, 3), 4, FIRST=0),
    _row((5, 5), 4, BLOCK_C=16, GROUP=4),
    _row((3, 3), 3, BLOCK_C=32, GROUP=2),
]
