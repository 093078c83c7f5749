"""The usual mistakes in transposing a convolution."""

MUTANTS = [
    (
        "naive",
        "kernel flipped",
        "x[(b, c, *i)] * w[(c, o, *u)]",
        "x[(b, c, *i)] * w[(c, o, *(k - 1 - tap for k, tap in zip(layer.kernel_size, u, strict=True)))]",
    ),
    (
        "naive",
        "axes of the kernel swapped",
        "x[(b, c, *i)] * w[(c, o, *u)]",
        "x[(b, c, *i)] * w[(c, o, *np.minimum(u[::-1], np.array(w.shape[2:]) - 1))]",
    ),
    (
        "naive",
        "= for += where taps overlap",
        "y[(b, c // depth * width + o, *j)] += x",
        "y[(b, c // depth * width + o, *j)] = x",
    ),
    (
        "naive",
        "all groups into the first one's channels",
        "y[(b, c // depth * width + o, *j)]",
        "y[(b, o, *j)]",
    ),
    (
        "naive",
        "groups counted by the channels out",
        "y[(b, c // depth * width + o, *j)]",
        "y[(b, (c // width * width + o) % layer.in_channels, *j)]",
    ),
    (
        "naive",
        "stride ignored",
        "s * index + d * tap - before for",
        "index + d * tap - before for",
    ),
    (
        "naive",
        "dilation ignored",
        "s * index + d * tap - before for",
        "s * index + tap - before for",
    ),
    (
        "naive",
        "stride and dilation trade places",
        "s * index + d * tap - before for",
        "d * index + s * tap - before for",
    ),
    (
        "naive",
        "padding added instead of cut off",
        "s * index + d * tap - before for",
        "s * index + d * tap + before for",
    ),
    (
        "naive",
        "padding after for before",
        "for index, tap, s, d, (before, _) in each",
        "for index, tap, s, d, (_, before) in each",
    ),
    (
        "naive",
        "what is cut off before comes back at the end",
        "all(0 <= place < size for place, size in zip(j, layer.input_size, strict=True))",
        "all(-size <= place < size for place, size in zip(j, layer.input_size, strict=True))",
    ),
    (
        "naive",
        "bias twice",
        "for b, o, *j in np.ndindex(y.shape) if bias is not None else ():\n        y[(b, o, *j)] += bias[o]",
        "for b, o, *j in np.ndindex(y.shape) if bias is not None else ():\n        y[(b, o, *j)] += bias[o] + bias[o]",
    ),
    (
        "naive",
        "bias for the first image only",
        "for b, o, *j in np.ndindex(y.shape) if bias is not None else ():\n        y[(b, o, *j)] += bias[o]",
        "for b, o, *j in np.ndindex(y.shape) if bias is not None else ():\n        y[(0, o, *j)] += bias[o]",
    ),
    (
        "naive",
        "zero insertion: kernel not flipped",
        "w[(c, o % width, *flipped)]",
        "w[(c, o % width, *u)]",
    ),
    (
        "naive",
        "zero insertion: the first group's samples for all",
        "range(o // width * depth, (o // width + 1) * depth)",
        "range(depth)",
    ),
    (
        "naive",
        "zero insertion: the reach of the kernel without dilation",
        "at + before - d * (k - 1) + d * tap",
        "at + before - (k - 1) + d * tap",
    ),
    (
        "naive",
        "zero insertion: bias once for each channel",
        "                if bias is not None:\n                    y[(b, o, *j)] += bias[o]",
        "                    if bias is not None:\n                        y[(b, o, *j)] += bias[o]",
    ),
    (
        "naive",
        "samples as far apart on all axes as on the last",
        "step * index for step, index in zip(stride, i, strict=True)",
        "min(stride[-1] * index, n - 1) for index, n in zip(i, size, strict=True)",
    ),
    (
        "naive",
        "overlapping taps counted once",
        "counts[j] += 1",
        "counts[j] = 1",
    ),
    (
        "arrays",
        "phases exchanged",
        "begin = dilation * taps.start - layer",
        "begin = dilation * (min(stride, layer.kernel_size[axis]) - 1 - taps.start) - layer",
    ),
    (
        "arrays",
        "phases not spread by the dilation",
        "begin = dilation * taps.start",
        "begin = taps.start",
    ),
    (
        "arrays",
        "a divisor that stride and dilation share overlooked",
        "step = stride // gcd(stride, dilation)",
        "step = stride",
    ),
    (
        "arrays",
        "neighbouring taps in one phase",
        "[range(first, kernel, step) for first in range(min(step, kernel))]",
        "[range(first, kernel) for first in range(min(step, kernel))]",
    ),
    (
        "arrays",
        "phases without dilation",
        "gap = dilation // gcd(stride, dilation)\n    for",
        "gap = 1\n    for",
    ),
    (
        "arrays",
        "kernel flipped",
        "slice(axis.taps.start, axis.taps.stop, axis.taps.step) for axis in phase))]\n        places",
        "slice(axis.taps.start, axis.taps.stop, axis.taps.step) for axis in phase))][..., ::-1]\n        places",
    ),
    (
        "arrays",
        "= for += where taps overlap",
        "add_columns(z[:, batch].swapaxes(0, 1), np",
        "z[:, batch] = 0\n        add_columns(z[:, batch].swapaxes(0, 1), np",
    ),
    (
        "arrays",
        "blocks of lines all at the start",
        "np.moveaxis(products, layer.axes + 1, 0), whole, places)",
        "np.moveaxis(products, layer.axes + 1, 0), whole, [slice(0, p.stop - p.start) for p in places])",
    ),
    (
        "arrays",
        "all images of a block into the first ones",
        "add_columns(z[:, batch].swapaxes(0, 1), np",
        "add_columns(z[:, : len(part)].swapaxes(0, 1), np",
    ),
    (
        "arrays",
        "all groups weighted by the first",
        "products = (rows @",
        "products = (rows[:1] @",
    ),
    (
        "arrays",
        "batch and channels not swapped",
        "return x.swapaxes(0, 1).reshape(groups",
        "return x.reshape(groups",
    ),
    (
        "arrays",
        "stride of the first axis on all",
        "stride, dilation, size = layer.stride[axis]",
        "stride, dilation, size = layer.stride[0]",
    ),
    (
        "arrays",
        "padding on one side only",
        "begin = dilation * taps.start - layer.padding[axis][0]",
        "begin = dilation * taps.start",
    ),
    (
        "arrays",
        "padding after for before",
        "taps.start - layer.padding[axis][0]",
        "taps.start - layer.padding[axis][1]",
    ),
    (
        "arrays",
        "the last output of each phase lost",
        "-((begin - size) // stride)",
        "(size - begin) // stride",
    ),
    (
        "arrays",
        "output padding ignored",
        "return in_sums(by_phases, x, w, bias, layer, bounded=not is_long(layer))",
        "known = geometry.conv_transpose_geometry(\n"
        "        x.shape, w.shape, axes=layer.axes, stride=layer.stride, padding=layer.padding,\n"
        "        dilation=layer.dilation, groups=layer.groups,\n"
        "    )\n"
        "    return in_sums(by_phases, x, w, bias, known, bounded=not is_long(layer))",
    ),
    (
        "arrays",
        "output padding at the wrong side",
        "return in_sums(by_phases, x, w, bias, layer, bounded=not is_long(layer))",
        "each = zip(layer.output_size, layer.kernel_size, layer.stride, layer.dilation, layer.padding)\n"
        "    full = [(n - 1) * s + d * (k - 1) + 1 - sum(p) for n, k, s, d, p in each]\n"
        "    more = [n - size for n, size in zip(layer.input_size, full, strict=True)]\n"
        "    y = in_sums(by_phases, x, w, bias, layer, bounded=not is_long(layer))\n"
        "    return np.roll(y, more, tuple(range(2, layer.axes + 2)))",
    ),
    (
        "arrays",
        "output padding filled with zeros",
        "return in_sums(by_phases, x, w, bias, layer, bounded=not is_long(layer))",
        "each = zip(layer.output_size, layer.kernel_size, layer.stride, layer.dilation, layer.padding)\n"
        "    full = [(n - 1) * s + d * (k - 1) + 1 - sum(p) for n, k, s, d, p in each]\n"
        "    more = [n - size for n, size in zip(layer.input_size, full, strict=True)]\n"
        "    y = in_sums(by_phases, x, w, bias, layer, bounded=not is_long(layer))\n"
        "    y[..., y.shape[-1] - more[-1] :] = 0\n"
        "    return y",
    ),
    (
        "arrays",
        "bias twice",
        "put_sums(result, total, bias)",
        "put_sums(result, total, None if bias is None else bias + bias)",
    ),
    (
        "arrays",
        "bias along the last axis",
        "put_sums(result, total, bias)",
        "put_sums(result, total, None)\n"
        "        result += 0 if bias is None else np.resize(bias.astype(dtype), result.shape[-1])",
    ),
    (
        "arrays",
        "scattering: all groups weighted by the first",
        "cols = weights @ part",
        "cols = weights[:1] @ part",
    ),
    (
        "arrays",
        "zero insertion: kernel not flipped",
        "flipped = np.flip(w, tuple(range(2, w.ndim))).reshape",
        "flipped = w.reshape",
    ),
    (
        "arrays",
        "zero insertion: no zeros inserted",
        "z[(..., *places)] = x",
        "z[(..., *(slice(n) for n in x.shape[3:]))] = x",
    ),
    (
        "arrays",
        "zero insertion: dilation ignored",
        'tuple(margins), layer.dilation, "zeros"\n',
        'tuple(margins), (1,) * layer.axes, "zeros"\n',
    ),
    (
        "arrays",
        "zero insertion: as much cut off after as before",
        "before + layer.input_size[axis]\n",
        "size + layer.dilation[axis] * (layer.kernel_size[axis] - 1) - before\n",
    ),
    (
        "arrays",
        "samples of the last axis left together",
        "(slice(None, None, step) for step in stride)",
        "(slice(None, None, step) for step in stride[:-1]), slice(x.shape[-1])",
    ),
    (
        "arrays",
        "overlaps of axes added",
        "np.multiply.outer",
        "np.add.outer",
    ),
    (
        "arrays",
        "long kernels not reversed",
        "w[(..., *(slice(None, None, -1) for _ in phase))]",
        "w",
    ),
    (
        "arrays",
        "margins of long kernels on the wrong side",
        "margins.append((max(-begin, 0), max(axis.last - n, 0)))",
        "margins.append((max(axis.last - n, 0), max(-begin, 0)))",
    ),
    (
        "arrays",
        "zero insertion: = for += over channels",
        "groups.stop * width] += bilinear(",
        "groups.stop * width] = bilinear(",
    ),
    (
        "arrays",
        "the first images for all",
        "part, result = x[some].astype(sums, copy=False), y[some]",
        "part, result = x[: some.stop - some.start].astype(sums, copy=False), y[some]",
    ),
    (
        "arrays",
        "many overlaps: every second solution",
        "found = (high - known) // step - (low - 1 - known) // step",
        "found = (high - known) // (2 * step) - (low - 1 - known) // (2 * step)",
    ),
    (
        "arrays",
        "many overlaps: taps beyond the last",
        "low = np.maximum(-((step * (many - 1) - total) // jump), 0)",
        "low = np.maximum(-((step * many - total) // jump), 0)",
    ),
    (
        "__init__",
        "dilation not handed on",
        "_conv_transpose(2, x, w, bias, stride, padding, output_padding, output_size, dilation, groups)",
        "_conv_transpose(2, x, w, bias, stride, padding, output_padding, output_size, 1, groups)",
    ),
    (
        "__init__",
        "zero insertion: bias not handed on",
        "return backend.conv_transpose_by_zero_insertion(*operands, layer)",
        "return backend.conv_transpose_by_zero_insertion(*operands[:2], None, layer)",
    ),
    (
        "__init__",
        "overlaps: output padding not handed on",
        "        output_padding=output_padding,\n",
        "",
    ),
    (
        "__init__",
        "overlaps: output size not handed on",
        "        output_size=output_size,\n",
        "",
    ),
    (
        "__init__",
        "output size not handed on",
        '"output_size": output_size, ',
        "",
    ),
]
