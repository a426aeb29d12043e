"""A toy that every method has to learn in a second, and the shortest loop that trains on it."""

from __future__ import annotations

import math

import pytest
import torch

from metagym.baselines.few_shot.base import TaskShape, scores
from metagym.tasks.few_shot import TaskDistribution, Tasks


class Blobs(TaskDistribution):
    """Classes are Gaussian blobs about means that are drawn anew for each task."""

    name, kind = "blobs", "classification"

    def __init__(self, ways=5, shots=1, queries=4, input_shape=(2,), dtype=torch.float32):
        self.ways, self.shots, self.queries, self.dtype = ways, shots, queries, dtype
        self.input_shape, self.outputs, self.support = input_shape, ways, ways * shots

    def sample(self, count, split, generator):
        size = math.prod(self.input_shape)
        means = torch.randn(count, self.ways, 1, size, generator=generator, dtype=self.dtype)

        def draw(each):
            shape = (count, self.ways, each, size)
            x = means + 0.1 * torch.randn(shape, generator=generator, dtype=self.dtype)
            y = torch.arange(self.ways).repeat_interleave(each).expand(count, -1)
            return x.reshape(count, -1, *self.input_shape), y

        return Tasks(*draw(self.shots), *draw(self.queries))


@pytest.fixture
def blobs():
    """The class of the toy distribution."""
    return Blobs


@pytest.fixture
def make():
    """``make(cls, distribution, **fields)``: a method with weights of seed 0."""

    def make(cls, distribution, **fields):
        torch.manual_seed(0)
        method = cls(TaskShape.of(distribution), cls.Config(**fields))
        return method.to(getattr(distribution, "dtype", torch.float32))

    return make


@pytest.fixture
def learn():
    """``learn(method, train, judged)``: the mean test score after a short meta-training."""

    def learn(method, train, judged=None, iterations=120, rate=1e-2, batch=16):
        generator = torch.Generator().manual_seed(0)
        optimizer = torch.optim.Adam(method.parameters(), rate)
        method.train()
        for _ in range(iterations):
            loss, _ = method.meta_loss(train.sample(batch, "train", generator), generator)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        method.eval()
        tasks = (judged or train).sample(100, "test", generator)
        with torch.no_grad():
            return float(scores(method.shape.kind, method.predict(tasks), tasks).mean())

    return learn
