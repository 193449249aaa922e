"""`ablate` against a loop of whole evaluations, one node at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes import JaxNodesError
from tests.drawn import drawn_variables

pytestmark = pytest.mark.usefixtures("quick")

N = 300  # more than a tile of samples, and not a multiple of it


def made(net, shape, classes=5):
    """A network with random biases, data and labels."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(N, *shape)).astype(jnp.result_type(float)))
    return drawn_variables(net, x), x, jnp.asarray(rng.integers(0, classes, N), jnp.int32)


def loop(f, variables, x, y, metric, values=None):
    """The definition, for every site: gate each node in turn, and measure everything again."""
    sizes = {site.name: site.size for site in jn.node_sites(f, variables, x)}

    @jax.jit
    def without(gates, variables, x, y):
        patches = gates
        if values is not None:
            patches = {name: (gate, values[name]) for name, gate in gates.items()}
        return metric(jn.intervene(f)(patches, variables, x), y)

    open_ = {name: np.ones(size, x.dtype) for name, size in sizes.items()}
    whole = jax.jit(lambda variables, x, y: metric(f(variables, x), y))(variables, x, y)
    return {
        name: np.stack(
            [
                whole - without({**open_, name: 1 - one}, variables, x, y)
                for one in np.eye(size, dtype=x.dtype)
            ]
        )
        for name, size in sizes.items()
    }


networks = {
    "mlp": (jn.Sequential(jn.Dense(8, "relu"), jn.Dense(7, "tanh"), jn.Dense(5)), (6,)),
    "norms": (
        jn.Sequential(
            jn.Dense(6, "relu"), jn.BatchNorm(), jn.Dense(7), jn.LayerNorm(), jn.Dense(5)
        ),
        (6,),
    ),
    "residual": (
        jn.Sequential(jn.Dense(6, "elu"), jn.Residual(jn.Dense(6, "relu")), jn.Dense(5)),
        (6,),
    ),
    "parallel": (
        jn.Sequential(jn.Parallel(jn.Dense(3), jn.Dense(4, "relu")), jn.relu, jn.Dense(5)),
        (6,),
    ),
    "cnn": (
        jn.Sequential(
            jn.Conv(4, 3, "relu"),
            jn.BatchNorm(),
            jn.MaxPool(2),
            jn.Conv(6, 3, "relu", stride=2, padding="VALID"),
            jn.Flatten(),
            jn.Dense(7, "relu"),
            jn.Dense(5),
        ),
        (8, 8, 2),
    ),
    "flatten": (
        jn.Sequential(jn.Conv(3, 3, "relu"), jn.AvgPool(2), jn.Flatten(), jn.Dense(5)),
        (4, 4, 2),
    ),
    "cnn-residual": (
        jn.Sequential(
            jn.Conv(4, 3, "relu"),
            jn.Residual(jn.Sequential(jn.Conv(4, 3), jn.BatchNorm(), jn.relu)),
            jn.Conv(4, 3, groups=2),
            jn.GlobalAvgPool(),
            jn.Dense(5),
        ),
        (6, 6, 2),
    ),
    "lstm": (jn.Sequential(jn.LSTM(5), jn.LastStep(), jn.Dense(5)), (6, 3)),
    "attention": (
        jn.Sequential(jn.Dense(8), jn.Attention(2), jn.LastStep(), jn.Dense(5)),
        (4, 3),
    ),
    "softmax": (jn.Sequential(jn.Dense(6, "softmax"), jn.Dense(5)), (6,)),
}


@pytest.mark.parametrize("name", networks)
def test_equals_a_loop_of_whole_evaluations(name, x64):
    """In float64, to rounding, for every node of every site."""
    net, shape = networks[name]
    variables, x, y = made(net, shape)
    drops = jn.analysis.ablate(net.predict, variables, x, y, metric=jn.cross_entropy)
    assert list(drops) == [site.name for site in jn.node_sites(net.predict, variables, x)]
    expected = loop(net.predict, variables, x, y, jn.cross_entropy)
    for site, found in drops.items():
        np.testing.assert_allclose(found, expected[site], rtol=1e-9, atol=1e-12, err_msg=site)


def test_accuracy_in_float32_differs_only_where_scores_tie():
    net, shape = networks["mlp"]
    variables, x, y = made(net, shape)
    drops = jn.analysis.ablate(net.predict, variables, x, y, metric=jn.accuracy)
    logits = np.sort(net.predict(variables, x), axis=1)
    ties = np.sum(logits[:, -1] - logits[:, -2] < 1e-5)
    expected = loop(net.predict, variables, x, y, jn.accuracy)
    for site, found in drops.items():
        assert np.abs(np.asarray(found) - expected[site]).max() <= (ties + 1e-3) / N


def test_steps_of_a_stack_are_different_nodes(x64):
    net = jn.Sequential(jn.Dense(4), jn.Repeat(jn.Residual(jn.Dense(4, "relu")), 3), jn.Dense(5))
    variables, x, y = made(net, (6,))
    drops = jn.analysis.ablate(net.predict, variables, x, y, metric=jn.cross_entropy)
    found = drops["repeat1/residual1/dense1"]
    assert found.shape == (3, 4)

    @jax.jit
    def measured(gate):
        patch = {"repeat1/residual1/dense1": gate}
        return jn.cross_entropy(jn.intervene(net.predict)(patch, variables, x), y)

    gates = 1 - np.eye(12).reshape(3, 4, 3, 4)
    whole = jn.cross_entropy(net.predict(variables, x), y)
    expected = [[whole - measured(gate) for gate in step] for step in gates]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["mlp", "cnn", "lstm"])
def test_mean_replacement(name, x64):
    net, shape = networks[name]
    variables, x, y = made(net, shape)
    drops = jn.analysis.ablate(net.predict, variables, x, y, metric=jn.cross_entropy, value="mean")
    _, records = jn.record(net.predict)(variables, x)
    means = {site: np.mean(h, axis=tuple(range(h.ndim - 1))) for site, h in records.items()}
    expected = loop(net.predict, variables, x, y, jn.cross_entropy, means)
    for site, found in drops.items():
        np.testing.assert_allclose(found, expected[site], rtol=1e-9, atol=1e-12, err_msg=site)


def test_given_values_and_their_checks(x64):
    net, shape = networks["mlp"]
    variables, x, y = made(net, shape)
    options = {"metric": jn.cross_entropy, "nodes": ["dense1"]}
    value = np.linspace(-1, 1, 8)
    drops = jn.analysis.ablate(net.predict, variables, x, y, value={"dense1": value}, **options)
    values = {"dense1": value, "dense2": np.zeros(7), "dense3": np.zeros(5)}
    expected = loop(net.predict, variables, x, y, jn.cross_entropy, values)
    np.testing.assert_allclose(drops["dense1"], expected["dense1"], rtol=1e-9, atol=1e-12)
    with pytest.raises(JaxNodesError, match="broadcasts to"):
        jn.analysis.ablate(net.predict, variables, x, y, value={"dense1": value[:3]}, **options)
    with pytest.raises(JaxNodesError, match=r"a value for each site, got none for \['dense1'\]"):
        jn.analysis.ablate(net.predict, variables, x, y, value={"dense2": 0.0}, **options)


def test_resampling_takes_whole_values_of_other_samples(x64):
    """Averaged over keys it is what each sample's node being any other sample's gives."""
    net = jn.Sequential(jn.Dense(3, "relu"), jn.Dense(2))
    variables, x, y = made(net, (4,), classes=2)
    x, y = x[:5], y[:5]

    def squares(out, y):
        return jnp.mean(jnp.sum(out**2, axis=1))

    def drops(seed):
        return jn.analysis.ablate(
            net.predict, variables, x, y, metric=squares, value="resample", key=jax.random.key(seed)
        )["dense1"]

    found = np.mean([drops(seed) for seed in range(150)], axis=0)
    _, records = jn.record(net.predict)(variables, x)
    h, w = np.asarray(records["dense1"]), variables[0]["dense2"]
    whole = np.mean(np.sum((h @ w["w"] + w["b"]) ** 2, axis=1))
    for node in range(3):
        values = []
        for i in range(5):
            for j in set(range(5)) - {i}:
                changed = h[i].copy()
                changed[node] = h[j, node]
                values.append(np.sum((changed @ w["w"] + w["b"]) ** 2))
        np.testing.assert_allclose(found[node], whole - np.mean(values), atol=0.15)
    np.testing.assert_array_equal(drops(3), drops(3))
    with pytest.raises(JaxNodesError, match="key=jax.random.key"):
        jn.analysis.ablate(net.predict, variables, x, y, metric=squares, value="resample")


@pytest.mark.parametrize("name", ["mlp", "cnn", "residual"])
def test_bias_replacement_is_zeroing_the_incoming_weights(name, x64):
    """The guide's procedure: the column of weights set to zero, the bias left."""
    net, shape = networks[name]
    variables, x, y = made(net, shape)
    drops = jn.analysis.ablate(net.predict, variables, x, y, metric=jn.cross_entropy, value="bias")
    measured = jax.jit(lambda variables: jn.cross_entropy(net.predict(variables, x), y))
    whole = measured(variables)
    for site, found in drops.items():
        path = site.split("/")
        for i in range(len(found)):

            def zeroed(keys, leaf, i=i, path=path):
                if [k.key for k in keys] != [*path, "w"]:
                    return leaf
                leaf = np.array(leaf)
                leaf[..., i] = 0
                return leaf

            params = jax.tree_util.tree_map_with_path(zeroed, variables[0])
            without = measured((params, variables[1]))
            np.testing.assert_allclose(found[i], whole - without, rtol=1e-9, atol=1e-12)


def test_bias_replacement_equals_the_guides_torch_loop():
    """The same weights in torch: zero each node's incoming weights, measure the accuracy."""
    torch = pytest.importorskip("torch")
    net, shape = networks["mlp"]
    variables, x, y = made(net, shape)
    drops = jn.analysis.ablate(net.predict, variables, x, y, metric=jn.accuracy, value="bias")
    layers = []
    for name, act in (("dense1", torch.nn.ReLU), ("dense2", torch.nn.Tanh), ("dense3", None)):
        w, b = (np.array(variables[0][name][k]) for k in ("w", "b"))
        layer = torch.nn.Linear(*w.shape)
        layer.weight.data, layer.bias.data = torch.from_numpy(w.T.copy()), torch.from_numpy(b)
        layers += [layer] if act is None else [layer, act()]
    model = torch.nn.Sequential(*layers)
    inputs, labels = torch.from_numpy(np.array(x)), torch.from_numpy(np.array(y)).long()

    def accuracy():
        with torch.no_grad():
            return (model(inputs).argmax(1) == labels).float().mean().item()

    whole = accuracy()
    linears = [layer for layer in model if isinstance(layer, torch.nn.Linear)]
    for layer, found in zip(linears, drops.values(), strict=True):
        for i in range(len(found)):
            kept = layer.weight.data[i].clone()
            layer.weight.data[i] = 0
            assert abs(float(found[i]) - (whole - accuracy())) < 1.5 / N  # at most one tie
            layer.weight.data[i] = kept


def test_bias_replacement_is_refused_where_nodes_mix():
    net, shape = networks["softmax"]
    variables, x, y = made(net, shape)
    options = {"metric": jn.cross_entropy, "value": "bias"}
    with pytest.raises(JaxNodesError, match="mixes its nodes"):
        jn.analysis.ablate(net.predict, variables, x, y, nodes=["dense1"], **options)
    net, shape = networks["lstm"]
    variables, x, y = made(net, shape)
    with pytest.raises(JaxNodesError, match="outside of loops"):
        jn.analysis.ablate(net.predict, variables, x, y, nodes=["lstm1"], **options)


def test_nodes_that_cannot_be_recorded_are_zeroed_or_given_but_not_replaced_by_their_own_values():
    """What is worth what is by functions that change the node by themselves."""

    def looped(w, x, gate=1.0, instead=0.0):
        def body(state):
            h = jn.node(jnp.tanh(state[1] @ w), "h")
            return state[0] + 1, gate * h + (1 - gate) * instead

        return jax.lax.while_loop(lambda state: state[0] < 3, body, (0, x))[1]

    def branched(w, x, gate=1.0, instead=0.0):
        def with_nodes(x):
            return gate * jn.node(jnp.tanh(x @ w), "h") + (1 - gate) * instead

        return jax.lax.cond(x[0, 0] < 9, with_nodes, jnp.sin, x)

    w = jax.random.normal(jax.random.key(0), (3, 3))
    x = jax.random.normal(jax.random.key(1), (8, 3))
    options = {"metric": jn.mse, "key": jax.random.key(2)}
    for f, why in ((looped, "a while loop keeps no record"), (branched, "only some branches")):
        for value in ("mean", "resample"):
            expected = f"^ablate: expected nodes that can be recorded, got 'h': {why}.*by nodes="
            with pytest.raises(JaxNodesError, match=expected):
                jn.analysis.ablate(f, w, x, x, value=value, **options)
        with pytest.raises(JaxNodesError, match="outside of loops and branches"):
            jn.analysis.ablate(f, w, x, x, value="bias", **options)
        for value, instead in (("zero", 0.0), ({"h": jnp.arange(3.0)}, jnp.arange(3.0))):
            drops = jn.analysis.ablate(f, w, x, x, value=value, **options)
            for i in range(3):
                without = f(w, x, jnp.ones(3).at[i].set(0), instead)
                expected = np.mean((f(w, x) - x) ** 2) - np.mean((without - x) ** 2)
                np.testing.assert_allclose(drops["h"][i], expected, atol=1e-6)


def test_a_metric_of_one_value_a_class_gives_one_importance_a_class():
    net, shape = networks["mlp"]
    variables, x, y = made(net, shape)

    def recall(logits, y):
        hit = (jnp.argmax(logits, 1) == y).astype(jnp.float32)
        one_hot = jax.nn.one_hot(y, 5)
        return hit @ one_hot / one_hot.sum(0)

    drops = jn.analysis.ablate(net.predict, variables, x, y, metric=recall)
    assert drops["dense1"].shape == (8, 5)
    expected = loop(net.predict, variables, x, y, recall)
    np.testing.assert_allclose(drops["dense1"], expected["dense1"], atol=1e-5)


def test_a_jitted_function_and_one_of_plain_jax(x64):
    """Nodes inside nested calls, and a function that is no network of ours."""
    w, x = (jnp.asarray(np.random.default_rng(1).normal(size=s)) for s in ((6, 4), (N, 6)))

    @jax.jit
    def inner(w, x):
        return jn.node(jax.nn.gelu(x @ w), "hidden")

    def f(w, x):
        return jnp.sum(inner(w, x) ** 2, axis=1)

    def mean(out, y):
        return jnp.mean(out)

    drops = jn.analysis.ablate(jax.jit(f), w, x, None, metric=mean)
    np.testing.assert_allclose(
        drops["hidden"], np.mean(np.asarray(jax.nn.gelu(x @ w)) ** 2, axis=0), rtol=1e-9
    )


def test_wrong_uses_are_one_sentence():
    net, shape = networks["mlp"]
    variables, x, y = made(net, shape)
    options = {"metric": jn.cross_entropy}
    with pytest.raises(JaxNodesError, match=r"got 'dense9'; did you mean"):
        jn.analysis.ablate(net.predict, variables, x, y, nodes=["dense9"], **options)
    with pytest.raises(JaxNodesError, match="names nodes, got none"):
        jn.analysis.ablate(lambda v, x: x, variables, x, y, **options)
    with pytest.raises(JaxNodesError, match="one entry a sample"):
        jn.analysis.ablate(
            lambda v, x: jn.node(net.predict(v, x)).mean(), variables, x, y, **options
        )
    with pytest.raises(JaxNodesError, match=r"expected metric\(outputs, y\), got str"):
        jn.analysis.ablate(net.predict, variables, x, y, metric="accuracy")
    with pytest.raises(JaxNodesError, match="memory of at least"):
        jn.analysis.ablate(net.predict, variables, x, y, memory=1000, **options)
    with pytest.raises(JaxNodesError, match="'zero', 'mean', 'resample', 'bias'"):
        jn.analysis.ablate(net.predict, variables, x, y, value="median", **options)
    with pytest.raises(JaxNodesError, match="labels from 0 to 4"):
        jn.analysis.ablate(net.predict, variables, x, y + 1, **options)


def test_training_mode_is_refused():
    _, x, y = made(*networks["mlp"])
    dropping = jn.Sequential(jn.Dense(5), jn.Dropout(0.5))
    norming = jn.Sequential(jn.Dense(5), jn.BatchNorm())

    def training(net):
        return lambda v, x: net.apply(*v, x, key=jax.random.key(0), training=True)[0]

    for net, problem in ((dropping, "draws random numbers"), (norming, "the rest of the batch")):
        variables = drawn_variables(net, x)
        with pytest.raises(JaxNodesError, match=problem):
            jn.analysis.ablate(training(net), variables, x, y, metric=jn.cross_entropy)
