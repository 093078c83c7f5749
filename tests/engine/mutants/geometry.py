"""The usual mistakes in the arithmetic of sizes."""

MUTANTS = [
    (
        "sizes",
        "last window lost",
        "size + before + after - covered) // stride + 1",
        "size + before + after - covered) // stride",
    ),
    (
        "sizes",
        "ceiling for floor",
        "(size + before + after - covered) // stride",
        "-((covered - size - before - after) // stride)",
    ),
    (
        "sizes",
        "padding of one side twice",
        "(size + before + after - covered)",
        "(size + 2 * before - covered)",
    ),
    (
        "sizes",
        "last fit refused",
        "size + before + after < covered",
        "size + before + after < covered + stride",
    ),
    (
        "sizes",
        "span d k for d (k - 1) + 1",
        '(integer(kernel, "kernel_size", least=1) - 1) + 1',
        'integer(kernel, "kernel_size", least=1)',
    ),
    (
        "sizes",
        "odd sample of same before",
        "return total // 2, total - total // 2",
        "return total - total // 2, total // 2",
    ),
    (
        "sizes",
        "TensorFlow's same floors",
        "(-(-size // stride) - 1) * stride + reach",
        "(size // stride - 1) * stride + reach",
    ),
    (
        "sizes",
        "transposed size from s n",
        "(size - 1) * stride + covered - before - after + extra",
        "size * stride + covered - before - after + extra",
    ),
    (
        "sizes",
        "output padding one too large",
        "extra >= max(stride, dilation)",
        "extra > max(stride, dilation)",
    ),
    (
        "sizes",
        "ceil_mode window in the padding after",
        "        windows -= 1\n",
        "        pass\n",
    ),
    (
        "sizes",
        "ceil_mode forgets the padding before",
        "(windows - 1) * stride >= size + before",
        "(windows - 1) * stride >= size",
    ),
    (
        "sizes",
        "receptive field by the layer's own stride",
        "(span(kernel, dilation=dilation) - 1) * jump",
        "(span(kernel, dilation=dilation) - 1) * stride",
    ),
    (
        "sizes",
        "receptive field's padding not scaled",
        'integer(before, "padding", least=0) * jump',
        'integer(before, "padding", least=0)',
    ),
    (
        "arguments",
        "integers summed in single precision",
        "bound < 2**24",
        "bound < 2**31",
    ),
    (
        "arguments",
        "integers summed in double precision",
        "bound < 2**53",
        "bound < 2**63",
    ),
    (
        "arguments",
        "sums as large as their terms",
        "bound = largest[0] * largest[1] * terms",
        "bound = largest[0] * largest[1]",
    ),
    (
        "arguments",
        "negative numbers have no size",
        "max(abs(int(array.max())), abs(int(array.min())))",
        "abs(int(array.max()))",
    ),
]
