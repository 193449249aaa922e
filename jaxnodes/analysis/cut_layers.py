"""Taking nodes out of layers: what becomes of each kind, its weights and its input's cut.

A layer of weights takes a cut up: it drops the rows of the features that are gone, and
adds to its bias what those, being constant, would have added. Layers without weights
hand the cut on; layers that mix features need all of them.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxnodes.analysis.cuts import At, Cut, Made, Walk, carried_through, is_elementwise, uncut
from jaxnodes.errors import check
from jaxnodes.layers.attention_layers import Attention, CrossAttention
from jaxnodes.layers.base import Elementwise
from jaxnodes.layers.batch_normalization import BatchNorm
from jaxnodes.layers.cells import CELLS
from jaxnodes.layers.convolution_layers import Conv, ConvTranspose
from jaxnodes.layers.heads import Rescale
from jaxnodes.layers.neurons import Dense
from jaxnodes.layers.pooling import AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool
from jaxnodes.layers.recurrent import GRU, LSTM, SimpleRNN
from jaxnodes.layers.regularization import ChannelDropout, Dropout
from jaxnodes.layers.reshaping import Flatten, Reshape
from jaxnodes.layers.sequence_layers import LastStep
from jaxnodes.layers.sliding import padding_for, sizes_for


def mixing(walk: Walk, at: At) -> Made:
    """Any layer that needs all of its input, or that can't be seen through."""
    walk.whole(at.cut, f"{at.site!r} needs all of its inputs")
    return Made(at.layer, at.params, at.state, uncut(at.y))


def _passing(walk: Walk, at: At) -> Made:
    """Pooling, dropout and the like: every channel by itself, a constant stays what it is."""
    return Made(at.layer, at.params, at.state, at.cut)


def _rescale(walk: Walk, at: At) -> Made:
    function = lambda x: at.layer.predict(({}, {}), x)  # noqa: E731
    return Made(at.layer, {}, {}, carried_through(function, at.cut, at.y.dtype))


def _batch_norm(walk: Walk, at: At) -> Made:
    """An affine function of each feature, at inference."""
    function = lambda x: at.layer.predict((at.params, at.state), x[None])[0]  # noqa: E731
    params, state = (
        {name: leaf[at.cut.keep] for name, leaf in tree.items()} for tree in (at.params, at.state)
    )
    cut = carried_through(function, at.cut, at.array.dtype)
    return Made(at.layer, params, state, cut)


def _elementwise(walk: Walk, at: At) -> Made:
    if not is_elementwise(at.layer.function, at.y.ndim):
        walk.whole(at.cut, f"{at.site!r} mixes its inputs")
        return Made(at.layer, {}, {}, walk.make(at, len(at.cut.keep), at.layer.function)[1])
    cut = carried_through(at.layer.function, at.cut, at.array.dtype)
    return Made(at.layer, {}, {}, walk.rename(at.site, cut))


def _flatten(walk: Walk, at: At) -> Made:
    """The channels of every place in a row."""
    if at.array.ndim < 2:
        return mixing(walk, at)
    return Made(at.layer, {}, {}, at.cut.tiled(at.y.shape[-1] // len(at.cut.keep)))


def _reshape(walk: Walk, at: At) -> Made:
    """One that leaves the channels the last axis, or flattens them as `Flatten` does."""
    shape, channels = at.layer.shape, len(at.cut.keep)
    if at.y.shape[-1] == channels:
        kept = -1 if shape[-1] == -1 else int(at.cut.keep.sum())
        return Made(Reshape((*shape[:-1], kept)), {}, {}, at.cut)
    if len(shape) == 1 and not at.cut.keep.all():
        return _flatten(walk, at)._replace(layer=Reshape((-1,)))
    return _flatten(walk, at) if len(shape) == 1 else mixing(walk, at)


def _dense(walk: Walk, at: At) -> Made:
    layer, keep = at.layer, at.cut.keep
    w = at.params["w"]
    added = _added(at.cut, w)
    features, cut = walk.make(at, layer.features, layer.activation)
    use_bias = layer.use_bias or bool(added.any())
    params = {"w": w[keep][:, features]}
    if use_bias:
        params["b"] = _biased(at, added, w.dtype)[features]
    layer = dataclasses.replace(
        layer,
        features=int(features.sum()),
        in_features=None if layer.in_features is None else int(keep.sum()),
        use_bias=use_bias,
    )
    return Made(layer, params, {}, cut)


def _added(cut: Cut, w: np.ndarray) -> np.ndarray:
    """What the removed inputs add to each weighted sum."""
    return cut.removed[~cut.keep] @ w[~cut.keep].astype(np.float64)


def _biased(at: At, added: np.ndarray, dtype: Any) -> np.ndarray:
    """The bias, and what removed inputs add to it."""
    if "b" not in at.params:
        return added.astype(dtype)
    b = at.params["b"]
    return (b.astype(np.float64) + added).astype(b.dtype)


def _conv(walk: Walk, at: At) -> Made:
    """A group goes as a whole, and with it what it makes, which is constant then."""
    layer, keep, groups = at.layer, at.cut.keep, at.layer.groups
    w = at.params["w"]
    if at.cut.removed.any():
        _check_padding(at)
    of_group = keep.reshape(groups, -1)
    alive = np.any(of_group, axis=1)
    check(
        groups == 1 or (of_group.all(axis=1) == alive).all(),
        f"expected all or none of the channels of each of the {groups} groups of {at.site!r} "
        "removed, got masks that leave some of a group",
        "prune",
    )
    taps = w.astype(np.float64).sum(axis=tuple(range(w.ndim - 2)))
    taps = taps.reshape(of_group.shape[1], groups, -1)
    added = np.einsum("gi,igo->go", at.cut.removed.reshape(groups, -1), taps).ravel()
    b, use_bias = _biased(at, added, w.dtype), layer.use_bias or bool(added.any())
    if groups == 1:
        features, cut = walk.make(at, layer.features, layer.activation)
    else:
        cut, features = _grouped(walk, at, alive, b)
    inputs = keep if groups == 1 else np.ones(w.shape[-2], bool)
    params = {"w": w[..., inputs, :][..., features]}
    if use_bias:
        params["b"] = b[features]
    layer = dataclasses.replace(
        layer, features=int(features.sum()), groups=int(alive.sum()), use_bias=use_bias
    )
    return Made(layer, params, {}, cut)


def _grouped(walk: Walk, at: At, alive: np.ndarray, b: np.ndarray) -> tuple[Cut, np.ndarray]:
    """The cut behind a convolution in groups, which live or go with their channels."""
    layer, per = at.layer, at.layer.features // at.layer.groups
    first = at.cut.origin.reshape(layer.groups, -1)
    if first.shape[1] > 1:
        walk.tied.update(at.cut.origin.tolist())
    features = np.repeat(alive, per)
    if not is_elementwise(layer.activation, at.y.ndim):
        walk.whole(at.cut, f"the activation of {at.site!r} mixes what it makes")
        return walk.make(at, layer.features, layer.activation)[1], features
    shared = at.cut.shared or first.shape[1] > 1
    cut = Cut(features, b.astype(np.float64), np.repeat(first[:, 0], per), shared)
    if layer.activation is not None:
        cut = carried_through(layer.activation, cut, at.y.dtype)
    return walk.rename(at.site, cut), features


def _check_padding(at: At) -> None:
    space, rank = at.x.shape[1:-1], len(at.layer.kernel_size)
    stride, dilation = (
        sizes_for(getattr(at.layer, name), rank, name, "prune") for name in ("stride", "dilation")
    )
    pads = padding_for(at.layer.padding, space, at.layer.kernel_size, stride, dilation, "prune")
    check(
        type(at.layer) is Conv and not np.any(pads),
        f"expected zero in the place of the nodes removed before {at.site!r}, which sees zeros "
        "at the border too, but got other values; prune those with values='zero', or keep them",
        "prune",
    )


def _conv_transpose(walk: Walk, at: At) -> Made:
    if at.cut.removed.any():
        _check_padding(at)
    features, cut = walk.make(at, at.layer.features, at.layer.activation)
    params = {"w": at.params["w"][..., at.cut.keep, :][..., features]}
    if "b" in at.params:
        params["b"] = at.params["b"][features]
    return Made(dataclasses.replace(at.layer, features=int(features.sum())), params, {}, cut)


def _recurrent(walk: Walk, at: At) -> Made:
    """The gates' blocks lie side by side, and each loses the same columns."""
    layer, kind = at.layer, at.layer._kind
    gates, biases, carry = CELLS[kind]
    w_i, w_h, b = (at.params[name] for name in ("w_i", "w_h", "b"))
    added = np.zeros(len(b))
    added[: gates * layer.features] = _added(at.cut, w_i)
    nodes, cut = walk.make(at, layer.features, getattr(layer, "activation", None))
    held = [at.state[name][..., ~nodes] for name in carry if name in at.state]
    check(
        not cut.removed.any() and not any(h.any() for h in held),
        f"expected zero in the place of nodes of {at.site!r}, whose first step begins with zeros, "
        "got other values; use values='zero', and the state of reset_state",
        "prune",
    )
    columns = np.tile(nodes, gates)
    params = {
        "w_i": w_i[at.cut.keep][:, columns],
        "w_h": w_h[nodes][:, columns],
        "b": _biased(at, added, b.dtype)[np.tile(nodes, biases)],
    }
    state = {name: h[..., nodes] for name, h in at.state.items()}
    return Made(dataclasses.replace(layer, features=int(nodes.sum())), params, state, cut)


def _attention(walk: Walk, at: At) -> Made:
    """A head goes with its keys and values, unless other heads look at them too."""
    walk.whole(at.cut, f"{at.site!r} makes as many outputs as it has inputs")
    layer, p = at.layer, dict(at.params)
    heads, dim = p["w_o"].shape[:2]
    each = heads // p["w_k"].shape[1]
    walk.number(at.site, heads, each)
    mask = walk.mask(at.site, heads)
    counts = mask.keep.reshape(-1, each).sum(axis=1)
    alive = counts > 0
    check(
        len(set(counts[alive])) == 1,
        f"expected as many heads kept of each {each} of {at.site!r} that share keys and values, "
        f"got {counts.tolist()}; a mask may remove all of them, too",
        "prune",
    )
    values = np.broadcast_to(mask.value.reshape(heads, -1), (heads, dim))
    gone = np.where(mask.keep[:, None], 0, values)
    added = np.einsum("hd,hdo->o", gone, p["w_o"].astype(np.float64))
    use_bias = layer.use_bias or bool(added.any())
    if use_bias and not layer.use_bias:
        p |= {f"b_{name}": np.zeros_like(p[f"w_{name}"][0]) for name in "qkv"}
        p["b_o"] = np.zeros_like(p["w_o"][0, 0])
    kept = {
        **{f"{kind}_{name}": (..., alive, slice(None)) for kind in "wb" for name in "kv"},
        **{f"{kind}_q": (..., mask.keep, slice(None)) for kind in "wb"},
        "w_o": mask.keep,
        "b_o": ...,
    }
    params = {name: leaf[kept[name]] for name, leaf in p.items()}
    if use_bias:
        params["b_o"] = (params["b_o"].astype(np.float64) + added).astype(params["b_o"].dtype)
    state = {
        name: leaf[..., alive, :] if name in ("k", "v") else leaf for name, leaf in at.state.items()
    }
    left, groups = int(mask.keep.sum()), int(alive.sum())
    shared = None if groups == left else groups
    layer = dataclasses.replace(
        layer,
        heads=left,
        head_features=layer.head_features if left == heads else dim,
        kv_heads=layer.kv_heads if left == heads else shared,
        use_bias=use_bias,
    )
    return Made(layer, params, state, uncut(at.y))


#: For each kind of layer that is not made of others, what becomes of it.
LAYER_RULES: dict[type, Callable[[Walk, At], Made]] = {
    **dict.fromkeys((Attention, CrossAttention), _attention),
    **dict.fromkeys((AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool), _passing),
    **dict.fromkeys((ChannelDropout, Dropout, LastStep), _passing),
    **dict.fromkeys((GRU, LSTM, SimpleRNN), _recurrent),
    BatchNorm: _batch_norm,
    Conv: _conv,
    ConvTranspose: _conv_transpose,
    Dense: _dense,
    Elementwise: _elementwise,
    Flatten: _flatten,
    Rescale: _rescale,
    Reshape: _reshape,
}
