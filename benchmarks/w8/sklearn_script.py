"""64-256-128-10 on the digits: scikit-learn."""

import warnings

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

warnings.simplefilter("ignore")  # 30 epochs are not convergence

x, y = load_digits(return_X_y=True)
x, x_test, y, y_test = train_test_split(
    (x / 16).astype("float32"), y, test_size=0.2, random_state=0, stratify=y
)
model = MLPClassifier((256, 128), batch_size=64, max_iter=30, random_state=0)
print(model.fit(x, y).score(x_test, y_test))
