"""Controller: the recurrent network that writes architectures, token by token.

Zoph & Le (2017), Neural architecture search with reinforcement learning, sections 3.1 and 3.3: an
LSTM of two layers reads the tokens so far and says how likely each next one is; whether a layer
is an input of a later one is decided by attention between the states at the two layers.
"""

from __future__ import annotations

import torch
from torch import nn

from metagym.architectures import SearchSpace

INITIAL = 0.08  # weights are uniform between minus this and this


class Controller(nn.Module):
    """A distribution over the strings of a space.

    Args:
        space: with ``anchors`` [length, 2] and the tokens "no skip" and "skip", it has skip
            connections, which are chosen by attention.
        width: units of each layer of the LSTM, and length of the tokens' embeddings.
        layers: of the LSTM.
    """

    def __init__(self, space: SearchSpace, *, width: int = 35, layers: int = 2) -> None:
        super().__init__()
        vocabulary = list(space.vocabulary)
        self.embed = nn.Embedding(len(vocabulary) + 1, width)  # the last one is the start's
        self.lstm = nn.LSTM(width, width, layers, batch_first=True)
        self.head = nn.Linear(width, len(vocabulary))
        anchors = torch.as_tensor(getattr(space, "anchors", [[-1, -1]] * space.length))
        self._skips = torch.nonzero(anchors[:, 0] >= 0)[:, 0]
        self._anchors = anchors[self._skips]
        if len(self._skips):
            self._no, self._yes = vocabulary.index("no skip"), vocabulary.index("skip")
            self.current, self.previous = (nn.Linear(width, width, bias=False) for _ in range(2))
            self.attention = nn.Linear(width, 1, bias=False)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -INITIAL, INITIAL)

    def log_probs(self, tokens: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        """Log-probabilities [B, T, V] of every token after the ones before it.

        Args:
            tokens: [B, T], of which the last one is not looked at; what stands behind a PAD has
                no meaning.
            allowed: bool [B, T, V], the masks; a token that is not allowed gets -1e9.
        """
        start = torch.full_like(tokens[:, :1], self.embed.num_embeddings - 1)
        read = torch.cat([start, tokens[:, :-1].clamp(min=0)], dim=1)
        states = self.lstm(self.embed(read))[0]
        logits = self.head(states)
        skips = self._skips[self._skips < tokens.shape[1]]
        if len(skips):  # P(skip) = σ(vᵀ tanh(W_prev h_j + W_curr h_i))
            current, previous = self._anchors[: len(skips)].T
            mixed = self.previous(states[:, previous]) + self.current(states[:, current])
            scores = self.attention(torch.tanh(mixed))[..., 0]
            logits = logits.clone()
            logits[:, skips, self._no] = 0.0
            logits[:, skips, self._yes] = scores
        return torch.log_softmax(logits.masked_fill(~allowed, -1e9), dim=-1)

    @torch.no_grad()
    def next_token(
        self,
        tokens: torch.Tensor,
        allowed: torch.Tensor,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """The next token [B] of strings [B, T].

        ``allowed`` is bool [B, V]. Without a generator the likeliest token is taken.
        """
        before = torch.ones(*tokens.shape, allowed.shape[1], dtype=torch.bool)
        log_probs = self.log_probs(
            nn.functional.pad(tokens, (0, 1)), torch.cat([before, allowed[:, None]], dim=1)
        )[:, -1]
        if generator is None:
            return log_probs.argmax(dim=1)
        return torch.multinomial(log_probs.exp(), 1, generator=generator)[:, 0]
