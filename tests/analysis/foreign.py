"""Models of other libraries, as their users have them, and the same networks by hand."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnodes as jn

N = 6
LABELS = np.arange(N, dtype=np.int32) % 3
KEY = jax.random.key(0)


class Model(NamedTuple):
    """A model of another library, as its users have it.

    Attributes:
      f: `f(variables, x)`, unmodified; `variables`, `x`: what it is called with.
      by_hand: `by_hand(variables, x, see)`, the same network, whose nodes are `see(h, name)`.
      weights: by the name that each node should have, its layer's incoming weights: a part
        of their path in `variables`, and the axis of the nodes.
    """

    f: Callable
    variables: Any
    x: np.ndarray
    by_hand: Callable
    weights: dict[str, tuple[str, int]]

    def seen(self):
        """The output, and the values of the nodes, by hand."""
        values = {}
        y = self.by_hand(self.variables, self.x, lambda h, name: values.setdefault(name, h))
        return y, {name: np.asarray(value) for name, value in values.items()}

    def explicit(self, variables, x):
        """The same network that names its nodes itself."""
        return self.by_hand(variables, x, lambda h, name: jn.node(h, name.split("#")[0]))

    def without(self, name, i, value):
        """The output with one node at `value`."""

        def see(h, at):
            return h.at[..., i].set(value) if at == name else h

        return self.by_hand(self.variables, self.x, see)

    def disconnected(self, name, i):
        """The variables with the incoming weights of a node zeroed."""
        path, axis = self.weights[name]

        def zeroed(keys, leaf):
            row = jnp.moveaxis(leaf, axis, 0).at[i].set(0) if path in keystr(keys) else None
            return leaf if row is None else jnp.moveaxis(row, 0, axis)

        return jax.tree_util.tree_map_with_path(zeroed, self.variables)


def keystr(keys):
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def numbers(shapes):
    """Random float64 numbers; a variance is positive."""
    rng = np.random.default_rng(0)

    def of_shape(keys, leaf):
        p = jnp.asarray(rng.uniform(-1, 1, leaf.shape))
        return p + 2 if keystr(keys).endswith("var") else p

    return jax.tree_util.tree_map_with_path(of_shape, shapes)


def data(*shape):
    return np.random.default_rng(1).normal(size=(N, *shape))


class CNN(nn.Module):
    training: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(3, (3, 3))(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not self.training)(x))
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        x = nn.gelu(nn.Dense(4)(x))
        return nn.Dense(3)(x)


def linen():
    """A flax linen CNN: the names of its modules."""
    x = data(4, 4, 2)
    variables = numbers(jax.eval_shape(CNN().init, KEY, np.float32(x)))

    def by_hand(variables, x, see):
        params, moments = variables["params"], variables["batch_stats"]["BatchNorm_0"]
        first, norm = params["Conv_0"], params["BatchNorm_0"]
        h = jn.conv({"w": first["kernel"], "b": first["bias"]}, x)
        h = (h - moments["mean"]) / jnp.sqrt(moments["var"] + 1e-5) * norm["scale"] + norm["bias"]
        h = see(jnp.maximum(h, 0), "CNN/Conv_0")
        h = h.reshape(N, 2, 2, 2, 2, 3).max((2, 4)).reshape(N, 12)
        h = h @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
        h = see(jax.nn.gelu(h), "CNN/Dense_0")
        return see(h @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"], "CNN/Dense_1")

    names = {f"CNN/{name}": (f"{name}/kernel", -1) for name in ("Conv_0", "Dense_0", "Dense_1")}
    return Model(CNN().apply, variables, x, by_hand, names)


def two_layers(layers, names, activation=jax.nn.relu):
    """An MLP by hand, from a function that finds the two layers' weights and biases."""

    def by_hand(variables, x, see):
        (w1, b1), (w2, b2) = layers(variables)
        h = see(activation(x @ w1 + b1), names[0])
        return see(h @ w2 + b2, names[1])

    return by_hand


class MLP(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(5, 4, rngs=rngs)
        self.out = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.relu(self.hidden(x)))


def functional():
    """A flax nnx MLP, which names no scopes: the kind of operation, counted."""
    graph, state = nnx.split(nnx.eval_shape(lambda: MLP(nnx.Rngs(0))))

    def layers(state):
        return [(state[k]["kernel"][...], state[k]["bias"][...]) for k in ("hidden", "out")]

    names = {"dense1": ("hidden/kernel", -1), "dense2": ("out/kernel", -1)}
    by_hand = two_layers(layers, list(names))
    return Model(
        lambda state, x: nnx.merge(graph, state)(x), numbers(state), data(5), by_hand, names
    )


def equinox():
    """An equinox MLP under vmap: the classes of its modules, numbered."""
    net = eqx.filter_eval_shape(eqx.nn.MLP, 5, 3, 4, 1, activation=jnp.tanh, key=KEY)
    params, static = eqx.partition(net, lambda leaf: hasattr(leaf, "shape"))

    def layers(params):
        return [(layer.weight.T, layer.bias) for layer in params.layers]

    name = "eqx.nn.MLP/eqx.nn.Linear"
    names = {name: ("layers/0/weight", 0), f"{name}#2": ("layers/1/weight", 0)}
    by_hand = two_layers(layers, list(names), jnp.tanh)

    def f(params, x):
        return jax.vmap(eqx.combine(params, static))(x)

    return Model(f, numbers(params), data(5), by_hand, names)


def haiku():
    """A haiku MLP: the names of its modules."""
    hk = pytest.importorskip("haiku")
    net = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([4, 3])(x)))
    names = {f"mlp/linear_{i}": (f"linear_{i}/w", -1) for i in (0, 1)}

    def layers(params):
        return [
            (params[f"mlp/~/linear_{i}"]["w"], params[f"mlp/~/linear_{i}"]["b"]) for i in (0, 1)
        ]

    x = data(5)
    return Model(
        net.apply,
        numbers(jax.eval_shape(net.init, KEY, np.float32(x))),
        x,
        two_layers(layers, list(names)),
        names,
    )


MODELS = {"linen": linen, "nnx": functional, "equinox": equinox, "haiku": haiku}
