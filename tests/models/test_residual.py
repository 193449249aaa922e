"""Residual networks: sizes as published, and the same numbers as the same network in torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes.models import resnet
from tests.layers.agreement import assert_agrees_with_torch, channels_first

pytestmark = pytest.mark.usefixtures("quick")


def shapes(net, *shape, dtype=jnp.float32):
    x = jax.ShapeDtypeStruct(shape, dtype)
    return jax.eval_shape(net.init, jax.random.key(0), x), x


@pytest.mark.parametrize(
    ("depth", "parameters"),
    # torchvision's; for 20, the paper's 0.27 million: 269,722 with option A, and the two
    # projections of option B, 16 * 32 + 2 * 32 and 32 * 64 + 2 * 64.
    [
        (18, 11_689_512),
        (34, 21_797_672),
        (50, 25_557_032),
        (101, 44_549_160),
        (152, 60_192_808),
        (20, 269_722 + 2_752),
    ],
)
def test_parameters(depth, parameters):
    side, outputs = (32, 10) if depth == 20 else (224, 1000)
    (params, state), _ = shapes(resnet((side, side, 3), outputs, depth), 2, side, side, 3)
    assert sum(p.size for p in jax.tree.leaves(params)) == parameters
    norms = 1 + 2 * 9 + 2 if depth == 20 else depth - 1 + (3 if depth < 50 else 4)
    assert len(jax.tree.leaves(state)) == 2 * norms


@pytest.mark.parametrize(
    ("net", "shape", "multiplications"),
    [
        # fvcore's count for torchvision's.
        (resnet((224, 224, 3), 1000), (224, 224, 3), 1_814_073_344),
        # Weights of the stem and the stages by the pixels that they meet; projections; the head.
        (
            resnet((32, 32, 3), 10, 20),
            (32, 32, 3),
            (432 + 6 * 2_304) * 32**2
            + (4_608 + 5 * 9_216 + 512) * 16**2
            + (18_432 + 5 * 36_864 + 2_048) * 8**2
            + 640,
        ),
    ],
)
def test_summary_from_shapes(net, shape, multiplications):
    variables, x = shapes(net, 1, *shape)
    made = jn.analysis.summary(net, variables, x)
    assert made.flops == 2 * multiplications
    assert made.total_parameters == sum(p.size for p in jax.tree.leaves(variables[0]))
    rows = {row.name: row for row in made.rows}
    last = max(int(name[5]) for name in rows if name.startswith("stage"))
    side = 7 if last == 4 else 8
    assert rows[f"stage{last}/relu2"].output_shape[1:3] == (side, side)
    assert rows["stage2/block1/shortcut/conv1"].kind == "Conv"


CASES = {
    "plain, small": {"stem": "cifar", "blocks": (1, 2)},
    "bottlenecks": {"stem": "imagenet", "blocks": (2, 1), "bottleneck": True},
}


@pytest.mark.parametrize("case", CASES)
def test_equals_torch(case, x64):
    """Outputs and gradients at inference and in training, and the statistics after it."""
    torch = pytest.importorskip("torch")
    options = CASES[case]
    net = resnet((16, 16, 3), 5, width=4, norm=jn.BatchNorm(unbiased=True), **options)
    specs, x = shapes(net, 3, 16, 16, 3, dtype=jnp.float64)
    leaves, structure = jax.tree.flatten(specs)
    random = np.random.default_rng(0)
    # All positive, as variances are; and none of a norm's parameters what it starts as.
    arrays = [random.uniform(0.5, 1.5, leaf.shape) for leaf in leaves]
    count = len(jax.tree.leaves(specs[0]))
    arrays[:count] = [random.normal(0, 0.5, a.shape) for a in arrays[:count]]

    def ours(x, *leaves):
        params, state = jax.tree.unflatten(structure, [*leaves, *map(jnp.asarray, arrays[count:])])
        y, after = net.apply(params, state, x, training=True)
        after = jax.lax.stop_gradient(jax.tree.leaves(after))
        return jnp.concatenate([net.predict((params, state), x), y], 1).ravel(), after

    def theirs(x, *leaves):
        params, state = jax.tree.unflatten(structure, [*leaves, *map(torch.tensor, arrays[count:])])
        run = [reference(torch, params, state, x, options["stem"], t) for t in (False, True)]
        return torch.cat([y for y, _ in run], 1).ravel(), jax.tree.leaves(run[1][1])

    args = random.normal(size=x.shape), *arrays[:count]
    assert_agrees_with_torch(
        torch,
        lambda *args: jnp.concatenate([a.ravel() for a in jax.tree.leaves(ours(*args))]),
        lambda *args: torch.cat([a.ravel() for a in jax.tree.leaves(theirs(*args))]),
        *args,
    )


def reference(torch, params, state, x, stem, training):
    """A residual network in PyTorch's functions: (output, state)."""
    f = torch.nn.functional
    after = jax.tree.map(torch.clone, state)

    def conv_norm(x, path, number, stride, padding):
        p, s = params, after
        for name in path:
            p, s = p[name], s[name]
        x = f.conv2d(x, p[f"conv{number}"]["w"].permute(3, 2, 0, 1), None, stride, padding)
        norm, kept = p[f"batch_norm{number}"], s[f"batch_norm{number}"]
        statistics = (kept["mean"], kept["var"])
        return f.batch_norm(x, *statistics, norm["scale"], norm["bias"], training, 0.1, 1e-5)

    x = channels_first(x)
    if stem == "imagenet":
        x = torch.relu(conv_norm(x, ("stem",), 1, 2, 3))
        x = f.max_pool2d(x, 3, 2, 1)
    else:
        x = torch.relu(conv_norm(x, ("stem",), 1, 1, 1))
    for i, stage in enumerate(name for name in sorted(params) if name.startswith("stage")):
        for k, block in enumerate(sorted(params[stage])):
            stride = 2 if i and not k else 1
            path, count = (stage, block, "body"), len(params[stage][block]["body"]) // 2
            h = x
            for n, padding in zip((1, 2, 3), (1, 1) if count == 2 else (0, 1, 0), strict=False):
                strided = n == (1 if count == 2 else 2)
                h = conv_norm(h, path, n, stride if strided else 1, padding)
                h = torch.relu(h) if n < count else h
            if "shortcut" in params[stage][block]:
                x = conv_norm(x, (stage, block, "shortcut"), 1, stride, 0)
            x = torch.relu(h + x)
    head = params["dense1"]
    return x.mean((2, 3)) @ head["w"] + head["b"], after


SMALL = resnet((64,), 3, blocks=(1, 1), width=4, stem="cifar", activation="elu")


def test_nodes_are_named_by_stage_and_block():
    variables, x = shapes(SMALL, 2, 64)
    assert [site.name for site in jn.node_sites(SMALL.predict, variables, x)] == [
        "stem/conv1",
        "stem/elu1",
        "stage1/block1/body/conv1",
        "stage1/block1/body/elu1",
        "stage1/block1/body/conv2",
        "stage1/elu1",
        "stage2/block1/body/conv1",
        "stage2/block1/body/elu1",
        "stage2/block1/body/conv2",
        "stage2/block1/shortcut/conv1",
        "stage2/elu1",
        "dense1",
    ]


def test_trains_in_one_trace_and_comes_back_from_its_folder(tmp_path):
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 48)
    x = random.normal(size=(48, 64)).astype(np.float32) + y[:, None] * 0.5
    traces = []

    def loss(logits, labels):
        traces.append(logits.shape)
        return jn.cross_entropy(logits, labels)

    result = jn.fit(
        SMALL,
        (x, y),
        key=jax.random.key(0),
        loss=loss,
        optimizer=jn.momentum(0.05),
        epochs=6,
        batch_size=16,
    )
    assert result.history["loss"][-1] < 0.5 * result.history["loss"][0]
    assert set(traces) == {(16, 3)}
    jn.save_network(tmp_path, SMALL, result.variables, input_spec=x[:1])
    net, variables, _ = jn.load_network(tmp_path)
    assert net == SMALL
    np.testing.assert_array_equal(
        jn.predict(net, variables, x), jn.predict(SMALL, result.variables, x)
    )


def test_computes_in_half_precision():
    net = resnet((16, 16, 3), 4, blocks=(1, 1), width=4, dtype="bfloat16")
    variables, x = shapes(net, 2, 16, 16, 3)
    assert {p.dtype.name for p in jax.tree.leaves(variables)} == {"float32"}
    _, nodes = jax.eval_shape(jn.record(net.predict), variables, x)
    assert {name for name, h in nodes.items() if h.dtype != jnp.bfloat16} == {"dense1"}
    y, (_, state) = jax.eval_shape(
        lambda v, x: (net.predict(v, x), net.apply(*v, x, training=True)), variables, x
    )
    assert y.dtype == jnp.float32
    assert {s.dtype.name for s in jax.tree.leaves(state)} == {"float32"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: resnet((8, 8), 3), r"^resnet: expected images .* samples of shape \(8, 8\)"),
        (lambda: resnet((8, 8, 3), 0), "^resnet: expected outputs"),
        (
            lambda: resnet((8, 8, 3), 3, 19),
            r"^resnet: expected a depth \(18, 34, .*110\), got '19'",
        ),
        (lambda: resnet((8, 8, 3), 3, 50, blocks=(1,)), "expected depth or blocks, got both"),
        (
            lambda: resnet((8, 8, 3), 3, blocks=()),
            r"expected the blocks of each stage .*, got \(\)",
        ),
        (lambda: resnet((8, 8, 3), 3, blocks=3), "expected the blocks of each stage .*, got 3"),
        (lambda: resnet((8, 8, 3), 3, blocks=(1, 0)), "expected each of blocks"),
        (lambda: resnet((8, 8, 3), 3, width=0), "expected width"),
        (lambda: resnet((8, 8, 3), 3, stem="cifer"), "did you mean 'cifar'"),
        (lambda: resnet((8, 8, 3), 3, activation="rel"), "did you mean 'relu'"),
        (lambda: resnet((8, 8, 3), 3, norm="batch"), r"expected norm to be a layer .* got 'batch'"),
    ],
)
def test_what_it_refuses(make, message):
    with pytest.raises(jn.JaxNodesError, match=message):
        make()
