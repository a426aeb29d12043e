"""Self-taught learning: features from unlabelled examples whose classes may be other ones.

Raina, Battle, Lee, Packer & Ng, "Self-taught learning: transfer learning from unlabeled data"
(ICML 2007): a dictionary of bases is learned on the unlabelled source by sparse coding, their
equation (1), and the codes of the target's examples, equation (2), are its features.
Lecture topic: self-taught learning, feature transfer from an unlabelled source.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.decomposition import MiniBatchDictionaryLearning

from metagym.baselines.transfer.base import check_examples
from metagym.baselines.transfer.features import DomainFeatures
from metagym.errors import check_above_zero, check_positive


class SelfTaught(DomainFeatures):
    """Sparse codes in a dictionary of the unlabelled source, by scikit-learn's online learning.

    min over bases b with ‖b_j‖ ≤ 1 and codes a of Σᵢ ‖xᵢ − Σ_j a_ij b_j‖² + β‖aᵢ‖₁. Labels play no
    part, and neither does the target: with ``DomainAdapted`` pass ``y=None`` and ``yt``.

    Args:
        n_components: bases in the dictionary, possibly more than features.
        sparsity: β; a larger one leaves fewer codes that are not 0.
        max_iter: passes over the source.
        batch_size: examples of a step.
        random_state: of the order of the examples and the start.

    Attributes:
        dictionary_: bases [n_components, d], of length 1 at most.
        learner_: the fitted ``MiniBatchDictionaryLearning``.
    """

    def __init__(
        self,
        n_components: int = 100,
        sparsity: float = 0.5,
        max_iter: int = 10,
        batch_size: int = 64,
        random_state: int = 0,
    ) -> None:
        self.n_components = n_components
        self.sparsity = sparsity
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, Xt: Any = None) -> Self:
        """Learn the dictionary.

        Args:
            X: unlabelled source examples [n, d].
            y: ignored.
            Xt: target examples [m, d], of which only the number of features is looked at; None:
                they come later.

        Raises:
            InvalidArgumentError: other features in the target than in the source, or a setting
                that cannot work.
            DataError: a value is not a finite number.
        """
        examples = check_examples("X", X)
        return super().fit(examples, y, examples if Xt is None else Xt)

    def _fit(self, source: np.ndarray, y: Any, target: np.ndarray) -> None:
        # scikit-learn's objective has half the squared error, so half of β.
        alpha = check_above_zero("sparsity", self.sparsity) / 2.0
        self.learner_ = MiniBatchDictionaryLearning(
            n_components=check_positive("n_components", self.n_components),
            alpha=alpha,
            transform_alpha=alpha,
            transform_algorithm="lasso_lars",
            transform_max_iter=1000,
            max_iter=check_positive("max_iter", self.max_iter),
            tol=0.0,
            max_no_improvement=None,  # the cost of a minibatch is too noisy to stop by
            batch_size=check_positive("batch_size", self.batch_size),
            random_state=self.random_state,
        )
        self.learner_.fit(source)
        self.dictionary_ = self.learner_.components_

    def _map(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self.learner_.transform(X))
