"""Wanda: a weight times the norm of what it is fed (Sun et al. 2023, arXiv 2306.11695, section 3, equation 1).

    S_ij = |W_ij| * ||X_j||_2       X_j: the j-th input feature over all examples and positions

Inputs are those of the network as given. For a convolution X is the unfolded input: j is a channel at a position of the
kernel, within the weight's group. Padding counts as the zeros it is; padded tokens of a text count as any other.

Scores of different rows are not meant to be compared: the paper removes the same share of each output row. For a
pattern that does not compare within a row of itself (n:m does), pass the scores through `rows.within_rows`.

Of channels the scores themselves are summed, as any criterion's are: over the rows that write a channel and the columns
that read it (Fang et al. 2023, DepGraph, arXiv 2301.12900). Wanda-sp, the structured form that FLAP is compared with
(An et al. 2023, arXiv 2312.11983), takes their mean over the columns alone. Ranks would tell nothing of a row: they sum
to the same in every row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparsify.criteria.context import Context
from sparsify.criteria.feeding import feed
from sparsify.criteria.layers import Layer, layers_of
from sparsify.errors import UsageError


def wanda(context: Context) -> dict[str, Tensor]:
    """|W| ||X||, by parameter.

    Raises:
        UsageError: there are no inputs, a name is not of a linear or convolution layer, a layer never runs, or is fed
            what is not finite.
    """
    inputs = context.inputs_for("wanda")
    layers = layers_of(context, "wanda")
    square_sums: dict[str, Tensor] = {}

    def see(layer: Layer, fed: Tensor) -> None:
        found = layer.square_sums(fed)
        square_sums[layer.name] = square_sums[layer.name] + found if layer.name in square_sums else found

    feed(context.model, layers, inputs, see, criterion="wanda")
    if bad := [name for name, sums in square_sums.items() if not bool(sums.isfinite().all())]:
        raise UsageError(f"wanda: expected finite inputs of {bad[0]}, got nan or inf; check the calibration examples")
    parameters = context.parameters
    scores: dict[str, Tensor] = {}
    for layer in layers:
        weight = parameters[layer.name].detach()
        norms = square_sums[layer.name].sqrt().unsqueeze(1)  # (groups, 1, columns)
        product = layer.tensor(layer.matrices(weight).abs() * norms)
        scores[layer.name] = product.to(torch.promote_types(weight.dtype, torch.float32)).cpu()
    return scores
