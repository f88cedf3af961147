"""A ResNet-18 that has learned the digits, as transformers save it; and the rows it is quantised with.

python -m tests.support.models.resnet DIRECTORY     writes the model to DIRECTORY/resnet and rows to DIRECTORY/rows.npz
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from transformers import ResNetConfig, ResNetForImageClassification

from workloads.training.config import Digits
from workloads.training.data import held_out, load

SIDE, EPOCHS, BATCH = 64, 6, 64
"""Of a picture of 8 by 8, made larger: what is smaller has nothing left to compute after five halvings."""


def main(directory: Path) -> None:
    torch.manual_seed(0)
    learned, unseen = load(Digits()), held_out(Digits())
    x_BCHW, labels_B = _pictures(learned.x), learned.y
    config = ResNetConfig(
        num_channels=1, embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic",
        num_labels=10,
    )  # fmt: skip
    model = ResNetForImageClassification(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=EPOCHS * (len(labels_B) // BATCH))
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(labels_B))[: len(labels_B) // BATCH * BATCH].split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(x_BCHW[rows]).logits, labels_B[rows]).backward()
            optimizer.step()
            schedule.step()
    model.eval().save_pretrained(directory / "resnet")
    x = np.concatenate([x_BCHW.numpy(), _pictures(unseen.x).numpy()])
    labels = np.concatenate([learned.y.numpy(), unseen.y.numpy()])
    np.savez(directory / "rows.npz", pixel_values=x, labels=labels, trained_on=np.arange(len(x)) < len(labels_B))


def _pictures(x_BHW: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x_BHW.unsqueeze(1), (SIDE, SIDE), mode="bilinear")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
