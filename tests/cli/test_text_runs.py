"""gpt and bert on texts: the numbers are those of NumPy on the logits, and masks are as said."""

import json
import shutil

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest

import jaxnodes as jn
from jaxnodes.cli.options import Train
from jaxnodes.cli.recipes import epochs_of, rate_of
from jaxnodes.cli.text_sources import read_text
from jaxnodes.cli.texts import TextTask, Windows, bigram_nats
from jaxnodes.training.saving import load_network
from tests.cli.conftest import read_json, read_lines, trained

OPTIONS = ["--variant", "tiny", "--epochs", 2, "--batch-size", 16, "--seed", 3]


def written(n=3000, seed=0):
    """A text of a few words, with one character that only its end has."""
    words = np.random.default_rng(seed).choice(["if", "else", "not", "true", "\n"], n // 3)
    return " ".join(words)[: n - 1] + "é"


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "words.txt"
    path.write_text(written(), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def gpt_run(text_file):
    return trained(text_file.parent / "gpt", "--model", "gpt", "--data", text_file, *OPTIONS)


@pytest.fixture(scope="module")
def bert_run(text_file):
    args = ("--model", "bert", "--data", text_file, *OPTIONS, "--json")
    return trained(text_file.parent / "bert", *args)


def cut(text):
    """The three stretches by default: 72, 8 and 20 percent."""
    test, validation = round(0.2 * len(text)), round(0.08 * len(text))
    rest = len(text) - test - validation
    return text[:rest], text[rest : rest + validation], text[rest + validation :]


def rows_of(part, known, width):
    """Ids (N, width) and the ones that follow, with the last id but one for unknown characters."""
    ids = np.array([known.index(c) if c in known else known.index("\ufffd") for c in part])
    n = (len(ids) - 1) // width
    return ids[: n * width].reshape(n, width), ids[1 : n * width + 1].reshape(n, width)


def nats_of(logits, targets):
    z = np.asarray(logits, np.float64)
    z = z - z.max(axis=-1, keepdims=True)
    logs = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return -np.take_along_axis(logs, targets[..., None], axis=-1)[..., 0]


def logits_of(net, variables, ids):
    return np.asarray(jax.jit(net.predict)(variables, jnp.asarray(ids, jnp.int32)))


def test_a_run_of_gpt_is_measured_in_bits(gpt_run, text_file):
    folder, out = gpt_run
    assert sorted(file.name for file in folder.iterdir()) == [
        *("config.json", "curves.png", "history.jsonl", "metrics.json", "variables.safetensors"),
    ]
    assert matplotlib.image.imread(folder / "curves.png").std() > 0.05
    net, variables, config = load_network(folder)
    parts = cut(text_file.read_text(encoding="utf-8"))
    known = "".join(sorted({*parts[0], "\ufffd"}))
    assert "é" not in known
    assert config["vocabulary"] == known
    sizes = {"layers": 1, "heads": 2, "features": 16, "context": 16}
    assert net == jn.models.gpt(len(known), rotary=True, dropout=0.0, **sizes)
    metrics = read_json(folder / "metrics.json")
    rows = [rows_of(part, known, 16) for part in parts]
    every = logits_of(net, variables, np.concatenate([x for x, _ in rows]))
    for name, (x, y) in zip(("train", "validation", "test"), rows, strict=True):
        assert metrics["samples"][name] == len(x)
        logits, every = every[: len(x)], every[len(x) :]
        nats = nats_of(logits, y).mean()
        assert metrics[name]["loss"] == pytest.approx(nats, rel=1e-5)
        assert metrics[name]["bits_per_character"] == pytest.approx(nats / np.log(2), rel=1e-5)
        assert metrics[name]["accuracy"] == pytest.approx((logits.argmax(-1) == y).mean())
    history = read_lines(folder / "history.jsonl")
    assert metrics["validation"]["loss"] == pytest.approx(min(r["val_loss"] for r in history))
    # The bigram model once more, with a table of all pairs.
    (x, y), _, (a, b) = rows
    counts = np.zeros((len(known), len(known)))
    np.add.at(counts, (x.ravel(), y.ravel()), 1)
    alone = (counts.sum(axis=0) + 1) / (counts.sum() + len(known))
    chances = (counts + 10 * alone) / (counts.sum(axis=1, keepdims=True) + 10)
    bits = -np.log2(chances[a, b]).mean()
    assert metrics["baseline"]["bigram"]["bits_per_character"] == pytest.approx(bits)
    assert f"by counting (bigram) loss {bits * np.log(2):.4f}" in out.splitlines()[-2]


def test_a_bigram_model_by_hand():
    """Of abab, with s = 10: p(a) = 2/5, p(b) = 3/5; p(a|a) = 4/12 and p(b|a) = (2 + 6)/12."""
    train = Windows(np.array([[0, 1, 0]]), np.array([[1, 0, 1]]), None)
    test = Windows(np.array([[0, 0]]), np.array([[0, 1]]), None)
    assert bigram_nats(train, test, 2) == pytest.approx(-np.log([1 / 3, 2 / 3]).mean())


def test_a_run_of_bert_finds_what_is_hidden(bert_run, text_file):
    folder, out = bert_run
    metrics = read_json(folder / "metrics.json")
    assert json.loads(out) == {**metrics, "folder": str(folder)}
    net, variables, config = load_network(folder)
    train, _, test = cut(text_file.read_text(encoding="utf-8"))
    known = config["vocabulary"]
    x, _ = rows_of(test, known, 8)
    assert metrics["samples"]["test"] == len(x)
    v = len(known)
    hidden = jn.models.mask_tokens(
        jax.random.key(3), x.astype(np.int32), mask_id=v, vocabulary=v + 1
    )
    chosen = np.asarray(hidden.weights)
    assert (chosen.sum(axis=1) == 1).all()  # 15 percent of 8
    logits = logits_of(net, variables, hidden.inputs)
    assert logits.shape[-1] == v + 1
    found = (logits.argmax(-1) == x)[chosen].mean()
    assert metrics["test"] == {
        "loss": pytest.approx(nats_of(logits, x)[chosen].mean(), rel=1e-5),
        "masked_accuracy": pytest.approx(found),
    }
    commonest = known.index(max(set(train), key=train.count))
    share = metrics["baseline"]["commonest_character"]["masked_accuracy"]
    assert share == pytest.approx((x == commonest)[chosen].mean())


def test_masks_are_drawn_anew_at_every_step():
    task = TextTask("bert", jn.data.Characters("abcdefgh", unknown="\ufffd"), 20, seed=0)
    windows, targets = task.pair("abcdefgh" * 100)
    augment = task.augmentation("", Train())
    assert augment is not None
    one, two = (augment(jax.random.key(i), windows) for i in (1, 2))
    for drawn in (one, two):
        np.testing.assert_array_equal(drawn.targets, targets)
        assert (np.asarray(drawn.counted).sum(axis=1) == 3).all()  # 15 percent of 20
        kept = np.asarray(drawn.inputs) == targets
        assert kept[~np.asarray(drawn.counted)].all()
        assert (np.asarray(drawn.inputs) == 9).sum() > 0.6 * np.asarray(drawn.counted).sum()
    assert (np.asarray(one.counted) != np.asarray(two.counted)).mean() > 0.1
    gpt = TextTask("gpt", task.vocabulary, 20, seed=0)
    assert gpt.augmentation("", Train()) is None


@pytest.mark.parametrize("run", ["gpt_run", "bert_run"])
def test_evaluate_finds_the_test_measures_again(run, request, done, text_file):
    folder, _ = request.getfixturevalue(run)
    expected = read_json(folder / "metrics.json")
    report = json.loads(done("evaluate", folder, "--json"))
    assert report["samples"] == expected["samples"]["test"]
    assert {name: report[name] for name in expected["test"]} == pytest.approx(expected["test"])
    again = json.loads(done("evaluate", folder, "--data", text_file, "--json"))
    assert again == {**report, "data": str(text_file)}


def test_another_text_is_measured_whole(gpt_run, done, tmp_path):
    """Characters that the run doesn't know are one and the same to it, and are counted."""
    folder, _ = gpt_run
    text = "if not true\r\nelse ?! if not\r\n" * 20
    (tmp_path / "other.md").write_bytes(b"\xef\xbb\xbf" + text.encode())
    report = json.loads(done("evaluate", folder, "--data", "other.md", "--json"))
    net, variables, config = load_network(folder)
    x, y = rows_of(text.replace("\r\n", "\n"), config["vocabulary"], 16)
    nats = nats_of(logits_of(net, variables, x), y).mean()
    assert report["samples"] == len(x)
    assert report["loss"] == pytest.approx(nats, rel=1e-5)
    unknown = (y == config["vocabulary"].index("\ufffd")).mean()
    assert report["unknown"] == pytest.approx(unknown)
    assert unknown > 0.05


def test_greedy_texts_are_repeated_argmax(gpt_run, done):
    """Without a cache; a piece begins with the eight characters before it, half the context."""
    folder, _ = gpt_run
    net, variables, config = load_network(folder)
    predict = jax.jit(net.predict)
    known = config["vocabulary"]
    ids = [known.index(c) for c in "not "]
    piece = list(ids)
    while len(ids) < 4 + 30:
        if len(piece) == 17:
            piece = ids[-8:]
        seen = jnp.zeros((1, 16), jnp.int32).at[0, : len(piece)].set(jnp.array(piece))
        after = int(predict(variables, seen)[0, len(piece) - 1].argmax())
        ids, piece = [*ids, after], [*piece, after]
    expected = "".join(known[i] for i in ids)
    options = ["generate", folder, "--prompt", "not ", "--length", 30, "--temperature", 0]
    assert done(*options) == expected + "\n"
    report = json.loads(done(*options, "--json"))
    assert report == {"run": str(folder), "prompt": "not ", "continuation": expected[4:]}


def test_drawn_texts_are_those_of_the_seed(gpt_run, done):
    folder, _ = gpt_run
    options = ["generate", folder, "--prompt", "not ", "--length", 13, "--top-p"]
    one, again, two = (done(*options, 1, "--temperature", 2, "--seed", seed) for seed in (1, 1, 2))
    assert one == again != two
    # Of the likeliest character alone there is nothing to draw.
    greedy = done(*options[:-1], "--temperature", 0)
    assert done(*options, 0) == greedy
    assert one != greedy
    assert len(one) == 4 + 13 + 1


def test_nothing_of_the_test_part_is_learned(gpt_run, text_file, done, tmp_path):
    """Another end: the same bits in the file, another measure."""
    folder, _ = gpt_run
    text = text_file.read_text(encoding="utf-8")
    test = len(cut(text)[2])
    other = text[:-test] + text[-test:][::-1]
    (tmp_path / "other.txt").write_text(other, encoding="utf-8")
    done("train", "--model", "gpt", "--data", "other.txt", *OPTIONS, "--out", "run", "--quiet")
    ours, its = (path / "variables.safetensors" for path in (folder, tmp_path / "run"))
    assert ours.read_bytes() == its.read_bytes()
    ours, its = (read_json(path / "metrics.json")["test"] for path in (folder, tmp_path / "run"))
    assert ours["loss"] != its["loss"]


def test_what_a_node_is_worth(gpt_run, text_file, done, tmp_path):
    """Against the network with one gate at zero, and NumPy."""
    shutil.copytree(gpt_run[0], tmp_path / "run")
    report = json.loads(done("inspect", "run", "--top", 2, "--json"))
    assert report["figures"] == ["activations.png", "importance.png", "statistics.png"]
    net, variables, config = load_network("run")
    x, y = rows_of(cut(text_file.read_text(encoding="utf-8"))[2], config["vocabulary"], 16)
    gates = {"block1/mlp/dense1": jnp.asarray(np.arange(64) != 7, jnp.float32)}
    whole = logits_of(net, variables, x)
    without = jn.intervene(net.predict)(gates, variables, jnp.asarray(x, jnp.int32))
    found = read_json(tmp_path / "run" / "nodes.json")
    site = found["sites"]["block1/mlp/dense1"]
    assert found["samples"] == len(x)
    gained = nats_of(without, y).mean() - nats_of(whole, y).mean()
    assert site["loss_gained"][7] == pytest.approx(gained, abs=2e-6)
    right = [(np.asarray(logits).argmax(-1) == y).mean() for logits in (whole, without)]
    assert site["accuracy_lost"][7] == pytest.approx(right[0] - right[1], abs=1e-6)
    assert report["most_important"][0]["node"].startswith("block1/")


def test_windows_to_inspect_are_evenly_spaced():
    task = TextTask("gpt", jn.data.Characters("ab", unknown="\ufffd"), 2, seed=0)
    text = "ab" * 300
    windows, targets = task.sample(text)
    assert windows.inputs.shape == targets.shape == (128, 2)
    assert task.answer(text, 5) == "ab"
    assert task.sample("abab")[0].inputs.tolist() == [[0, 1]]


def test_summaries(gpt_run, text_file, done):
    folder, _ = gpt_run
    metrics = read_json(folder / "metrics.json")
    v = len(read_json(folder / "config.json")["vocabulary"])
    # Ids, a block of attention (4 x 16 x 16) and two layers (16, 64, 16), three norms.
    assert metrics["parameters"] == v * 16 + 4 * 272 + 16 * 64 + 64 + 64 * 16 + 16 + 3 * 32
    options = ["--model", "gpt", "--variant", "tiny", "--data", text_file]
    for args in ([folder], options):
        report = json.loads(done("summary", *args, "--json"))
        assert report["parameters"] == metrics["parameters"]
        assert report["nodes_per_layer"]["block1/mlp/dense1"] == 64


def test_texts_are_read_as_they_are(tmp_path):
    assert read_text("python") == jn.data.standard_library_text(limit=1_000_000)
    path = tmp_path / "text.py"
    path.write_bytes("\ufeffeins\r\nzwei\rdreißig\n".encode())
    assert read_text(str(path)) == "eins\nzwei\ndreißig\n"


def test_defaults_go_by_the_length_of_the_text():
    gpt = Train(model="gpt", variant="large")
    assert [epochs_of(gpt, n) for n in (100, 720_000, 10**8)] == [100, 6, 1]
    assert epochs_of(Train(model="gpt", epochs=3), 100) == 3
    assert (rate_of(gpt), rate_of(Train(model="bert")), rate_of(Train())) == (0.0005, 0.003, 0.003)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--hidden", 8], "--hidden: expected options that gpt has (variant, dropout)"),
        (["--activation", "relu"], "--activation: expected options that gpt has"),
        (["--target", "a"], "--target: expected options that a text has, got target a"),
        (["--one-hot"], "--one-hot: expected options that a text has"),
        (["--standardize", "on"], "--standardize: expected options that a text has"),
        (["--augment", "on"], "--augment: expected images"),
        (["--train-size", 3], "--train-size: expected options that a text has"),
        (["--variant", "lstm"], "--variant: expected a size among tiny, small, medium, large"),
        (["--dropout", 1.5], "got 1.5"),
        (["--test-fraction", 0], "--test-fraction: expected a fraction above 0"),
        (["--test-fraction", 0.001], "expected at least 17 characters in each part of a text"),
        (["--data", "digits"], "expected a text for gpt or bert: python, or the path"),
        (["--data", "table.csv"], "expected a text for gpt or bert"),
        (["--data", "nowhere.txt"], "got 'nowhere.txt' (no such file)"),
        (["--data", "latin.txt"], "expected a text in UTF-8, got latin.txt, where byte 3 is none"),
        (["--data", "empty.txt"], "expected a text, got the empty file"),
        (["--model", "mlp"], "if it is a text, --model gpt or bert reads it"),
        (["--model", "mlp", "--data", "python"], "got python, which is a text"),
    ],
)
def test_what_is_refused_in_one_line(text_file, refused, tmp_path, args, message):
    (tmp_path / "latin.txt").write_bytes("schön".encode("latin-1"))
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    options = ["--model", "gpt", "--variant", "tiny", "--data", text_file, *args]
    if "mlp" in args:
        options = [option for option in options if option not in ("--variant", "tiny")]
    assert message in refused("train", *options)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["predict", "gpt", "x.txt"], "got one of texts (gpt); jaxnodes generate continues a text"),
        (["predict", "bert", "x.txt"], "got one of texts (bert)"),
        (["prune", "gpt"], "whose nodes can't be cut out"),
        (["generate", "bert"], "expected a run of gpt, which says what comes next"),
        (["generate", "gpt", "--prompt", "né"], "--prompt: expected characters that the run's"),
        (["generate", "gpt", "--prompt", ""], "--prompt: expected at least one character"),
        (["generate", "gpt", "--length", 0], "--length: expected how many characters to add"),
        (["generate", "gpt", "--seed", -1], "--seed: expected a whole number"),
        (["generate", "gpt", "--top-k", 1000], "expected top_k of at most"),
        (["generate", "gpt", "--temperature", -1], "expected temperature"),
        (["evaluate", "gpt", "--data", "iris"], "expected a text for gpt or bert"),
    ],
)
def test_what_other_commands_refuse(gpt_run, bert_run, refused, command, message):
    folders = {"gpt": gpt_run[0], "bert": bert_run[0]}
    assert message in refused(*(folders.get(arg, arg) for arg in command))
