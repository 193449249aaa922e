"""EfficientNets: sizes as published, and one block as the same block in torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes.layers.base import as_layer
from jaxnodes.models import EFFICIENTNETS, EfficientNetScaling, efficientnet
from jaxnodes.models.image_layers import Style
from jaxnodes.models.mobile import mbconv, round_filters
from tests.layers.agreement import assert_agrees_with_torch, channels_first, channels_last

pytestmark = pytest.mark.usefixtures("quick")

STYLE = Style.of("swish", jn.BatchNorm(0.01, 1e-3, unbiased=True), None, "test")
TINY = EfficientNetScaling(0.2, 0.3, 28, 0.1)


def shapes(net, *shape, dtype=jnp.float32):
    x = jax.ShapeDtypeStruct(shape, dtype)
    return jax.eval_shape(net.init, jax.random.key(0), x), x


def drawn(net, x):
    """Variables of the right shapes, and no more, which cost nothing to compile."""
    random = np.random.default_rng(0)
    specs, _ = shapes(net, *x.shape)
    return jax.tree.map(lambda s: random.normal(0, 0.3, s.shape).astype(s.dtype), specs)


@pytest.mark.parametrize(
    ("variant", "parameters"),
    [
        ("b0", 5_288_548),
        ("b1", 7_794_184),
        ("b2", 9_109_994),
        ("b3", 12_233_232),
        ("b4", 19_341_616),
        ("b5", 30_389_784),
        ("b6", 43_040_704),
        ("b7", 66_347_960),
    ],
)
def test_parameters(variant, parameters):
    side = EFFICIENTNETS[variant].resolution
    net = efficientnet((side, side, 3), 1000, variant)
    (params, _), _ = shapes(net, 1, side, side, 3)
    assert sum(p.size for p in jax.tree.leaves(params)) == parameters


def test_b0_from_shapes():
    """As in table 1 of the paper; and 0.39 billion multiply-adds."""
    net = efficientnet((224, 224, 3), 1000)
    variables, x = shapes(net, 1, 224, 224, 3)
    made = jn.analysis.summary(net, variables, x)
    assert round(made.flops / 2e9, 2) == 0.39
    rows = {row.name: row for row in made.rows}
    ends = [rows[f"stage{i}/block1/project/conv1"].output_shape[1:] for i in range(1, 8)]
    sides, channels = (112, 56, 28, 14, 14, 7, 7), (16, 24, 40, 80, 112, 192, 320)
    assert ends == [(side, side, c) for side, c in zip(sides, channels, strict=True)]
    assert rows["head/conv1"].output_shape == (1, 7, 7, 1280)
    assert rows["stage2/block1/squeeze_excite/squeeze"].nodes == 4
    layers = dict(net.layers)
    assert layers["dropout1"] == jn.Dropout(0.2)
    assert len(layers["stage6"].layers) == 4
    assert dict(layers["stem"].layers) == {
        "conv1": jn.Conv(32, 3, stride=2, use_bias=False, w_init="he_normal_fan_out"),
        "batch_norm1": jn.BatchNorm(momentum=0.01, epsilon=0.001),
        "silu1": as_layer("swish"),
    }
    # Normal of variance 2 / 9, as the authors draw 3 x 3 filters of one channel each.
    depthwise = dict(dict(layers["stage1"].layers)["block1"].layers)["depthwise"].layers[0][1]
    assert depthwise == jn.Conv(32, 3, groups=32, use_bias=False, w_init="he_normal")


def test_stochastic_depth_rises_from_block_to_block():
    """16 blocks of B0, of which those with a shortcut are dropped at 0.2 i / 16."""
    stages = [dict(net) for name, net in _children(efficientnet((32, 32, 3), 9)) if "stage" in name]
    blocks = [block for stage in stages for block in stage.values()]
    assert len(blocks) == 16
    rates = {
        i: dict(block.layer.layers)["stochastic_depth"].rate
        for i, block in enumerate(blocks)
        if isinstance(block, jn.Residual)
    }
    assert rates == {i: 0.2 * i / 16 for i in (2, 4, 6, 7, 9, 10, 12, 13, 14)}
    none = efficientnet((32, 32, 3), 9, stochastic_depth=0, dropout=0)
    assert "Dropout" not in repr(none)


def _children(net):
    return [(name, getattr(layer, "layers", ())) for name, layer in net.layers]


@pytest.mark.parametrize(
    ("filters", "width", "rounded"),
    # 11 would be 8, more than a tenth less; 35.2 and 33.6 may be 32.
    [(32, 1.0, 32), (32, 1.1, 32), (24, 1.4, 32), (24, 1.2, 32), (11, 1.0, 16), (16, 0.1, 8)],
)
def test_channels_are_multiples_of_eight(filters, width, rounded):
    assert round_filters(filters, width) == rounded


@pytest.mark.parametrize(
    ("features", "side", "options"),
    [
        (6, 6, {"kernel_size": 5, "stride": 2}),
        (8, 7, {"kernel_size": 3}),
        (4, 7, {"kernel_size": 3, "stride": 2, "expansion": 1}),
    ],
)
def test_a_block_equals_torch(features, side, options, x64):
    """Output and gradients at inference and in training, and the statistics after it."""
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    block = mbconv(8, features, style=STYLE, **options)
    specs, _ = shapes(block, 3, side, side, 8, dtype=jnp.float64)
    leaves, structure = jax.tree.flatten(specs)
    random = np.random.default_rng(0)
    arrays = [random.normal(0, 0.5, leaf.shape) for leaf in leaves]
    count = len(jax.tree.leaves(specs[0]))
    statistics = [abs(a) + 0.5 for a in arrays[count:]]

    def ours(x, *leaves):
        params, state = jax.tree.unflatten(structure, [*leaves, *map(jnp.asarray, statistics)])
        y, after = block.apply(params, state, x, training=True)
        after = jax.lax.stop_gradient(jax.tree.leaves(after))
        made = [block.predict((params, state), x), y, *after]
        return jnp.concatenate([a.ravel() for a in made])

    def theirs(x, *leaves):
        params, state = jax.tree.unflatten(structure, [*leaves, *map(torch.tensor, statistics)])

        after = jax.tree.map(torch.clone, state)

        def run(training):
            def conv_norm(x, name, stride=1, groups=1, active=True):
                w = params[name]["conv1"]["w"].permute(3, 2, 0, 1)
                size, kernel = x.shape[-1], w.shape[-1]
                pad = max(0, (-(-size // stride) - 1) * stride + kernel - size)
                x = f.pad(x, (pad // 2, pad - pad // 2) * 2)
                p, s = (
                    tree[name]["batch_norm1"] for tree in (params, after if training else state)
                )
                kept = (s["mean"], s["var"])
                x = torch.conv2d(x, w, stride=stride, groups=groups)
                x = f.batch_norm(x, *kept, p["scale"], p["bias"], training, 0.01, 1e-3)
                return f.silu(x) if active else x

            h = channels_first(x)
            h = conv_norm(h, "expand") if "expand" in params else h
            h = conv_norm(h, "depthwise", options.get("stride", 1), h.shape[1])
            p = params["squeeze_excite"]
            s = f.silu(h.mean((2, 3)) @ p["squeeze"]["w"] + p["squeeze"]["b"])
            s = torch.sigmoid(s @ p["excite"]["w"] + p["excite"]["b"])
            h = conv_norm(h * s[:, :, None, None], "project", active=False)
            h = channels_last(h)
            return h + x if h.shape == x.shape else h

        made = [run(False), run(True), *jax.tree.leaves(after)]
        return torch.cat([a.ravel() for a in made])

    x = random.normal(size=(3, side, side, 8))
    assert_agrees_with_torch(torch, ours, theirs, x, *arrays[:count])


def test_stochastic_depth_leaves_whole_blocks_out(key):
    x = jax.random.normal(key, (200, 2, 2, 8))
    dropping = mbconv(8, 8, 3, expansion=1, stochastic_depth=0.3, style=STYLE)
    plain = mbconv(8, 8, 3, expansion=1, style=STYLE)
    variables = drawn(dropping, x)
    whole, _ = plain.apply(*variables, x, training=True)
    y, _ = dropping.apply(*variables, x, key=key, training=True)
    alone = np.asarray((y == x).all((1, 2, 3)))
    assert abs(alone.mean() - 0.3) < 0.1
    scaled = x + (whole - x) / 0.7
    np.testing.assert_allclose(y[~alone], scaled[~alone], rtol=1e-4, atol=1e-5)
    at_inference = dropping.predict(variables, x), plain.predict(variables, x)
    np.testing.assert_array_equal(*at_inference)


def test_a_whole_network_from_shapes():
    net = efficientnet((28, 28, 1), 10, stem_stride=1, dtype="bfloat16")
    assert jn.from_config(jn.to_config(net)) == net
    variables, x = shapes(net, 2, 28, 28, 1)
    traces = []

    @jax.jit
    def step(variables, x, key):
        traces.append(None)

        def loss(params):
            logits, state = net.apply(params, variables[1], x, key=key, training=True)
            return jn.cross_entropy(logits, jnp.zeros(2, int)), state

        return jax.value_and_grad(loss, has_aux=True)(variables[0])

    for _ in range(2):
        (loss, state), gradient = jax.eval_shape(step, variables, x, jax.random.key(0))
    assert len(traces) == 1
    assert loss.dtype == jnp.float32
    assert (gradient, state) == variables

    y, nodes = jax.eval_shape(jn.record(net.predict), variables, x)
    assert y.shape == (2, 10)
    assert nodes["stem/conv1"].shape == (2, 28, 28, 32)
    assert nodes["head/conv1"].shape == (2, 2, 2, 1280)
    assert {name for name, h in nodes.items() if h.dtype != jnp.bfloat16} == {"dense1"}
    names = [site.name for site in jn.node_sites(net.predict, variables, x)]
    assert names[:7] == [
        "stem/conv1",
        "stem/silu1",
        "stage1/block1/depthwise/conv1",
        "stage1/block1/depthwise/silu1",
        "stage1/block1/squeeze_excite/squeeze",
        "stage1/block1/squeeze_excite/excite",
        "stage1/block1/project/conv1",
    ]
    assert names[-3:] == ["head/conv1", "head/silu1", "dense1"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: efficientnet((8, 8), 3), "^efficientnet: expected images"),
        (lambda: efficientnet((8, 8, 3), 0), "^efficientnet: expected outputs"),
        (lambda: efficientnet((8, 8, 3), 3, "b8"), r"expected a variant \(b0, .*b7\), got 'b8'"),
        (lambda: efficientnet((8, 8, 3), 3, TINY._replace(width=0)), "expected width to be"),
        (lambda: efficientnet((8, 8, 3), 3, dropout=1), r"rate to drop in \[0, 1\), got 1"),
        (lambda: efficientnet((8, 8, 3), 3, stochastic_depth=-0.1), "expected stochastic_depth"),
        (lambda: efficientnet((8, 8, 3), 3, stem_stride=0), "expected stride"),
    ],
)
def test_what_it_refuses(make, message):
    with pytest.raises(jn.JaxNodesError, match=message):
        make()
