"""The layer's trilinear form on tensors, and its three operators.

A layer without bias, an output's gradient and the two gradients of the operands all come from one number that is
linear in each of three tensors:

.. math:: S(x, w, y) = \\sum_{b, o, i} \\sum_{c, u} y[b, o, i]\\; x[b, c, s\\,i + d\\,u - p]\\; w[o, c, u]

Its derivative by ``y`` is the layer, the one by ``x`` its input gradient, which is the transposed convolution, and the
one by ``w`` its weight gradient. So the three operators are each other's derivatives, to any order:

- ``konvlib.layers.operators`` registers them with torch;
- ``konvlib.layers.forward`` computes the layer, ``konvlib.layers.input_grad`` its input gradient,
  ``konvlib.layers.weight_grad`` its weight gradient; ``konvlib.layers.depthwise``, ``depthwise_input_grad`` and
  ``depthwise_weight_grad`` do where each output channel reads one input channel; ``forward_hopper``,
  ``input_grad_hopper`` and ``weight_grad_hopper`` do in boxes of pixels, for halves on Hopper;
- ``konvlib.layers.polynomials`` is what these kernels make of a sample where the layer is one of polynomials, and
  ``konvlib.layers.polynomial_input_grad`` the input gradient of such a layer;
- ``konvlib.layers.aten`` is what runs where no kernel does;
- ``konvlib.layers.autotune`` chooses tiles, ``konvlib.layers.memory`` says how tensors lie in memory.

The `tensors` backends of `konvlib.images`, `konvlib.transposes`, `konvlib.gradients` and `konvlib.strides` are made of
these.
"""
