"""Text classes: does an English line come from a function, from a class, or from a comment?

The lines are those of Python's own standard library, and so are the labels: the first sentence or
so of each docstring, of a function ("Return the ...") or of a class ("A thing that ..."), and
comments of a single line. A quarter of the modules, with all their lines, are kept for the test:
phrases that a module repeats are of no help there.

An embedding and an LSTM read the words in their order. Against them stands the bag of words, a
logistic regression on how often each word occurs, and against both the commonest class.

Claims: both are far better than the commonest class, and about as good as each other: the order
adds little to the words. Lines about classes, which are rare, are the hardest for both.
"""

import ast
import re
import sys
import sysconfig
from collections import Counter
from pathlib import Path

import jax
import numpy as np
from _run import run
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

import jaxnodes as jn

CLASSES = ("function", "class", "comment")
LENGTH, WORDS = 24, 2000
LEFT_OUT = {"test", "tests", "idlelib", "lib2to3", "turtledemo", "site-packages"}


def words(text):
    """Lower-case words, numbers and marks: what both models are given."""
    return re.findall(r"[a-z]+|\d+|[^\w\s]", text.lower())


def lines_of(source):
    """Pairs (text, class) of a module's source."""
    tree, in_string = ast.parse(source), set()
    for n in ast.walk(tree):
        if isinstance(n, ast.Constant) and isinstance(n.value, str):
            in_string.update(range(n.lineno, n.end_lineno + 1))
        if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and (said := ast.get_docstring(n)):
            yield " ".join(said.split("\n\n")[0].split()), int(isinstance(n, ast.ClassDef))
    lines = ["", *source.splitlines(), ""]
    comment = [line.lstrip().startswith("# ") for line in lines]
    for i, line in enumerate(lines):
        if comment[i] and not (comment[i - 1] or comment[i + 1] or i in in_string):
            yield line.strip(" #"), 2


def library():
    """(module, text, class) of all lines of 4 to 24 words, each text once."""
    folder, found = Path(sysconfig.get_paths()["stdlib"]), {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).parts
        module = parts[0].removesuffix(".py")
        if module in sys.stdlib_module_names and not LEFT_OUT & set(parts):
            source = path.read_text(encoding="utf-8", errors="replace")
            for text, label in lines_of(source) if source.isascii() else ():
                if 4 <= len(words(text)) <= LENGTH and text not in found:
                    found[text] = (module, text, label)
    return list(found.values())


def main(out: Path) -> dict[str, object]:
    rows = library()
    modules = np.random.default_rng(0).permutation(sorted({module for module, *_ in rows}))
    kept = set(modules[: len(modules) // 4])
    texts, labels = {}, {}
    for part, inside in (("train", False), ("test", True)):
        texts[part] = [text for module, text, _ in rows if (module in kept) == inside]
        of_part = [label for module, _, label in rows if (module in kept) == inside]
        labels[part] = np.array(of_part, np.int32)

    bag = CountVectorizer(tokenizer=words, token_pattern=None, max_features=WORDS)
    regression = LogisticRegression(C=0.3, max_iter=300, tol=1e-3)
    regression.fit(bag.fit_transform(texts["train"]), labels["train"])
    of_bag = regression.predict(bag.transform(texts["test"]))

    counts = Counter(word for text in texts["train"] for word in words(text))
    number = {word: i for i, (word, _) in enumerate(counts.most_common(WORDS), start=2)}

    def encoded(part):
        """Ids (N, LENGTH), 1 for words that are not known, and which steps count."""
        ids = np.zeros((len(texts[part]), LENGTH), np.int32)
        for row, text in zip(ids, texts[part], strict=True):
            row[: len(words(text))] = [number.get(word, 1) for word in words(text)]
        return ids, ids > 0

    embedding = jn.Embedding(WORDS + 2, 32, w_init=jn.normal(0.1))
    lstm = jn.LSTM(32, forget_bias=1.0)
    net = jn.Sequential(embedding, lstm, jn.LastStep(), jn.Dropout(0.5), jn.Dense(3))
    train = jn.make_train(net, loss=jn.cross_entropy, optimizer=jn.adam, epochs=3, batch_size=64)
    result = train(jax.random.key(0), (encoded("train"), labels["train"]), 0.005)
    logits = np.asarray(jn.predict(net, result.variables, encoded("test"), batch_size=1024))

    truth = labels["test"]
    common = int(np.bincount(labels["train"]).argmax())
    answers = {f"always {CLASSES[common]}": np.full_like(truth, common)}
    answers |= {"bag of words": of_bag, "LSTM": logits.argmax(axis=-1)}
    accuracy = {name: float((answer == truth).mean()) for name, answer in answers.items()}
    print(f"{len(texts['train']):,} lines trained on, {len(truth):,} of other modules")
    print("                 accuracy   found of:" + "".join(f"{name:>10}" for name in CLASSES))
    for name, answer in answers.items():
        recall = [(answer == truth)[truth == label].mean() for label in range(3)]
        print(f"{name:16}{accuracy[name]:9.3f}" + " " * 12 + "".join(f"{r:10.2f}" for r in recall))

    figure = jn.plots.confusion(jn.confusion_matrix(logits, truth), CLASSES)
    jn.plots.save(figure, out / "text_classes.png")
    return {"accuracy": accuracy, "answers": answers, "truth": truth, "texts": texts}


if __name__ == "__main__":
    run(main, __file__)
