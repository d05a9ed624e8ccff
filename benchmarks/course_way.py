"""The course's way of training, as COURSE.md describes it: torchvision dataset, PIL, DataLoader.

One process, batch 64, Adam at 1e-3, pixels scaled by Normalize(0.5, 0.5), the loss read and shown at every step, the
test set in batches of 1000. Other benchmarks compare cnnbench with it.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms
from tqdm import tqdm


def loaders(root: str, batch_size: int = 64) -> tuple[DataLoader, DataLoader]:
    """Shuffled training batches, and test batches of 1000."""
    scale = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    train = datasets.MNIST(root, train=True, transform=scale)
    test = datasets.MNIST(root, train=False, transform=scale)
    return DataLoader(train, batch_size=batch_size, shuffle=True), DataLoader(test, batch_size=1000)


def train_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, batches: DataLoader, device: torch.device | str = "cpu"
) -> None:
    """One epoch with a progress bar."""
    with tqdm(batches, leave=False, disable=None) as bar:
        for images, labels in bar:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            bar.set_postfix(loss=loss.item())


@torch.no_grad()
def accuracy(model: nn.Module, batches: DataLoader) -> float:
    """The share of images whose class is predicted correctly."""
    hits = total = 0
    for images, labels in batches:
        hits += int((model(images).argmax(1) == labels).sum())
        total += len(labels)
    return hits / total
