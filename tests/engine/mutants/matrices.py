"""The usual mistakes in writing a convolution as a matrix."""

MUTANTS = [
    (
        "naive",
        "axes of the output swapped in the row",
        "np.ravel_multi_index((o, *i), outputs)",
        "np.ravel_multi_index((o, *i), outputs[:1] + outputs[:0:-1], mode='wrap')",
    ),
    (
        "naive",
        "first group's channels for all",
        "np.ravel_multi_index((o // width * depth + c, *source), inputs)",
        "np.ravel_multi_index((c, *source), inputs)",
    ),
    (
        "naive",
        "groups off by one",
        "np.ravel_multi_index((o // width * depth + c, *source), inputs)",
        "np.ravel_multi_index((o // depth * depth + c, *source), inputs, mode='wrap')",
    ),
    (
        "naive",
        "kernel flipped",
        "entries.append(w[(o, c, *u)])",
        "entries.append(w[(o, c, *(k - 1 - tap for k, tap in zip(layer.kernel_size, u, strict=True)))])",
    ),
    (
        "naive",
        "matrix transposed",
        "(np.array(entries, dtype=dtype), places), shape=(prod(outputs), prod(inputs)))",
        "(np.array(entries, dtype=dtype), places[::-1]), shape=(prod(inputs), prod(outputs)))",
    ),
    (
        "naive",
        "entries of weight zero dropped",
        "for u, source in taps(layer, i):\n                    rows",
        "for u, source in ((u, j) for u, j in taps(layer, i) if w[(o, c, *u)]):\n                    rows",
    ),
    (
        "naive",
        "columns hold the tap's place, not the sample",
        "cols[(b, c, *u, *i)] = x[(b, c, *source)]",
        "cols[(b, c, *u, *i)] = x[(b, c, *np.minimum(u, np.array(layer.input_size) - 1))]",
    ),
    (
        "naive",
        "= for += where windows overlap",
        "x[(b, c, *source)] += cols",
        "x[(b, c, *source)] = cols",
    ),
    (
        "naive",
        "bias once for each row of the product",
        "                if bias is not None:\n                    y[b, o, i] += bias[o]",
        "                    if bias is not None:\n                        y[b, o, i] += bias[o]",
    ),
    (
        "naive",
        "product takes the first group's rows",
        "cols[b, o // width * rows + row, i]",
        "cols[b, row, i]",
    ),
    (
        "naive",
        "circle of the wrong axis",
        "(place + tap) % n for",
        "(place + tap) % size[-1] % n for",
    ),
    (
        "naive",
        "taps that meet again overwrite",
        "matrix[(o, *i, c, *j)] += w",
        "matrix[(o, *i, c, *j)] = w",
    ),
    (
        "arrays",
        "rows by the channel's depth",
        "(layer.out_channels // layer.groups) * depth",
        "depth * depth",
    ),
    (
        "arrays",
        "channels spaced by outputs",
        "(sources, prod(layer.input_size)))",
        "(sources, prod(layer.output_size)))",
    ),
    (
        "arrays",
        "stride of the first axis for all",
        "np.arange(layer.output_size[axis]) * layer.stride[axis]",
        "np.arange(layer.output_size[axis]) * layer.stride[0]",
    ),
    (
        "arrays",
        "padding after for before",
        "* layer.stride[axis] - layer.padding[axis][0]\n    first",
        "* layer.stride[axis] - layer.padding[axis][1]\n    first",
    ),
    (
        "arrays",
        "dilation of the first axis for all",
        "turns * layer.dilation[axis]",
        "turns * layer.dilation[0]",
    ),
    (
        "arrays",
        "negative places wrap into the row before",
        "first = np.maximum(-(begins // gap), 0)\n",
        "first = np.zeros_like(begins)\n",
    ),
    (
        "arrays",
        "one sample beyond the end",
        "(layer.input_size[axis] - 1 - begins) // gap + 1",
        "(layer.input_size[axis] - begins) // gap + 1",
    ),
    (
        "arrays",
        "entries counted once for all channels",
        "per_row = depth * reduce",
        "per_row = reduce",
    ),
    (
        "arrays",
        "axes of the image swapped in the column",
        "(old[:, np.newaxis, :, np.newaxis] * size + new[:, np.newaxis, :])",
        "(old[:, np.newaxis, :, np.newaxis] + new[:, np.newaxis, :] * size)",
    ),
    (
        "arrays",
        "a view of the image for a copy",
        "    cols = np.empty((*x.shape[:2], *layer.kernel_size",
        "    if prod(layer.kernel_size) == prod(layer.stride) == 1 and not any(layer.sides):\n"
        "        return x.reshape(*x.shape[:2], -1)\n"
        "    cols = np.empty((*x.shape[:2], *layer.kernel_size",
    ),
    (
        "arrays",
        "stride and dilation trade places",
        "(*x.strides[:2], *gaps, *steps)",
        "(*x.strides[:2], *steps, *gaps)",
    ),
    (
        "arrays",
        "a stride overlooked in the short cut",
        "    cols = np.empty((*x.shape[:2], *layer.kernel_size",
        "    if prod(layer.kernel_size) == 1:\n"
        "        return x.reshape(*x.shape[:2], -1).copy()\n"
        "    cols = np.empty((*x.shape[:2], *layer.kernel_size",
    ),
    (
        "arrays",
        "= for += where taps overlap",
        "x[(..., *samples)] += paired[(..., *pairs)]",
        "x[(..., *samples)] = paired[(..., *pairs)]",
    ),
    (
        "arrays",
        "padding cut off after instead of before",
        "begin, moves = part.start * layer.stride[axis] - layer.padding[axis][0]",
        "begin, moves = part.start * layer.stride[axis] - layer.padding[axis][1]",
    ),
    (
        "arrays",
        "bias along the width",
        "bias = bias.reshape(-1, *(1,) * (y.ndim - 2))",
        "bias = np.resize(bias, (y.shape[1], *(1,) * (y.ndim - 3), y.shape[-1]))",
    ),
    (
        "arrays",
        "product in the operands' dtype",
        "columns(x, layer, (images, *outputs)).astype(sums, copy=False)",
        "columns(x, layer, (images, *outputs)).astype(np.result_type(x.dtype, np.int8) if sums.kind == "
        '"f" else sums, copy=False)',
    ),
    (
        "arrays",
        "half of the frequencies forgotten",
        "    if real:\n        twins",
        "    if False:\n        twins",
    ),
    (
        "arrays",
        "the middle frequency taken twice",
        "values[..., half:, :] = values[..., 1:twins, :]",
        "values[..., half:, :] = values[..., half - twins + 1 : half, :]",
    ),
    (
        "arrays",
        "kernel cut where it is larger than the image",
        ".sum(axis=axis)",
        ".take(0, axis=axis)",
    ),
    (
        "arrays",
        "smallest singular value first",
        "return values[::-1]",
        "return values",
    ),
    (
        "arrays",
        "blocks of windows all at the start",
        "begin = part.start * layer.stride[axis] - layer.padding[axis][0]\n        end",
        "begin = -layer.padding[axis][0]\n        end",
    ),
    (
        "arrays",
        "far taps: where windows meet the input by the other move",
        "jump, step = moves if by_taps else moves[::-1]",
        "jump, step = moves",
    ),
    (
        "arrays",
        "rows of a block where the first ones are",
        "rows = (rows[:, np.newaxis] * layer.output_size[axis] + some).ravel()",
        "rows = (rows[:, np.newaxis] * layer.output_size[axis] + some - some[0]).ravel()",
    ),
    (
        "arrays",
        "frequencies the wrong way round",
        "np.outer(f, t) % n / n",
        "np.outer(f, t) % n / (n + 1)",
    ),
    (
        "__init__",
        "bias not passed on",
        "backend.conv2d_im2col(x, w, bias, layer)",
        "backend.conv2d_im2col(x, w, None, layer)",
    ),
    (
        "__init__",
        "groups of the matrix not passed on",
        '"dilation": dilation, "groups": groups},\n        dtypes=',
        '"dilation": dilation},\n        dtypes=',
    ),
]
