"""Feed-forward layers whose hidden channels the trace cannot follow: packed gates, and GPT-2's `Conv1D`.

In a packed GLU one projection gives gate and value, twice as wide as what reads them: hidden channel i is the outputs i
and i + h (Shazeer 2020, arXiv 2002.05202). As with heads, what is recognised by names and widths is tried before use.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from sparsify.channels.group import Group, Places
from sparsify.channels.layer_cuts import is_transformers_conv1d, layer_cuts, reads, writes

PAIRS = (
    ("gate_up_proj", "down_proj"),
    ("fc1", "fc2"),
    ("linear_in", "linear_out"),
    ("w12", "w3"),
    ("Wi", "Wo"),
    ("wi", "wo"),
    ("c_fc", "c_proj"),
    ("dense_h_to_4h", "dense_4h_to_h"),
)


def packed_groups(model: nn.Module) -> Iterator[Group]:
    """A group of hidden channels for each packed or transposed feed-forward layer of the model."""
    for name, module in model.named_modules():
        for first, second in PAIRS:
            wide, narrow = getattr(module, first, None), getattr(module, second, None)
            if not isinstance(wide, nn.Module) or not isinstance(narrow, nn.Module):
                continue
            hidden, outputs = reads(narrow), writes(wide)
            if not hidden or not (outputs == 2 * hidden or (outputs == hidden and is_transformers_conv1d(wide))):
                continue
            prefix = f"{name}." if name else ""
            yield _group(f"{prefix}{first}", wide, f"{prefix}{second}", narrow, outputs // hidden, hidden)


def _group(wide: str, first: nn.Module, narrow: str, second: nn.Module, times: int, hidden: int) -> Group:
    written: Places = tuple(tuple(i + block * hidden for block in range(times)) for i in range(hidden))
    write = layer_cuts(wide, first, written, writes=True)
    read = layer_cuts(narrow, second, tuple((i,) for i in range(hidden)), writes=False)
    assert write is not None and read is not None
    return Group(wide, "channels", write.cuts + read.cuts, write.resizes + read.resizes, hidden)
