"""64-256-128-10 on the digits: torch."""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

torch.manual_seed(0)
x, y = load_digits(return_X_y=True)
parts = train_test_split((x / 16).astype("float32"), y, test_size=0.2, random_state=0, stratify=y)
x, x_test, y, y_test = map(torch.from_numpy, parts)
model = nn.Sequential(
    nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)
)
optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
for _ in range(30):
    for batch in torch.randperm(len(x)).split(64):
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
with torch.no_grad():
    print(float((model(x_test).argmax(1) == y_test).float().mean()))
