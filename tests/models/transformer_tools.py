"""A tiny GPT with random numbers; transformers of torch's own layers with the same ones.

The functions `..._weights` lay out arrays, parameters or gradients, as torch has them.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.models import gpt
from tests.layers.agreement import draw

# Compiling is most of the time these tests take, so XLA need not try hard.
quick_jit = functools.partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    },
)

tiny_gpt = functools.partial(gpt, 11, layers=2, heads=4, features=8, context=12)
IDS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]], np.int32)


def shapes(net, batch=IDS.shape):
    ids = jax.ShapeDtypeStruct(batch, jnp.int32)
    return jax.eval_shape(net.init, jax.random.key(0), ids)


def random_like(params, seed=0, dtype="float64"):
    """Parameters of the same shapes, none of them zero or one."""
    leaves, structure = jax.tree.flatten(params)
    drawn = [0.5 * draw(leaf.shape, dtype, seed + i) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, drawn)


def variables_of(net, seed=0):
    """Random parameters in float64, and an empty state."""
    params, state = shapes(net)

    def empty(leaf):
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.zeros(leaf.shape, jnp.float64 if floating else leaf.dtype)

    return random_like(params, seed), jax.tree.map(empty, state)


def block_weights(params):
    attention, mlp = params["attention1"], params["mlp"]
    features = attention["w_o"].shape[-1]
    weights = {
        "self_attn.in_proj_weight": np.concatenate(
            [np.reshape(attention[f"w_{name}"], (features, -1)).T for name in "qkv"]
        ),
        "self_attn.in_proj_bias": np.concatenate([np.ravel(attention[f"b_{n}"]) for n in "qkv"]),
        "self_attn.out_proj.weight": np.reshape(attention["w_o"], (-1, features)).T,
        "self_attn.out_proj.bias": attention["b_o"],
    }
    for ours, theirs in (("dense1", "linear1"), ("dense2", "linear2")):
        weights |= dense_weights(mlp[ours], theirs)
    for name in ("norm1", "norm2"):
        weights |= norm_weights(params[name], name)
    return {name: np.asarray(value) for name, value in weights.items()}


def dense_weights(params, name):
    return _pair(name, np.transpose(params["w"]), params["b"])


def norm_weights(params, name):
    return _pair(name, params["scale"], params["bias"])


def _pair(name, weight, bias):
    prefix = f"{name}." if name else ""
    return {f"{prefix}weight": np.asarray(weight), f"{prefix}bias": np.asarray(bias)}


def stack(torch, params, names, heads, **options):
    """The blocks of these names as torch's layers, in float64."""
    blocks = []
    for name in names:
        features, hidden = params[name]["mlp"]["dense1"]["w"].shape
        block = torch.nn.TransformerEncoderLayer(
            features, heads, hidden, dropout=0.0, batch_first=True, dtype=torch.float64, **options
        )
        set_weights(torch, block, block_weights(params[name]))
        blocks.append(block)
    return blocks


def set_weights(torch, module, weights):
    module.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})


def gradients(module):
    return {name: weight.grad.numpy() for name, weight in module.named_parameters()}


def assert_same(ours, theirs):
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=1e-9, atol=1e-9, err_msg=name)
