"""Equations, papers and places in tables of all supervised baselines, by the name of their page."""

from __future__ import annotations

from metagym.site.facts import Facts

_MAML = (
    "Finn, Abbeel & Levine (2017), Model-agnostic meta-learning for fast adaptation of deep "
    "networks, ICML"
)
_RAVI = "Ravi & Larochelle (2017), Optimization as a model for few-shot learning, ICLR"
_REPTILE = (
    "Nichol, Achiam & Schulman (2018), On first-order meta-learning algorithms, arXiv:1803.02999"
)

_OMNIGLOT, _SINUSOIDS = "Few-shot classification on Omniglot", "Learning to initialise: sinusoids"
_ALIKE, _REPTILES = "How alike tasks may be", "What Reptile learns"
_LINEAR, _NETWORKS = "Linear multi-task learning", "Networks for several tasks"
_OFFICE, _USPS = "Transfer on Office+Caltech", "Digits from MNIST to USPS and back"
_RATIOS, _CLICKS = "Importance weights where the ratio is known", "Clicks learned from won auctions"
_ADS = "From web browsing to ad clicks"

# -- few-shot learning ---------------------------------------------------------------------------

_INNER = r"""
with the initial weights $\theta$, the inner rate $\alpha$ (`inner_lr`), and the losses $L_S$ on the
support set and $L_Q$ on the query set of a task. One inner step is shown; `inner_steps` says how
many there are.
"""
_EMBEDDED = r"""
with the embedding $f_\theta$, a query $x$, and the support examples $(x_i, y_i)$ of a task.
"""

_FEW_SHOT = {
    "maml": Facts(
        r"""
$$\theta' = \theta - \alpha\, \nabla L_S(\theta), \qquad
  \min_\theta\; \mathbb{E}\left[L_Q(\theta')\right], \qquad
  \nabla_\theta L_Q(\theta') = \left(I - \alpha\, \nabla^2 L_S(\theta)\right) \nabla L_Q(\theta')$$
""" + _INNER,
        [_MAML],
        {_OMNIGLOT: ("MAML, second order, strided Conv-4 (transductive)", "MAML"),
         _SINUSOIDS: ("MAML",), _ALIKE: ("MAML",), _REPTILES: ("MAML",)},
    ),
    "fomaml": Facts(
        r"""
$$\theta' = \theta - \alpha\, \nabla L_S(\theta), \qquad
  \theta \leftarrow \theta - \eta\, \mathbb{E}\left[\nabla L_Q(\theta')\right]$$
""" + _INNER + r"""
The Hessian in MAML's gradient is left away; $\eta$ is the outer rate.
""",
        [_MAML, _REPTILE],
        {_OMNIGLOT: ("FOMAML",), _SINUSOIDS: ("FOMAML",), _REPTILES: ("FOMAML",)},
    ),
    "anil": Facts(
        r"""
$$w' = w - \alpha\, \nabla_w L_S(\theta, w), \qquad
  \min_{\theta,\, w}\; \mathbb{E}\left[L_Q(\theta, w')\right]$$

with the last layer $w$ and the features $\theta$ below it, which a task leaves alone; $\alpha$ is
`inner_lr`, and $L_S$ and $L_Q$ are the losses on support and query set.
""",
        ["Raghu, Raghu, Bengio & Vinyals (2020), Rapid learning or feature reuse? Towards "
         "understanding the effectiveness of MAML, ICLR"],
        {_OMNIGLOT: ("ANIL",), _SINUSOIDS: ("ANIL",)},
    ),
    "meta_sgd": Facts(
        r"""
$$\theta' = \theta - \alpha \odot \nabla L_S(\theta), \qquad
  \min_{\theta,\, \alpha}\; \mathbb{E}\left[L_Q(\theta')\right]$$

with initial weights $\theta$ and a learned rate in $\alpha$ for each of them, which begins at
`inner_lr`; $L_S$ and $L_Q$ are the losses on support and query set.
""",
        ["Li, Zhou, Chen & Li (2017), Meta-SGD: learning to learn quickly for few-shot learning, "
         "arXiv:1707.09835"],
        {_OMNIGLOT: ("Meta-SGD",), _SINUSOIDS: ("Meta-SGD, trained for 1 step", "Meta-SGD")},
    ),
    "maml_plus_plus": Facts(
        r"""
$$\theta_{k+1} = \theta_k - \alpha_k\, \nabla L_S(\theta_k), \qquad
  \min_{\theta_0,\, \alpha}\; \mathbb{E}\left[\sum_{k=1}^{K} w_k\, L_Q(\theta_k)\right]$$

with $K$ inner steps, a learned rate $\alpha_k$ for each step and weight tensor, and weights $w_k$,
which begin equal and move to the last step as meta-training goes on; $L_S$ and $L_Q$ are the losses
on support and query set.
""",
        ["Antoniou, Edwards & Storkey (2019), How to train your MAML, ICLR"],
        {_OMNIGLOT: ("MAML++",), _SINUSOIDS: ("MAML++, trained for 5 steps", "MAML++")},
    ),
    "reptile": Facts(
        r"""
$$\theta \leftarrow \theta + \eta\, \mathbb{E}\left[\theta^{(k)} - \theta\right]$$

with the initial weights $\theta$, the weights $\theta^{(k)}$ after $k$ steps of training on a task,
the mean over a batch of tasks, and the outer rate $\eta$ (`outer_lr`).
""",
        [_REPTILE],
        {_SINUSOIDS: ("Reptile",), _ALIKE: ("Reptile",),
         _REPTILES: ("k = 2", "k = 4", "k = 8", "k = 32")},
    ),
    "joint": Facts(
        r"""
$$\min_\theta\; \mathbb{E}\left[L(\theta)\right]$$

with the loss $L$ on the examples of a task and the mean over all tasks: one set of weights $\theta$
for all, from which a task then takes its gradient steps.
""",
        [_REPTILE, _MAML],
        {_SINUSOIDS: ("pretrained control (joint training)", "pretrained control"),
         _REPTILES: ("k = 1 (joint training)",)},
    ),
    "prototypical": Facts(
        r"""
$$p(y = k \mid x) = \operatorname{softmax}_k\left(-\lVert f_\theta(x) - c_k \rVert^2\right),
  \qquad c_k = \frac{1}{|S_k|} \sum_{i \in S_k} f_\theta(x_i)$$
""" + _EMBEDDED + r"""
$S_k$ are those of class $k$.
""",
        ["Snell, Swersky & Zemel (2017), Prototypical networks for few-shot learning, NeurIPS"],
        {_OMNIGLOT: ("prototypical networks", "prototypical")},
    ),
    "matching": Facts(
        r"""
$$p(y = k \mid x) = \sum_i a(x, x_i)\, \mathbf{1}[y_i = k], \qquad
  a(x, x_i) = \operatorname{softmax}_i\left(c \cdot \cos(f_\theta(x), f_\theta(x_i))\right)$$
""" + _EMBEDDED + r"""
$c$ is `scale`.
""",
        ["Vinyals, Blundell, Lillicrap, Kavukcuoglu & Wierstra (2016), Matching networks for one "
         "shot learning, NeurIPS"],
        {_OMNIGLOT: ("matching", "matching, full context")},
    ),
    "siamese": Facts(
        r"""
$$p(\text{same class}) = \sigma\left(w^\top |f_\theta(x) - f_\theta(x_i)| + b\right)$$
""" + _EMBEDDED + r"""
$w$ and $b$ are learned, too, and $\sigma$ is the logistic function.
""",
        ["Koch, Zemel & Salakhutdinov (2015), Siamese neural networks for one-shot image "
         "recognition, ICML deep learning workshop"],
        {_OMNIGLOT: ("siamese",)},
    ),
    "relation": Facts(
        r"""
$$r_k(x) = g_\phi\left([c_k,\; f_\theta(x)]\right), \qquad
  \min_{\theta,\, \phi}\; \sum_k \left(r_k(x) - \mathbf{1}[y = k]\right)^2$$
""" + _EMBEDDED + r"""
$c_k$ is the mean embedding of class $k$, and $g_\phi$ a network whose output is in $[0, 1]$.
""",
        ["Sung et al. (2018), Learning to compare: relation network for few-shot learning, CVPR"],
        {_OMNIGLOT: ("relation",)},
    ),
    "meta_lstm": Facts(
        r"""
$$\theta_t = f_t \odot \theta_{t-1} - i_t \odot \nabla L(\theta_{t-1})$$

with the learner's weights $\theta$, and for each of them a forget gate $f_t$ and an input gate
$i_t$, which an LSTM computes from its gradient, the loss $L$ on the support set, the weight and
the last gates. The gates and $\theta_0$ are meta-learned.
""",
        [_RAVI], {_OMNIGLOT: ("meta-learner LSTM",)},
    ),
    "lstm": Facts(
        r"""
$$h_i = \operatorname{LSTM}(h_{i-1}, [f_\theta(x_i), y_i]), \qquad
  y = g_\theta\left(\operatorname{LSTM}(h_n, [f_\theta(x), \emptyset])\right)$$

with the $n$ support examples $(x_i, y_i)$ in a random order, the state $h$, a query $x$, whose
label is left empty, an embedding $f_\theta$ and an output layer $g_\theta$.
""",
        ["Hochreiter, Younger & Conwell (2001), Learning to learn using gradient descent, ICANN",
         "Santoro, Bartunov, Botvinick, Wierstra & Lillicrap (2016), Meta-learning with "
         "memory-augmented neural networks, ICML"],
        {_OMNIGLOT: ("LSTM (chance is 20)",)},
    ),
    "snail": Facts(
        r"""
$$z_t' = \left[z_t,\; \operatorname{softmax}\left(\frac{q_t K_{\le t}^\top}{\sqrt{d}}\right)
  V_{\le t}\right], \qquad
  z_t'' = \left[z_t',\; \tanh(c_t) \odot \sigma(g_t)\right]$$

by turns: attention with queries $q$, keys $K$ and values $V$ of $d$ numbers, linear in $z$, and
causal dilated convolutions $c$ and $g$ of $z'$. The sequence $z$ are the embedded support examples
with their labels and, last, a query without.
""",
        ["Mishra, Rohaninejad, Chen & Abbeel (2018), A simple neural attentive meta-learner, ICLR"],
        {_OMNIGLOT: ("SNAIL",)},
    ),
    "fine_tuning": Facts(
        r"""
$$\min_{W}\; \sum_i \ell\left(W f_\theta(x_i),\, y_i\right), \qquad W_0 = 0$$

with the support examples $(x_i, y_i)$, features $f_\theta$ of a network that was trained to tell
all training classes apart, a new last layer $W$ and the cross-entropy $\ell$.
""",
        [_RAVI], {_OMNIGLOT: ("fine-tuning",)},
    ),
    "nearest_neighbour": Facts(
        r"""
$$y(x) = y_j, \qquad j = \arg\max_i\; \cos(f_\theta(x), f_\theta(x_i))$$

with a query $x$, the support examples $(x_i, y_i)$ and features $f_\theta$ of a network that was
trained to tell all training classes apart; `distance="euclidean"` takes distances instead.
""",
        [_RAVI], {_OMNIGLOT: ("nearest neighbour",)},
    ),
}  # fmt: skip

# -- multi-task learning -------------------------------------------------------------------------

_CARUANA = "Caruana (1997), Multitask learning, Machine Learning 28"
_TESTED = "`python -m pytest {}`, on tasks whose answer is known"

_LINEAR_MODEL = Facts(
    r"""
$$\min_W\; \sum_{m=1}^{M} a_m L(X^m, y^m, w^m) + \lambda\, \mathrm{Reg}(W)
  + \lambda_1 \sum_m \lVert w^m \rVert^2$$

with the weights $w^m$ of $M$ tasks as rows of $W$, their losses $L$ and their say $a_m$
(`task_weights`), $\lambda$ (`strength`), $\lambda_1$ (`ridge`), and one of

$$\sum_{i<j} \lVert w^i - w^j \rVert^2, \qquad
  \sum_m \lVert w^m - \bar w \rVert^2, \qquad
  \sum_j \lVert (w_j^1, \ldots, w_j^M) \rVert, \qquad
  \sum_k \sigma_k(W)$$

for $\mathrm{Reg}$ (`regularizer`): "pairwise", "mean", "l21" and "trace", where $\bar w$ is the
mean of the $w^m$ and $\sigma_k$ are singular values.
""",
    ["Evgeniou & Pontil (2004), Regularized multi-task learning, KDD",
     "Argyriou, Evgeniou & Pontil (2008), Convex multi-task feature learning, Machine Learning 73",
     "Obozinski, Taskar & Jordan (2010), Joint covariate selection and joint subspace selection "
     "for multiple classification problems, Statistics and Computing 20",
     "Ji & Ye (2009), An accelerated gradient method for trace norm minimization, ICML"],
    {_LINEAR: ("distance to the mean", "everything (pooled)", "trace norm", "ℓ2,1")},
)  # fmt: skip
_CLUSTERED = Facts(
    r"""
$$\min_{W,\; k \text{ groups}}\; \sum_m a_m L_m(w^m)
  + \lambda \sum_{c=1}^{k} \sum_{m \in c} \lVert w^m - \bar w_c \rVert^2
  + \lambda_1 \lVert W \rVert^2$$

with the weights $w^m$ of the tasks as rows of $W$, their losses $L_m$ and their say $a_m$, groups
$c$ of tasks with mean weights $\bar w_c$, and $\lambda$ and $\lambda_1$; what is solved is the
convex relaxation of it.
""",
    ["Jacob, Bach & Vert (2008), Clustered multi-task learning: a convex formulation, NeurIPS",
     "Zhou, Chen & Ye (2011), Clustered multi-task learning via alternating structure "
     "optimization, NeurIPS"],
    {_LINEAR: ("clusters (2)",)},
)  # fmt: skip
_ZHANG = (
    "Zhang & Yeung (2010), A convex formulation for learning task relationships in multi-task "
    "learning, UAI"
)
_RELATED = Facts(
    r"""
$$\min_{W,\; \Omega \succeq 0,\; \mathrm{tr}\, \Omega = 1}\; \sum_m a_m L_m(w^m)
  + \lambda_1 \lVert W \rVert^2 + \lambda_2\, \mathrm{tr}(W^\top \Omega^{-1} W)$$

with the weights $w^m$ of the tasks as rows of $W$, their losses $L_m$ and their say $a_m$, the
learned covariance $\Omega$ of the tasks, and $\lambda_1$ and $\lambda_2$.
""",
    [_ZHANG], {_LINEAR: ("learned relationships",)},
)  # fmt: skip
_NEW_TASK = Facts(
    r"""
$$\min_{w,\, \tilde\Omega}\; L(X, y, w) + \lambda_1 \lVert w \rVert^2
  + \lambda_2\, \mathrm{tr}(\tilde W^\top \tilde\Omega^{-1} \tilde W), \qquad
  \tilde W = \begin{pmatrix} W \\ w^\top \end{pmatrix}, \qquad
  \tilde\Omega = \begin{pmatrix} (1 - \sigma)\, \Omega & \omega \\
  \omega^\top & \sigma \end{pmatrix} \succeq 0$$

with the weights $w$ of the new task, its loss $L$, the weights $W$ of the old tasks and their
covariance $\Omega$, which stay, learned relations $\omega$ and variance $\sigma$, and $\lambda_1$
and $\lambda_2$.
""",
    [_ZHANG], measure=_TESTED.format("tests/baselines/multitask/test_asymmetric.py"),
)  # fmt: skip

_MULTITASK = {
    "multitask_single": Facts(
        r"""
$$\min\; \sum_t L_t(f_t)$$

with the loss $L_t$ of task $t$ and its network $f_t$, which shares no parameter with the others.
""",
        [_CARUANA], {_NETWORKS: ("the twins",)},
    ),
    "multitask_hard": Facts(
        r"""
$$\min\; \sum_t L_t(g_t \circ h)$$

with the loss $L_t$ of task $t$, its linear head $g_t$ and the trunk $h$, which all tasks share.
""",
        [_CARUANA], {_NETWORKS: ("hard sharing",)},
    ),
    "multitask_soft": Facts(
        r"""
$$\min\; \sum_t L_t(f_t) + \lambda \sum_{s<t} \lVert w_s - w_t \rVert^2$$

with the loss $L_t$ of task $t$ and its network $f_t$, whose hidden layers are $w_t$; with the
distance to the mean it is $\lambda \sum_t \lVert w_t - \bar w \rVert^2$.
""",
        ["Duong, Cohn, Bird & Cook (2015), Low resource dependency parsing: cross-lingual "
         "parameter sharing in a neural network parser, ACL"],
        {_NETWORKS: ("soft sharing",)},
    ),
    "multitask_shared_private": Facts(
        r"""
$$\min_{s,\, p,\, g}\, \max_{d}\; \sum_t L_t\left(g_t([s(x), p_t(x)])\right)
  - \lambda\, \ell\left(d(s(x)), t\right)
  + \gamma\, \operatorname{mean}_t \frac{\lVert \hat S_t^\top \hat P_t \rVert_F^2}{n_t^2}$$

with the shared encoder $s$, private ones $p_t$, heads $g_t$ and losses $L_t$, the cross-entropy
$\ell$ of a discriminator $d$ that names the task (gradients are reversed between it and $s$), and
the features $\hat S_t$ and $\hat P_t$ of $n_t$ examples, in rows of length 1; $\lambda$ is
`adversary`, $\gamma$ `orthogonality`.
""",
        ["Liu, Qiu & Huang (2017), Adversarial multi-task learning for text classification, ACL",
         "Ganin & Lempitsky (2015), Unsupervised domain adaptation by backpropagation, ICML",
         "Bousmalis, Trigeorgis, Silberman, Krishnan & Erhan (2016), Domain separation networks, "
         "NeurIPS"],
        {_NETWORKS: ("shared-private",)},
    ),
    "multitask_cross_stitch": Facts(
        r"""
$$\tilde h_s = \sum_t \alpha_{st}\, h_t$$

behind every hidden layer, with the features $h_t$ of task $t$'s network there, what task $s$ goes
on with, $\tilde h_s$, and a learned matrix $\alpha$ for each layer.
""",
        ["Misra, Shrivastava, Gupta & Hebert (2016), Cross-stitch networks for multi-task "
         "learning, CVPR"],
        {_NETWORKS: ("cross-stitch",)},
    ),
    "multitask_mmoe": Facts(
        r"""
$$y_t = g_t\left(\sum_e \pi_{te}(x)\, f_e(x)\right), \qquad
  \pi_t(x) = \operatorname{softmax}(W_t x + b_t)$$

with experts $f_e$ for all tasks, and for each task $t$ a gate $\pi_t$ of weights $W_t$ and $b_t$
and a tower $g_t$.
""",
        ["Ma, Zhao, Yi, Chen, Hong & Chi (2018), Modeling task relationships in multi-task "
         "learning with multi-gate mixture-of-experts, KDD"],
        {_NETWORKS: ("mixture of experts",)},
    ),
    "multitask_deep_relationship": Facts(
        r"""
$$\min\; \sum_t L_t + \tfrac{\lambda}{2}\, \mathrm{vec}(W)^\top
  (\Sigma_1 \otimes \Sigma_2 \otimes \Sigma_3)^{-1}\, \mathrm{vec}(W)$$

with the losses $L_t$, the tensor $W$ of the weights of one layer of all tasks (tasks × outputs ×
inputs), and learned covariances $\Sigma_1$ of tasks, $\Sigma_2$ of outputs and $\Sigma_3$ of
inputs; the last two are the identity by default.
""",
        ["Long, Cao, Wang & Yu (2017), Learning multiple tasks with multilinear relationship "
         "networks, NeurIPS",
         "Dutilleul (1999), The MLE algorithm for the matrix normal distribution, Journal of "
         "Statistical Computation and Simulation 64"],
        {_NETWORKS: ("deep relationships",)},
    ),
    "multitask_conditioned": Facts(
        r"""
$$y = f(x, z)$$

with an example $x$, the descriptor $z$ of its task, and one network $f$ for all; the table above
says how $z$ gets in. With `how="gating"`, for instance,

$$h_l = \operatorname{relu}(W_l h_{l-1} + b_l) \odot (G_l z + c_l)$$

for the features $h_l$ of layer $l$ and learned $W$, $b$, $G$ and $c$.
""",
        ["Perez, Strub, de Vries, Dumoulin & Courville (2018), FiLM: visual reasoning with a "
         "general conditioning layer, AAAI"],
        {_NETWORKS: ("conditioned on the task",)},
    ),
    "multitask_multi_source": Facts(
        r"""
$$h = \frac{\sum_s m_s\, e_s(x_s)}{\sum_s m_s}, \qquad y_t = g_t(f(h)), \qquad
  m_s \in \{0, 1\}$$

with the columns $x_s$ of source $s$ and its encoder $e_s$, $m_s = 1$ where it is there, a trunk $f$
and a head $g_t$ for each task.
""",
        ["Havaei, Guizard, Chapados & Bengio (2016), HeMIS: hetero-modal image segmentation, "
         "MICCAI",
         "Neverova, Wolf, Taylor & Nebout (2016), ModDrop: adaptive multi-modal gesture "
         "recognition, IEEE TPAMI 38"],
        measure=_TESTED.format("tests/baselines/multitask/test_sources.py"),
    ),
    "MultiTaskClassifier": _LINEAR_MODEL, "MultiTaskRegressor": _LINEAR_MODEL,
    "ClusteredClassifier": _CLUSTERED, "ClusteredRegressor": _CLUSTERED,
    "RelationshipClassifier": _RELATED, "RelationshipRegressor": _RELATED,
    "NewTaskClassifier": _NEW_TASK, "NewTaskRegressor": _NEW_TASK,
    "MultiTaskNetwork": Facts(
        r"""
$$\min\; \sum_t \alpha_t\, L_t(f_t)$$

with the loss $L_t$ of task $t$, the network $f_t$ that the architecture makes for it out of shared
and own parts, and weights $\alpha_t$ that are given or learned; `weighting="pcgrad"` and `"mgda"`
combine the gradients of the $L_t$ instead.
""",
        [_CARUANA,
         "Kendall, Gal & Cipolla (2018), Multi-task learning using uncertainty to weigh losses for "
         "scene geometry and semantics, CVPR",
         "Sener & Koltun (2018), Multi-task learning as multi-objective optimization, NeurIPS",
         "Yu et al. (2020), Gradient surgery for multi-task learning, NeurIPS"],
        {_NETWORKS: (
            "the twins", "hard sharing", "soft sharing", "shared-private", "cross-stitch",
            "mixture of experts", "deep relationships", "conditioned on the task",
        )},
    ),
}  # fmt: skip

# -- transfer learning ---------------------------------------------------------------------------

_SHIMODAIRA = (
    "Shimodaira (2000), Improving predictive inference under covariate shift by weighting the "
    "log-likelihood function, Journal of Statistical Planning and Inference 90"
)
_PAN = (
    "Pan & Yang (2010), A survey on transfer learning, IEEE Transactions on Knowledge and Data "
    "Engineering 22"
)
_TCA = (
    "Pan, Tsang, Kwok & Yang (2011), Domain adaptation via transfer component analysis, IEEE "
    "Transactions on Neural Networks 22"
)
_ZHANG_UNBIASED = (
    "Zhang, Zhou, Wang & Xu (2016), Bid-aware gradient descent for unbiased learning with censored "
    "data in display advertising, KDD"
)
_KAPLAN = (
    "Kaplan & Meier (1958), Nonparametric estimation from incomplete observations, Journal of the "
    "American Statistical Association 53"
)
_TWO_DOMAINS = r"""
with the losses $L_S$ on the source and $L_T$ on the labelled examples of the target.
"""
_KERNELS = r"""
with kernels $k$ around centres $c_l$ drawn from the target, and the density ratio
$\beta = p_T / p_S$ of target and source.
"""
_JOINT = r"""
$$\min\; \alpha\, L_1(w^1, b^1) + (1 - \alpha)\, L_2(w^2, b^2)
  + \lambda_1 \left(\lVert w^1 \rVert^2 + \lVert w^2 \rVert^2\right)
  + \lambda_2 \lVert w^1 - w^2 \rVert^2$$

with weights $w$, intercepts $b$ and mean losses $L$ of the source (1) and the target (2), the
source's say $\alpha$, and $\lambda_1$ and $\lambda_2$.
"""
_JOINT_PAPERS = ["Evgeniou & Pontil (2004), Regularized multi-task learning, KDD"]

_DEEP = {
    "source_only": Facts(
        r"""
$$\min_f\; L_S(f)$$

with the loss $L_S$ of the network $f$ on the source.
""",
        [_PAN], {_USPS: ("source only",)},
    ),
    "target_only": Facts(
        r"""
$$\min_f\; L_T(f)$$

with the loss $L_T$ of the network $f$ on the labelled examples of the target.
""",
        [_PAN], {_USPS: ("target only", "skyline")},
    ),
    "transfer_joint": Facts(
        r"""
$$\min_f\; \alpha\, L_S(f) + (1 - \alpha)\, L_T(f)$$
""" + _TWO_DOMAINS,
        [_PAN], {_USPS: ("joint",)},
    ),
    "transfer_fine_tuning": Facts(
        r"""
$$w_S = \arg\min_w L_S(w), \qquad \min_w\; L_T(w) \quad\text{by gradient steps from } w_S$$
""" + _TWO_DOMAINS + r"""
$w$ are the network's weights, of which `tuned_layers` learn on the target.
""",
        ["Yosinski, Clune, Bengio & Lipson (2014), How transferable are features in deep neural "
         "networks?, NeurIPS"],
        {_USPS: ("fine-tuned",)},
    ),
    "l2_sp": Facts(
        r"""
$$\min_w\; L_T(w) + \frac{\alpha}{2} \lVert w_S - w_S^0 \rVert^2
  + \frac{\beta}{2} \lVert w_{\bar S} \rVert^2$$

with the loss $L_T$ on the labelled examples of the target, the weights $w_S$ that come from the
source, where they were $w_S^0$, and those of a new head, $w_{\bar S}$.
""",
        ["Li, Grandvalet & Davoine (2018), Explicit inductive bias for transfer learning with "
         "convolutional networks, ICML"],
        {_USPS: ("L2-SP",)},
    ),
    "deep_coral": Facts(
        r"""
$$\min\; L_S + \frac{\lambda}{4 d^2} \lVert C_S - C_T \rVert_F^2$$

with the loss $L_S$ on the source, covariances $C_S$ and $C_T$ of the network's $d$ outputs (or its
features, see `layer`) on source and target, and $\lambda$ (`strength`).
""",
        ["Sun & Saenko (2016), Deep CORAL: correlation alignment for deep domain adaptation, ECCV "
         "workshops"],
        {_USPS: ("deep CORAL",)},
    ),
    "deep_mmd": Facts(
        r"""
$$\min\; L_S + \lambda\, \lVert \mu_S - \mu_T \rVert_{\mathcal{H}}^2, \qquad
  \lVert \mu_S - \mu_T \rVert_{\mathcal{H}}^2 = \mathbb{E}\, k(s, s') - 2\, \mathbb{E}\, k(s, t)
  + \mathbb{E}\, k(t, t')$$

with the loss $L_S$ on the source, features $s$ of source and $t$ of target, their mean embeddings
$\mu$, a kernel $k$ that is a sum of five Gaussians, and $\lambda$ (`strength`).
""",
        ["Long, Cao, Wang & Jordan (2015), Learning transferable features with deep adaptation "
         "networks, ICML",
         "Gretton, Borgwardt, Rasch, Schölkopf & Smola (2012), A kernel two-sample test, JMLR 13"],
        {_USPS: ("deep MMD",)},
    ),
    "dann": Facts(
        r"""
$$\min_{f,\, g}\, \max_{d}\; L_S(g \circ f) - \lambda_p\, L_d(d \circ f), \qquad
  \lambda_p = \lambda \left(\frac{2}{1 + e^{-\gamma p}} - 1\right)$$

with features $f$, a head $g$ and its loss $L_S$ on the source, the domain head $d$, which minimises
its own loss $L_d$ at naming the domain, the share $p$ of training that is done, $\lambda$
(`strength`) and $\gamma$ (`gamma`).
""",
        ["Ganin et al. (2016), Domain-adversarial training of neural networks, JMLR 17"],
        {_USPS: ("DANN", "DANN and few labels")},
    ),
    "importance_weighted": Facts(
        r"""
$$\min_f\; \frac{1}{n} \sum_{i=1}^{n} w(x_i)\, \ell(f(x_i), y_i), \qquad
  w(x) = \frac{p_T(x)}{p_S(x)} = \frac{n_S}{n_T} \cdot \frac{p(1 \mid x)}{1 - p(1 \mid x)}$$

with examples $(x_i, y_i)$ of the source, the loss $\ell$, and the probability $p(1 \mid x)$ that
$x$ is of the target, by a classifier on $n_S$ examples of the source and $n_T$ of the target.
""",
        [_SHIMODAIRA,
         "Bickel, Brückner & Scheffer (2007), Discriminative learning for differing training and "
         "test distributions, ICML"],
        {_USPS: ("importance-weighted",)},
    ),
}  # fmt: skip

_FEATURES = {
    "TCA": Facts(
        r"""
$$\min_W\; \mathrm{tr}(W^\top K M K W) + \mu\, \mathrm{tr}(W^\top W)
  \quad\text{such that}\quad W^\top K H K W = I$$

with the kernel matrix $K$ of all examples, the centring matrix $H$, and $M = e e^\top$, where $e$
is $1/n_S$ for the $n_S$ examples of the source and $-1/n_T$ for the $n_T$ of the target; $W$ are
the leading eigenvectors of $(K M K + \mu I)^{-1} K H K$.
""",
        [_TCA], {_OFFICE: ("TCA, d = 100, z", "TCA, d = 20, unit")},
    ),
    "CORAL": Facts(
        r"""
$$x \mapsto (x - m_S)\, (C_S + \lambda I)^{-1/2}\, (C_T + \lambda I)^{1/2} + m_T$$

for examples $x$ of the source, with means $m$ and covariances $C$ of source and target; examples of
the target stay.
""",
        ["Sun, Feng & Saenko (2016), Return of frustratingly easy domain adaptation, AAAI"],
        {_OFFICE: ("CORAL with 1-NN",)},
    ),
    "SelfTaught": Facts(
        r"""
$$\min_{b,\, a}\; \sum_i \left( \left\lVert x_i - \sum_j a_{ij} b_j \right\rVert^2
  + \beta\, \lVert a_i \rVert_1 \right) \quad\text{such that}\quad \lVert b_j \rVert \le 1$$

with unlabelled examples $x_i$ of the source, bases $b_j$ and codes $a_i$; with the bases fixed, the
codes of the target's examples are its features.
""",
        ["Raina, Battle, Lee, Packer & Ng (2007), Self-taught learning: transfer learning from "
         "unlabeled data, ICML"],
        measure=_TESTED.format("tests/baselines/transfer/test_self_taught.py"),
    ),
    "Pooled": Facts(
        r"""
$$\phi = \operatorname{fit}(X_S \cup X_T), \qquad x \mapsto \phi(x)$$

with the examples $X_S$ of the source and $X_T$ of the target and any transformer $\phi$ of
scikit-learn, the same map for both.
""",
        [f"As the baseline of: {_TCA}"],
        {_OFFICE: (
            "PCA, d = 100, z", "PCA, d = 20, unit: the control that papers leave out"
        )},
    ),
    "DomainAdapted": Facts(
        r"""
$$f = \operatorname{fit}\left(\phi_S(X_S) \cup \phi_T(X_T^l)\right), \qquad
  y(x) = f(\phi_T(x))$$

with maps $\phi_S$ and $\phi_T$ into features that the domains share, the source $X_S$, the labelled
examples $X_T^l$ of the target, and any estimator $f$.
""",
        [_PAN],
        {_OFFICE: (
            "TCA, d = 100, z", "TCA, d = 20, unit", "PCA, d = 100, z",
            "PCA, d = 20, unit: the control that papers leave out",
        )},
    ),
}  # fmt: skip

_WEIGHTS = {
    "ImportanceWeighted": Facts(
        r"""
$$\min_f\; \sum_i \beta(x_i)\, \ell(f(x_i), y_i), \qquad \beta(x) = \frac{p_T(x)}{p_S(x)}$$

with examples $(x_i, y_i)$ of the source, the loss $\ell$ of the estimator $f$, and densities $p_S$
of source and $p_T$ of target.
""",
        [_SHIMODAIRA],
        {_RATIOS: ("none", "the true ratio", "kernel mean matching", "uLSIF / KLIEP", "LSIF")},
    ),
    "ClassifierRatio": Facts(
        r"""
$$\beta(x) = \frac{n_S}{n_T} \cdot \frac{p(1 \mid x)}{1 - p(1 \mid x)}$$

with the probability $p(1 \mid x)$ that $x$ is of the target, by a classifier on $n_S$ examples of
the source and $n_T$ of the target.
""",
        ["Qin (1998), Inferences for case-control and semiparametric two-sample density ratio "
         "models, Biometrika 85",
         "Bickel, Brückner & Scheffer (2007), Discriminative learning for differing training and "
         "test distributions, ICML"],
        {_RATIOS: ("odds of a classifier, on x / on x, x²",)},
    ),
    "SelectionRatio": Facts(
        r"""
$$\beta(x) \propto p(s = 1 \mid x) \quad\text{from a pool to what was accepted of it,} \qquad
  \beta(x) \propto \frac{1}{p(s = 1 \mid x)} \quad\text{back}$$

with $s = 1$ for an example that was accepted; which of them it is says `accepted`.
""",
        ["Zadrozny (2004), Learning and evaluating classifiers under sample selection bias, ICML"],
        {_RATIOS: (
            "p(s = 1), the lectures' β "
            "(a contrast: right for accepted samples and their pool only)",
        )},
    ),
    "TwoDensities": Facts(
        r"""
$$\beta(x) = \frac{\hat p_T(x)}{\hat p_S(x)}$$

with a density $\hat p_T$ fitted to the target and $\hat p_S$ to the source.
""",
        ["Sugiyama et al. (2008), Direct importance estimation for covariate shift adaptation, "
         "Annals of the Institute of Statistical Mathematics 60"],
        {_RATIOS: ("two Gaussians / two kernel densities",)},
    ),
    "KLIEP": Facts(
        r"""
$$\max_{\alpha \ge 0}\; \sum_{x \in T} \log \beta(x) \quad\text{such that}\quad
  \frac{1}{n_S} \sum_{x \in S} \beta(x) = 1, \qquad
  \beta(x) = \sum_l \alpha_l\, k(x, c_l)$$
""" + _KERNELS,
        ["Sugiyama et al. (2008), Direct importance estimation for covariate shift adaptation, "
         "Annals of the Institute of Statistical Mathematics 60"],
        {_RATIOS: ("uLSIF / KLIEP",)},
    ),
    "LSIF": Facts(
        r"""
$$\min_{\alpha \ge 0}\; \tfrac{1}{2} \alpha^\top H \alpha - h^\top \alpha
  + \lambda \sum_l \alpha_l, \qquad \beta(x) = \sum_l \alpha_l\, k(x, c_l)$$
""" + _KERNELS + r"""
$H$ is the source's mean of $k(x) k(x)^\top$, $h$ the target's mean of $k(x)$.
""",
        ["Kanamori, Hido & Sugiyama (2009), A least-squares approach to direct importance "
         "estimation, JMLR 10"],
        {_RATIOS: ("LSIF",)},
    ),
    "ULSIF": Facts(
        r"""
$$\alpha = \max\left(0,\; (H + \lambda I)^{-1} h\right), \qquad
  \beta(x) = \sum_l \alpha_l\, k(x, c_l)$$
""" + _KERNELS + r"""
$H$ is the source's mean of $k(x) k(x)^\top$, $h$ the target's mean of $k(x)$.
""",
        ["Kanamori, Hido & Sugiyama (2009), A least-squares approach to direct importance "
         "estimation, JMLR 10"],
        {_RATIOS: ("uLSIF / KLIEP",)},
    ),
    "KernelMeanMatching": Facts(
        r"""
$$\min_\beta\; \tfrac{1}{2} \beta^\top (K + \lambda I) \beta - \kappa^\top \beta
  \quad\text{such that}\quad 0 \le \beta_i \le B, \qquad
  \left| \sum_i \beta_i - n \right| \le n \epsilon$$

with a weight $\beta_i$ for each of the $n$ examples of the source, their kernel matrix $K$,
$\kappa_i = (n / m) \sum_j k(x_i, x_j^T)$ over the $m$ examples of the target, a bound $B$, a
tolerance $\epsilon$ and a ridge $\lambda$.
""",
        ["Huang, Smola, Gretton, Borgwardt & Schölkopf (2007), Correcting sample selection bias by "
         "unlabeled data, NeurIPS",
         "Gretton et al. (2009), Covariate shift by kernel mean matching, in Dataset shift in "
         "machine learning, MIT Press"],
        {_RATIOS: ("kernel mean matching",)},
    ),
    "UnbiasedClicks": Facts(
        r"""
$$\min_f\; \sum_{i \text{ won}} \frac{1}{w(b_i)}\, \ell(f(x_i), y_i), \qquad w(b) = P(z < b)$$

with impressions $x_i$ that were won by a bid $b_i$, clicks $y_i$, the loss $\ell$ of the classifier
$f$, and the probability $w$ that a bid exceeds the market price $z$.
""",
        [_ZHANG_UNBIASED, _KAPLAN],
        {_CLICKS: (
            "trained on won auctions (biased)", "weights 1/w, w by Kaplan-Meier, one curve",
            "w by observed prices", "w by Kaplan-Meier, a curve for each exchange", "true w",
        )},
    ),
    "WinningProbability": Facts(
        r"""
$$w(b) = P(z < b) = 1 - S(b), \qquad
  S(b) = \prod_{z_j < b} \left(1 - \frac{d_j}{n_j}\right)$$

with the market price $z$, the prices $z_j$ that were seen, $d_j$ auctions won at each, and $n_j$
auctions whose price is not known to be lower: those won at $z_j$ or above, and those lost with a
bid above $z_j$.
""",
        [_ZHANG_UNBIASED, _KAPLAN],
        {_CLICKS: (
            "weights 1/w, w by Kaplan-Meier, one curve", "w by observed prices",
            "w by Kaplan-Meier, a curve for each exchange",
        )},
    ),
}  # fmt: skip

_PARAMETERS = {
    "JointClassifier": Facts(
        _JOINT, _JOINT_PAPERS,
        {_ADS: ("joint, its coupling tuned on validation problems",)},
    ),
    "JointRegressor": Facts(
        _JOINT, _JOINT_PAPERS, measure=_TESTED.format("tests/baselines/transfer/test_joint.py"),
    ),
    "HierarchicalLogistic": Facts(
        r"""
$$w_S \sim \mathcal{N}(0, \sigma^2 I), \qquad
  w_T \mid w_S \sim \mathcal{N}(w_S, \tau^2 I), \qquad
  P(y = 1 \mid x) = \operatorname{logistic}(x^\top w)$$

with weights $w_S$ of the source and $w_T$ of the target; the source is integrated out, which leaves
the target the prior $\mathcal{N}(m, \Sigma + \tau^2 I)$, where $\mathcal{N}(m, \Sigma)$ is the
source's posterior by Laplace's approximation. $\sigma$ and $\tau$ are given, or chosen by the
evidence.
""",
        ["Zhang, Chen & Wang (2016), Implicit look-alike modelling in display ads: transfer "
         "collaborative filtering to CTR estimation, ECIR",
         "MacKay (1992), The evidence framework applied to classification networks, Neural "
         "Computation 4"],
        {_ADS: ("hierarchical Bayes", "the same, browsing's mode only")},
    ),
}  # fmt: skip

BASELINE_FACTS: dict[str, Facts] = {
    **_FEW_SHOT, **_MULTITASK, **_DEEP, **_FEATURES, **_WEIGHTS, **_PARAMETERS,
}  # fmt: skip
