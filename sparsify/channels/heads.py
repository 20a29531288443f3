"""Attention heads: a head goes whole, with its slices of query, key, value and output, and the counts kept of heads.

Attention modules differ in names, not in kind, so they are told by what they hold: projections for query, key and
value (each its own, or fused), one that reads the heads, and a head count or head size. With grouped queries (GQA) a
unit is a key-value head with all the queries that share it; with one key-value head (MQA), a query head. Whether a
module was read rightly is not taken on trust: every group is tried (`verify.py`) and refused by name where it is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import nn

from sparsify.channels.group import Cut, Group, Places, Resize
from sparsify.channels.layer_cuts import LayerCuts, is_transformers_conv1d, layer_cuts, writes

SEPARATE = (
    ("query", "key", "value"),
    ("q_proj", "k_proj", "v_proj"),
    ("q_lin", "k_lin", "v_lin"),
    ("query_proj", "key_proj", "value_proj"),
    ("to_q", "to_k", "to_v"),
    ("wq", "wk", "wv"),
    ("q", "k", "v"),
)
FUSED = ("qkv", "c_attn", "in_proj", "qkv_proj", "query_key_value", "Wqkv", "to_qkv")
OUTPUT = ("o_proj", "out_proj", "out_lin", "proj", "c_proj", "wo", "o", "dense", "to_out.0", "to_out", "out")
OUTPUT_BESIDE = ("output.dense", "dense")  # of BERT and its kin, where it lies beside the attention
HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "heads", "nhead")
KEY_VALUE_HEADS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads")
HEAD_SIZE = ("head_dim", "attention_head_size", "head_size", "dim_head", "key_value_proj_dim", "d_kv", "d_head")
WIDTHS = ("all_head_size", "attn_dim", "inner_dim", "split_size")
SHARED_QUERIES = "num_key_value_groups"
BIASES = {"q_bias": 0, "k_bias": 0, "v_bias": 0, "bias_k": 2, "bias_v": 2}
"""Bare parameters as wide as all heads together, and along which axis."""
PER_HEAD = {"relative_position_bias_table": 1, "logit_scale": 0, "gamma": 0}
"""Bare parameters that hold one slice a head, and along which axis."""
NORMS = ("q_norm", "k_norm")
"""Norms of queries and keys; those over all heads at once lose a head's scale with it, those over one head do not."""


@dataclass(frozen=True)
class Attention:
    """One attention module: its projections by name, and its heads."""

    name: str
    query: str
    key: str
    value: str
    output: str
    heads: int
    key_value_heads: int
    size: int
    """Channels of one head."""

    @property
    def is_fused(self) -> bool:
        """Whether one projection gives query, key and value."""
        return self.query == self.key == self.value


def head_groups(model: nn.Module) -> list[Group]:
    """A group of heads for each attention module that is recognised."""
    groups = [_group(model, attention) for attention in attentions(model)]
    return [replace(group, instead=_interleaved(group, model)) for group in groups]


def attentions(model: nn.Module) -> Iterator[Attention]:
    """The attention modules of a model whose heads can be told apart."""
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            continue
        query, key, value = next(
            (names for names in SEPARATE if all(_is_projection(module, local) for local in names)), ("", "", "")
        )
        if not query:
            query = key = value = next((local for local in FUSED if _is_projection(module, local)), "")
        output = _output(model, name, module)
        if query and output and (found := _heads(name, module, query, key, value, output)):
            yield found


def _heads(name: str, module: nn.Module, query: str, key: str, value: str, output: str) -> Attention | None:
    fused = 3 if query == key else 1
    width, key_width = (writes(module.get_submodule(local)) for local in (query, key))
    size, heads = _number(module, HEAD_SIZE), _number(module, HEADS)
    if width % fused or not (size or heads):
        return None
    width, key_width = width // fused, key_width // fused
    size = size or width // heads
    if not size or width % size or key_width % size or (heads and heads * size != width):
        return None
    prefix = f"{name}." if name else ""
    query, key, value = (f"{prefix}{local}" for local in (query, key, value))
    return Attention(name, query, key, value, output, width // size, key_width // size, size)


def _output(model: nn.Module, name: str, module: nn.Module) -> str:
    """The projection that reads the heads: in the module, or beside it."""
    for local in OUTPUT:
        if _is_projection(module, local):
            return f"{name}.{local}" if name else local
    around = name.rpartition(".")[0]
    if name:
        for local in OUTPUT_BESIDE:
            if _is_projection(model.get_submodule(around), local):
                return f"{around}.{local}" if around else local
    return ""


def _group(model: nn.Module, attention: Attention) -> Group:
    module = model.get_submodule(attention.name)
    shared = attention.heads // attention.key_value_heads
    by_query = attention.key_value_heads == 1
    units = attention.heads if by_query else attention.key_value_heads
    queries = 1 if by_query else shared  # query heads that go with a unit
    width = attention.heads * attention.size
    places = _runs(units, queries * attention.size)
    roles: list[tuple[str, Places, bool]] = [(attention.output, places, False)]
    if attention.is_fused:
        thrice = tuple(tuple(i + block * width for block in range(3) for i in unit) for unit in places)
        roles.append((attention.query, thrice, True))
    else:
        roles.append((attention.query, places, True))
        if not by_query:
            roles += [(local, _runs(units, attention.size), True) for local in (attention.key, attention.value)]
    cuts: list[Cut] = []
    resizes: list[Resize] = []
    for name, where, is_written in reversed(roles):
        share = layer_cuts(name, model.get_submodule(name), where, writes=is_written)
        assert share is not None
        cuts += share.cuts
        resizes += share.resizes
    cuts += _bare(module, attention, places)
    for share in _over_all_heads(module, attention, places, _runs(units, attention.size)):
        cuts += share.cuts
        resizes += share.resizes
    resizes += _counts(module, attention, queries, 0 if by_query else 1)
    root = attention.query
    return Group(root, "heads", tuple(cuts), tuple(resizes), units, queries * attention.size, attention.name)


def _bare(module: nn.Module, attention: Attention, places: Places) -> list[Cut]:
    """Bare parameters and buffers of the module that hold something of each head."""
    prefix = f"{attention.name}." if attention.name else ""
    own = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
    cuts: list[Cut] = []
    for local, value in own.items():
        axis = PER_HEAD.get(local)
        if axis is not None and value.ndim > axis and value.shape[axis] == attention.heads:
            cuts.append(Cut(f"{prefix}{local}", axis, _runs(len(places), attention.heads // len(places)), "through"))
        axis = BIASES.get(local)
        if axis is not None and value.ndim == axis + 1 and value.shape[axis] == attention.heads * attention.size:
            cuts.append(Cut(f"{prefix}{local}", axis, places, "out"))
    return cuts


def _over_all_heads(module: nn.Module, attention: Attention, queries: Places, keys: Places) -> Iterator[LayerCuts]:
    """The share of norms that are as wide as all queries, or all keys (OLMo 2)."""
    for local, where in zip(NORMS, (queries, keys), strict=True):
        norm = getattr(module, local, None)
        width = sum(map(len, where))
        if not isinstance(norm, nn.Module) or width == attention.size:
            continue
        name = f"{attention.name}.{local}" if attention.name else local
        if own := [inner for inner, value in norm.named_parameters() if value.shape == (width,)]:
            counted = isinstance(getattr(norm, "normalized_shape", None), tuple)  # of torch's own norms
            yield LayerCuts(
                tuple(Cut(f"{name}.{inner}", 0, where, "through") for inner in own),
                (Resize(name, "normalized_shape", where),) if counted else (),
            )


def _counts(module: nn.Module, attention: Attention, queries: int, key_values: int) -> list[Resize]:
    """The module's own counts, so that no stale one hides behind a `-1` in a view."""
    units = attention.heads // queries
    falls: dict[str, int] = dict.fromkeys(HEADS, queries)
    falls |= dict.fromkeys(KEY_VALUE_HEADS, key_values)
    falls |= dict.fromkeys(WIDTHS, queries * attention.size)
    falls |= {SHARED_QUERIES: 0 if key_values else 1}
    held = vars(module)
    return [
        Resize(attention.name, name, _runs(units, fall))
        for name, fall in falls.items()
        if fall and isinstance(held.get(name), int) and held[name] in _totals(attention)
    ]


def _totals(attention: Attention) -> Sequence[int]:
    shared = attention.heads // attention.key_value_heads
    return (attention.heads, attention.key_value_heads, attention.heads * attention.size, shared)


def _interleaved(group: Group, model: nn.Module) -> Group | None:
    """The same heads, where a fused projection holds query, key and value of each head side by side; else None."""
    if writes(model.get_submodule(group.root)) != 3 * group.width:
        return None
    runs = _runs(group.units, 3 * group.unit_size)
    fused = {f"{group.root}.weight", f"{group.root}.bias"}
    return replace(group, cuts=tuple(replace(cut, places=runs) if cut.tensor in fused else cut for cut in group.cuts))


def _runs(units: int, size: int) -> Places:
    return tuple(tuple(range(unit * size, (unit + 1) * size)) for unit in range(units))


def _is_projection(module: nn.Module, local: str) -> bool:
    try:
        layer = module.get_submodule(local)
    except AttributeError:
        return False
    return isinstance(layer, nn.Linear) or is_transformers_conv1d(layer)


def _number(module: nn.Module, names: Sequence[str]) -> int:
    held = vars(module)
    return next((held[name] for name in names if isinstance(held.get(name), int) and held[name] > 0), 0)
