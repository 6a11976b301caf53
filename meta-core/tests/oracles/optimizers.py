"""The numbers of `meta-core/tests/f64/optimizers.rs`, by PyTorch 2.9.0 (pip install torch==2.9.0)."""

import torch

torch.set_default_dtype(torch.float64)
cases = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.8, 0.95), eps=1e-8, weight_decay=0.05),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, betas=(0.8, 0.95), eps=1e-8, weight_decay=0.05),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.7, weight_decay=0.05),
}
for name, make in cases.items():
    theta = torch.tensor([1.0, -2.0, 0.5], requires_grad=True)
    optimizer = make([theta])
    for _ in range(3):
        optimizer.zero_grad()
        (theta**4 / 4).sum().backward()
        optimizer.step()
    print(name, [f"{value:.15f}" for value in theta.tolist()])
