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
        "y, [tap.start for tap in taps], layer)",
        "y, [len(p) - 1 - t.start for p, t in zip((phases_of_axis(*axis) for axis in each), taps)], layer)",
    ),
    (
        "arrays",
        "phases not spread by the dilation",
        "begin = layer.dilation[axis] * index",
        "begin = index",
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
        "gaps = [dilation // gcd(stride, dilation) for",
        "gaps = [1 for",
    ),
    (
        "arrays",
        "kernel flipped",
        "u = (tap[index] for tap",
        "u = (tap[-1 - index] for tap",
    ),
    (
        "arrays",
        "= for += where taps overlap",
        "batch, *places)] += products",
        "batch, *places)] = products",
    ),
    (
        "arrays",
        "blocks of lines all at the start",
        "first, size = [lines.start, *[0]",
        "first, size = [0, *[0]",
    ),
    (
        "arrays",
        "all images of a block into the first ones",
        "z[(slice(None), batch, *places)] +=",
        "z[(slice(None), slice(len(part)), *places)] +=",
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
        "stride, size = layer.stride[axis], layer.input_size[axis]",
        "stride, size = layer.stride[0], layer.input_size[axis]",
    ),
    (
        "arrays",
        "padding on one side only",
        "begin = layer.dilation[axis] * index - layer.padding[axis][0]",
        "begin = layer.dilation[axis] * index",
    ),
    (
        "arrays",
        "padding after for before",
        "* index - layer.padding[axis][0]",
        "* index - layer.padding[axis][1]",
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
        "return _with_bias(by_phases(x, w, layer, BLOCK), bias)",
        "known = geometry.conv_transpose_geometry(\n"
        "        x.shape, w.shape, axes=layer.axes, stride=layer.stride, padding=layer.padding,\n"
        "        dilation=layer.dilation, groups=layer.groups,\n"
        "    )\n"
        "    return _with_bias(by_phases(x, w, known, BLOCK), bias)",
    ),
    (
        "arrays",
        "output padding at the wrong side",
        "    return _with_bias(by_phases(x, w, layer, BLOCK), bias)\n\n\ndef by_phases",
        "    each = zip(layer.output_size, layer.kernel_size, layer.stride, layer.dilation, layer.padding)\n"
        "    full = [(n - 1) * s + d * (k - 1) + 1 - sum(p) for n, k, s, d, p in each]\n"
        "    more = [n - size for n, size in zip(layer.input_size, full, strict=True)]\n"
        "    y = np.roll(by_phases(x, w, layer, BLOCK), more, tuple(range(2, layer.axes + 2)))\n"
        "    return _with_bias(y, bias)\n\n\ndef by_phases",
    ),
    (
        "arrays",
        "output padding filled with zeros",
        "    return _with_bias(by_phases(x, w, layer, BLOCK), bias)\n\n\ndef by_phases",
        "    each = zip(layer.output_size, layer.kernel_size, layer.stride, layer.dilation, layer.padding)\n"
        "    full = [(n - 1) * s + d * (k - 1) + 1 - sum(p) for n, k, s, d, p in each]\n"
        "    more = [n - size for n, size in zip(layer.input_size, full, strict=True)]\n"
        "    y = by_phases(x, w, layer, BLOCK)\n"
        "    y[..., y.shape[-1] - more[-1] :] = 0\n"
        "    return _with_bias(y, bias)\n\n\ndef by_phases",
    ),
    (
        "arrays",
        "bias twice",
        "y += bias.reshape(",
        "y += 2 * bias.reshape(",
    ),
    (
        "arrays",
        "bias along the last axis",
        "y += bias.reshape(-1, *(1,) * (y.ndim - 2))",
        "y += np.resize(bias, y.shape[-1])",
    ),
    (
        "arrays",
        "scattering: all groups weighted by the first",
        "cols = weights @ x.reshape",
        "cols = weights[:1] @ x.reshape",
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
        "z = insert_zeros(x, layer.stride)",
        "z = insert_zeros(x, 1)",
    ),
    (
        "arrays",
        "zero insertion: dilation ignored",
        "_with_bias(_convolve(z, weights, layer.dilation, layer.groups), bias)",
        "_with_bias(_convolve(z, weights, [1] * len(layer.dilation), layer.groups), bias)",
    ),
    (
        "arrays",
        "zero insertion: as much cut off after as before",
        "last = before + layer.input_size[axis]",
        "last = z.shape[axis + 2] + layer.dilation[axis] * (layer.kernel_size[axis] - 1) - before",
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
