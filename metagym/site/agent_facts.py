"""Equations, papers and places in tables of all agents, by the name of their page."""

from __future__ import annotations

from metagym.site.facts import Facts

_DUAN = (
    "Duan, Schulman, Chen, Bartlett, Sutskever & Abbeel (2016), RL²: fast reinforcement learning "
    "via slow reinforcement learning, arXiv:1611.02779"
)
_LI_2016 = "Li & Malik (2016), Learning to optimize, arXiv:1606.01885"
_LI_2017 = "Li & Malik (2017), Learning to optimize neural nets, arXiv:1703.00441"
_PPO = (
    "Schulman, Wolski, Dhariwal, Radford & Klimov (2017), Proximal policy optimization algorithms, "
    "arXiv:1707.06347"
)
_GAE = (
    "Schulman, Moritz, Levine, Jordan & Abbeel (2016), High-dimensional continuous control using "
    "generalized advantage estimation, ICLR"
)
_WILLIAMS = (
    "Williams (1992), Simple statistical gradient-following algorithms for connectionist "
    "reinforcement learning, Machine Learning 8"
)
_ZOPH = "Zoph & Le (2017), Neural architecture search with reinforcement learning, ICLR"
_NASBENCH = (
    "Dong & Yang (2020), NAS-Bench-201: extending the scope of reproducible neural architecture "
    "search, ICLR"
)
_BELLMAN = "Bellman (1957), A Markovian decision process, Journal of Mathematics and Mechanics 6"
_FINN_TASK = (
    "Of the task: Finn, Abbeel & Levine (2017), Model-agnostic meta-learning for fast adaptation "
    "of deep networks, ICML, section 5.3"
)

_QUADRATICS = "Held-out quadratics"
_EXPLORES = "How the agent explores"
_NET = "One 48-48-10 network on digits"
_L2L = "Learned optimisers: reinforcement learning, supervision, hand"
_BANDITS, _MDPS, _MAZES = "RL² on bandits", "RL² on random MDPs", "RL² in mazes"
_NAS, _DIGITS201 = "Architecture search on NAS-Bench-201", "Architecture search on digits201"
_SEARCHER, _CHAINS = "RL² as a searcher", "A controller of chains, trained for real"
_CELLS, _CONTROLLER = "Recurrent cells on the Penn Treebank", "MaskablePPO beside the controller"

_HAND = "Barzilai-Borwein / momentum / Adam"
_ASKED = (
    "`metagym compare BlackBoxOptimize-v0 random_search one_plus_one_es cma_es --episodes 1000`"
)
_WALKERS = (
    "`metagym compare MetaNavigation2D-v0 straight_to_goal trilateration random --episodes 1000`"
)

# -- what learns -------------------------------------------------------------------------------

_CLIPPED = r"""
$$L(\theta) = \mathbb{E}_t\left[\min\left(\rho_t A_t,\;
  \operatorname{clip}(\rho_t, 1 - \epsilon, 1 + \epsilon)\, A_t\right)\right],
  \qquad \rho_t = \frac{\pi_\theta(a_t \mid s_t)}{\pi_{\mathrm{old}}(a_t \mid s_t)}$$
"""
_ADVANTAGE = r"""
$$A_t = \sum_{l \ge 0} (\gamma\lambda)^l \delta_{t+l},
  \qquad \delta_t = r_t + \gamma V(s_{t+1}) - V(s_t)$$
"""
_GAINS = r"""
$$\Delta x = -s\, e^{\alpha} g + \beta\, p$$

with the gradient $g$, the last step $p$ and two gains $(\alpha, \beta) = \pi_\theta(\phi)$, which
the policy $\pi_\theta$, a small network, reads off scale-free features $\phi$ of the history.
"""
_TOKENS = r"""
$$\nabla_\theta J \approx \frac{1}{m} \sum_{k=1}^{m} \sum_{t} \nabla_\theta
  \log \pi_\theta(a_t^k \mid a_{1:t-1}^k)\, (R_k - b)$$

with $m$ architectures an update, the tokens $a_t^k$ of the $k$-th, its reward $R_k$ (a function of
its validation accuracy), and for the baseline $b$ a moving average of past rewards.
"""

_LEARNING = {
    "ppo": Facts(
        _CLIPPED + _ADVANTAGE + r"""
$\theta$ are climbed along $L$ for a few epochs on data of the policy $\pi_{\mathrm{old}}$; $A_t$
are advantages, $V$ the critic, $\gamma$ the discount, $\epsilon$ and $\lambda$ settings. On
LearnToOptimize the action is a pair of gains:
""" + _GAINS,
        [_PPO, _GAE, _LI_2016, _LI_2017],
        {
            _QUADRATICS: (
                "PPO, gains per problem (quadratics)",
                "PPO, gains per coordinate (quadratics-coordinate)",
            ),
            _EXPLORES: (
                "gains per problem, PPO", "gains per problem, PPO, reward -f",
                "gains per coordinate, PPO",
                "raw action: independent Gaussian noise on every coordinate of Δx, PPO",
            ),
        },
    ),
    "reinforce": Facts(
        r"""
$$\nabla_\theta J \approx \frac{1}{B} \sum_{i=1}^{B} \sum_{t}
  \nabla_\theta \log \pi_\theta(a_t^i \mid s_t^i)\, (G_t^i - b_t),
  \qquad b_t = \frac{1}{B} \sum_{j=1}^{B} G_t^j$$

with the return $G_t^i = \sum_{u \ge t} \gamma^{u-t} r_u^i$ of row $i$ from step $t$ on, $B$ rows
and a discount $\gamma$.
""",
        [_WILLIAMS, _LI_2016],
        {
            _QUADRATICS: ("REINFORCE, the same gains (quadratics-reinforce)",),
            _EXPLORES: ("gains per problem, REINFORCE",),
        },
    ),
    "rl2": Facts(
        r"""
$$\max_\theta\; \mathbb{E}_{M \sim p(M)}\left[\sum_{t=1}^{T} \gamma^t r_t\right],
  \qquad h_t = f_\theta(h_{t-1}, s_t, a_{t-1}, r_{t-1}, d_{t-1}),
  \qquad a_t \sim \pi_\theta(a \mid h_t)$$

with tasks $M$, a trial of $T$ steps in all inner episodes, states $s$, actions $a$, rewards $r$,
$d = 1$ at the end of an inner episode, and the memory $h$, which is reset between trials only. The
weights $\theta$ follow PPO:
""" + _CLIPPED + "\nwith advantages over the whole trial:\n" + _ADVANTAGE,
        [_DUAN, _PPO, _GAE],
        {
            _BANDITS: ("RL², ours", "RL², published"),
            _MDPS: ("RL², 42 M steps, 890 s on one core",),
            _MAZES: ("RL², 44 minutes on one core", "RL², published (a 3-D world)"),
            _SEARCHER: ("RL²",),
        },
    ),
    "controller": Facts(
        _TOKENS, [_ZOPH, _WILLIAMS], {_CONTROLLER: ("controller",), _CHAINS: ("controller",)}
    ),
    "async_controller": Facts(
        _TOKENS + r"""
Each of $K$ replicas takes this gradient at the weights $\theta_{\mathrm{old}}$ that it fetched,
and the servers apply it to the weights that they have by then.
""",
        [_ZOPH, "Dean et al. (2012), Large scale distributed deep networks, NeurIPS"],
        measure="`metagym train async_controller ChainSearch-v0 --out runs/chains`, then"
        " `metagym evaluate runs/chains ChainSearch-v0`",
    ),
    "l2l": Facts(
        r"""
$$x_{t+1} = x_t + u_t, \qquad
  (u_t, h_{t+1}) = \operatorname{LSTM}_\phi(\nabla f(x_t), h_t), \qquad
  L(\phi) = \mathbb{E}_f\left[\sum_{t=1}^{T} w_t\, \ell(f(x_t))\right]$$

with problems $f$, iterates $x$, one LSTM of weights $\phi$ for all coordinates and a memory $h$ for
each, weights $w_t$ of the steps, and $\ell$ the identity or the logarithm.
""",
        [
            "Andrychowicz et al. (2016), Learning to learn by gradient descent by gradient "
            "descent, NeurIPS",
            "Lv, Jiang & Li (2017), Learning gradient descent: better generalization and longer "
            "horizons, ICML",
        ],
        {
            _L2L: (
                "LSTM, our inputs and log loss (l2l), 5 minutes",
                "the same, runs that grow / exact gradients",
                "LSTM as published (Andrychowicz et al. 2016), 5 minutes",
                "l2l, 10 minutes", "as published, 10 minutes",
            ),
        },
    ),
    "black_box_rnn": Facts(
        r"""
$$(x_{t+1}, h_{t+1}) = \operatorname{RNN}_\theta(x_t, y_t, h_t), \qquad y_t = f(x_t), \qquad
  L(\theta) = \mathbb{E}_f\left[\sum_{t=1}^{T} \operatorname{symlog}(y_t)\right]$$

with queries $x$, their values $y$, a memory $h$ and functions $f$; with `objective="improvement"`
what counts is $\sum_t \min(0, y_t - \min_{i < t} y_i)$, of symlog values too.
""",
        [
            "Chen et al. (2017), Learning to learn without gradient descent by gradient descent, "
            "ICML"
        ],
        measure="`metagym compare BlackBoxOptimize-v0 cma_es random_search runs/black_box_rnn"
        " --episodes 1000`, after the command above",
    ),
}  # fmt: skip

# -- policies that come along --------------------------------------------------------------------

_CURVATURE = r"""
$s = 1/L$ is one over the largest curvature $L$ met so far, $\lVert y \rVert / \lVert p \rVert$ for
a change $y$ of the gradient.
"""
_PER_PROBLEM = "One pair of gains serves all coordinates.\n"

_SHIPPED = {
    "quadratics": Facts(
        _GAINS + _CURVATURE + _PER_PROBLEM, [_LI_2016, _PPO],
        {
            _QUADRATICS: ("PPO, gains per problem (quadratics)",),
            "Transfer": ("learned",),
            _L2L: ("quadratics, PPO",),
        },
    ),
    "quadratics-reinforce": Facts(
        _GAINS + _CURVATURE + _PER_PROBLEM, [_LI_2016, _WILLIAMS],
        {_QUADRATICS: ("REINFORCE, the same gains (quadratics-reinforce)",)},
    ),
    "quadratics-coordinate": Facts(
        _GAINS + _CURVATURE + "Each coordinate has a pair of gains, by one policy for all.\n",
        [_LI_2016, _PPO],
        {_QUADRATICS: ("PPO, gains per coordinate (quadratics-coordinate)",)},
    ),
    "minibatch": Facts(
        _GAINS + r"""
$s = 2 f / \lVert g \rVert^2$ is Polyak's step size, $f$ being the loss; curvatures would be noise.
""" + _PER_PROBLEM,
        [
            _LI_2017, _PPO,
            "Polyak (1969), Minimization of unsmooth functionals, USSR Computational Mathematics "
            "and Mathematical Physics 9",
        ],
        {_NET: ("minibatch",), _L2L: ("minibatch (trained on digits)", "minibatch")},
    ),
    "digits-net": Facts(
        r"""
$$\Delta x = -e^{\alpha}\, \frac{g}{\sqrt{v}} + \beta\, p,
  \qquad v = \text{the mean of past } g^2$$

with the gradient $g$, the last step $p$, RMSprop's running mean $v$ coordinate by coordinate, and
two gains $(\alpha, \beta) = \pi_\theta(\phi)$, which the policy reads off features $\phi$ of the
history. One pair of gains serves all coordinates.
""",
        [_LI_2017, _PPO],
        {_NET: ("digits-net",), _L2L: ("digits-net (trained on digits)",)},
    ),
}  # fmt: skip

# -- rules that were designed ------------------------------------------------------------------

_RULES = {
    "sgd": Facts(
        r"""
$$\Delta x_t = -\eta\, g_t$$

with the gradient $g_t$ at $x_t$ and the learning rate $\eta$ (`lr`).
""",
        ["Robbins & Monro (1951), A stochastic approximation method, Annals of Mathematical "
         "Statistics 22"],
        {_NET: ("SGD",), _L2L: ("RMSprop / SGD",)},
    ),
    "momentum": Facts(
        r"""
$$\Delta x_t = -\eta\, g_t + \mu\, \Delta x_{t-1}$$

with the gradient $g_t$, the learning rate $\eta$ (`lr`) and the momentum $\mu$ (`momentum`).
""",
        ["Polyak (1964), Some methods of speeding up the convergence of iteration methods, USSR "
         "Computational Mathematics and Mathematical Physics 4"],
        {_QUADRATICS: ("momentum, tuned",), _NET: ("momentum",), "Transfer": ("momentum",),
         _L2L: (_HAND,)},
    ),
    "nag": Facts(
        r"""
$$v_t = \mu\, v_{t-1} + g_t, \qquad \Delta x_t = -\eta\, (g_t + \mu\, v_t)$$

with the gradient $g_t$ at the look-ahead point, the velocity $v$, the learning rate $\eta$ (`lr`)
and the momentum $\mu$ (`momentum`).
""",
        ["Nesterov (1983), A method of solving a convex programming problem with convergence rate "
         "O(1/k²), Soviet Mathematics Doklady 27",
         "Sutskever, Martens, Dahl & Hinton (2013), On the importance of initialization and "
         "momentum in deep learning, ICML"],
        {_L2L: ("NAG",)},
    ),
    "rmsprop": Facts(
        r"""
$$v_t = \rho\, v_{t-1} + (1 - \rho)\, g_t^2, \qquad
  \Delta x_t = -\eta\, \frac{g_t}{\sqrt{v_t} + \epsilon}$$

coordinate by coordinate, with the gradient $g_t$, its running mean square $v$, the learning rate
$\eta$ (`lr`), and $\rho$ (`decay`) and $\epsilon$ (`eps`).
""",
        ["Tieleman & Hinton (2012), Lecture 6.5: rmsprop, divide the gradient by a running average "
         "of its recent magnitude, Coursera"],
        {_NET: ("RMSprop",), _L2L: ("RMSprop", "RMSprop / SGD")},
    ),
    "adam": Facts(
        r"""
$$m_t = \beta_1 m_{t-1} + (1 - \beta_1)\, g_t, \qquad
  v_t = \beta_2 v_{t-1} + (1 - \beta_2)\, g_t^2$$

$$\Delta x_t = -\eta\, \frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon}$$

coordinate by coordinate, with the gradient $g_t$, running means $m$ of it and $v$ of its square,
which start at 0 (hence the divisions), the learning rate $\eta$ (`lr`), and $\beta_1$, $\beta_2$
and $\epsilon$ (`eps`).
""",
        ["Kingma & Ba (2015), Adam: a method for stochastic optimization, ICLR"],
        {_QUADRATICS: ("Adam, tuned",), _NET: ("Adam",), "Transfer": ("Adam",),
         _L2L: ("Adam", _HAND)},
    ),
    "barzilai_borwein": Facts(
        r"""
$$\Delta x_t = -s_t\, g_t, \qquad
  s_t = \frac{p^\top p}{p^\top y} \quad\text{or}\quad s_t = \frac{p^\top y}{y^\top y}$$

with the gradient $g_t$, the last step $p = x_t - x_{t-1}$ and what it changed,
$y = g_t - g_{t-1}$: the first is `variant=1`, the second `variant=2`. Where $s_t$ is not positive,
`lr` takes its place.
""",
        ["Barzilai & Borwein (1988), Two-point step size gradient methods, IMA Journal of "
         "Numerical Analysis 8"],
        {_QUADRATICS: ("Barzilai-Borwein, tuned",), "Transfer": ("Barzilai-Borwein",),
         _L2L: (_HAND,)},
    ),
    "lbfgs": Facts(
        r"""
$$\Delta x_t = -\eta\, H g_t, \qquad
  H \leftarrow \left(I - \frac{s y^\top}{y^\top s}\right) H
  \left(I - \frac{y s^\top}{y^\top s}\right) + \frac{s s^\top}{y^\top s}$$

for the last `memory` pairs of a step $s$ and the change $y$ of the gradient over it, the oldest
first, from $H = \gamma I$ on, where $\gamma = s^\top y / y^\top y$ of the newest pair; $\eta$ is
`lr`.
""",
        ["Nocedal (1980), Updating quasi-Newton matrices with limited storage, Mathematics of "
         "Computation 35"],
        {_QUADRATICS: ("L-BFGS, tuned",), "Transfer": ("L-BFGS",)},
    ),
}  # fmt: skip

_BLACK_BOX = {
    "random_search": Facts(
        r"""
$$x_t \sim \mathcal{U}([-1, 1]^d)$$

with $d$ coordinates of a query $x_t$, whatever the values were.
""",
        ["Bergstra & Bengio (2012), Random search for hyper-parameter optimization, JMLR 13"],
        measure=_ASKED,
    ),
    "one_plus_one_es": Facts(
        r"""
$$x' = x + \sigma z, \qquad z \sim \mathcal{N}(0, I), \qquad
  \log\sigma \leftarrow \log\sigma + \frac{\mathbf{1}[f(x') \le f(x)] - 1/5}{\sqrt{d + 1}}$$

with the best point $x$, which $x'$ replaces if it is no worse, the step size $\sigma$ and $d$
dimensions.
""",
        ["Rechenberg (1973), Evolutionsstrategie, Frommann-Holzboog",
         "Kern et al. (2004), Learning probability distributions in continuous evolutionary "
         "algorithms: a comparative review, Natural Computing 3"],
        measure=_ASKED,
    ),
    "cma_es": Facts(
        r"""
$$x_k = m + \sigma y_k, \quad y_k \sim \mathcal{N}(0, C), \qquad
  m \leftarrow m + \sigma \sum_{i=1}^{\mu} w_i\, y_{i:\lambda}$$

$$C \leftarrow (1 - c_1 - c_\mu)\, C + c_1\, p p^\top
  + c_\mu \sum_{i=1}^{\mu} w_i\, y_{i:\lambda}\, y_{i:\lambda}^\top$$

with a generation of $\lambda$ (`population`) queries $x_k$, of which $i{:}\lambda$ is the $i$-th
best, their weights $w_i$, mean $m$, step size $\sigma$ and covariance $C$; the path $p$ sums the
last moves of the mean, and $c_1$ and $c_\mu$ are the library's rates.
""",
        ["Hansen & Ostermeier (2001), Completely derandomized self-adaptation in evolution "
         "strategies, Evolutionary Computation 9",
         "Hansen (2016), The CMA evolution strategy: a tutorial, arXiv:1604.00772"],
        measure=_ASKED,
    ),
}  # fmt: skip

# -- bandits, MDPs, walks ------------------------------------------------------------------------

_MEAN = r"""
where arm $i$ paid $w_i$ times in $n_i$ pulls, so that the mean of its posterior is
$m_i = (\alpha + w_i) / (\alpha + \beta + n_i)$ under the prior $\mathrm{Beta}(\alpha, \beta)$ of
the arms (for Gaussian arms, that of the normal posterior).
"""
_DRAW = r"""
where arm $i$ paid $w_i$ times in $n_i$ pulls, and the prior of the arms is
$\mathrm{Beta}(\alpha, \beta)$ (for Gaussian arms draws are from the normal posterior).
"""

_ON_BANDITS = {
    "greedy": Facts(
        r"""
$$a_t = \arg\max_i\, m_i$$
""" + _MEAN,
        [_DUAN], {_BANDITS: ("greedy",)},
    ),
    "epsilon_greedy": Facts(
        r"""
$$a_t = \begin{cases} \arg\max_i\, m_i & \text{with probability } 1 - \epsilon \\
  \text{any arm} & \text{with probability } \epsilon \end{cases}$$
""" + _MEAN,
        ["Sutton & Barto (2018), Reinforcement learning: an introduction, section 2.2", _DUAN],
        {_BANDITS: ("ε-greedy",)},
    ),
    "ucb1": Facts(
        r"""
$$a_t = \arg\max_i \left( m_i + c\, \sqrt{\frac{2 \log t}{n_i + \alpha + \beta}} \right)$$
""" + _MEAN + "\n$t$ is the number of the pull that is about to be made and $c$ the width (`c`).\n",
        ["Auer, Cesa-Bianchi & Fischer (2002), Finite-time analysis of the multiarmed bandit "
         "problem, Machine Learning 47", _DUAN],
        {_BANDITS: ("UCB1",)},
    ),
    "thompson": Facts(
        r"""
$$a_t = \arg\max_i\, \theta_i, \qquad
  \theta_i \sim \mathrm{Beta}(\alpha + w_i,\; \beta + n_i - w_i)$$
""" + _DRAW,
        ["Thompson (1933), On the likelihood that one unknown probability exceeds another in view "
         "of the evidence of two samples, Biometrika 25", _DUAN],
        {_BANDITS: ("Thompson",)},
    ),
    "optimistic_thompson": Facts(
        r"""
$$a_t = \arg\max_i\, \max_{j \le N} \theta_i^j, \qquad
  \theta_i^j \sim \mathrm{Beta}(\alpha + w_i,\; \beta + n_i - w_i)$$
""" + _DRAW + r"""
$N$ is `samples`; this is `best="draw"`. With `best="mean"` it is the arm of the largest posterior
mean among the $\arg\max_i \theta_i^j$ of all $j$.
""",
        [_DUAN], {_BANDITS: ("optimistic Thompson",)},
    ),
    "gittins": Facts(
        r"""
$$a_t = \arg\max_i\, G(w_i, n_i), \qquad
  G = \sup_{1 \le \tau \le T} \frac{\mathbb{E}\left[\sum_{u=1}^{\tau} \gamma^u r_u\right]}
  {\mathbb{E}\left[\sum_{u=1}^{\tau} \gamma^u\right]}$$

with $w_i$ payments in $n_i$ pulls of arm $i$, $T$ pulls left in the trial, stopping times $\tau$,
rewards $r_u$ of that arm alone, and the discount $\gamma$.
""",
        ["Gittins (1979), Bandit processes and dynamic allocation indices, Journal of the Royal "
         "Statistical Society B 41",
         "Kaufmann (2018), On Bayesian index policies for sequential resource allocation, Annals "
         "of Statistics 46"],
        {_BANDITS: ("Gittins",)},
    ),
    "bayes_optimal": Facts(
        r"""
$$V_T(h) = \max_i \left[ m_i \left(1 + V_{T-1}(h_i^+)\right)
  + (1 - m_i)\, V_{T-1}(h_i^-) \right], \qquad V_0 = 0$$

with $T$ pulls left, what is known $h$ (wins and losses of each arm), which a win of arm $i$ turns
into $h_i^+$ and a loss into $h_i^-$, and the mean $m_i$ of its posterior.
""",
        ["Bellman (1956), A problem in the sequential design of experiments, Sankhyā 16"],
        {_BANDITS: ("ceiling, exact or ≤",)},
    ),
    "best_arm": Facts(
        r"""
$$a_t = \arg\max_i\, p_i$$

with the arms' true means $p_i$, which no learner sees.
""",
        [f"Of the task: {_DUAN}"],
        measure="`metagym evaluate best_arm MetaBandit-v0 --episodes 10000`",
    ),
}  # fmt: skip

_PLAN = r"""
$$\pi_t(s) = \arg\max_a Q_t(s, a), \qquad
  Q_t(s, a) = r(s, a) + \sum_{s'} P(s' \mid s, a)\, \max_{a'} Q_{t+1}(s', a')$$

with $Q_T = 0$ after the $T$ steps of an inner episode,
"""

_ON_MDPS = {
    "value_iteration": Facts(
        _PLAN + "and the true mean rewards $r$ and transitions $P$, which no learner sees.\n",
        [_BELLMAN], {_MDPS: ("value iteration, the MDP known (ceiling, exact)",)},
    ),
    "mdp_greedy": Facts(
        _PLAN + "and the means $r$ and $P$ of the posterior: Dirichlet for rows of transitions,"
        " normal for rewards.\n",
        [_DUAN], {_MDPS: ("ε-greedy / greedy",)},
    ),
    "mdp_epsilon_greedy": Facts(
        _PLAN + "and the means $r$ and $P$ of the posterior; with probability $\\epsilon$ an action"
        " is uniform instead.\n",
        ["Sutton & Barto (2018), Reinforcement learning: an introduction, section 2.2", _DUAN],
        {_MDPS: ("ε-greedy / greedy",)},
    ),
    "psrl": Facts(
        _PLAN + "and for each inner episode one draw of $(r, P)$ from the posterior: Dirichlet for"
        " rows of transitions, normal for rewards.\n",
        ["Strens (2000), A Bayesian framework for reinforcement learning, ICML",
         "Osband, Russo & Van Roy (2013), (More) efficient reinforcement learning via posterior "
         "sampling, NeurIPS"],
        {_MDPS: ("OPSRL / PSRL",)},
    ),
    "opsrl": Facts(
        r"""
$$\pi_t(s) = \arg\max_a\, \max_{k \le K} Q_t^k(s, a)$$

with the optimal values $Q^k$ of $K$ (`samples`) processes drawn from the posterior.
""",
        ["Osband & Van Roy (2017), Why is posterior sampling better than optimism for "
         "reinforcement learning?, ICML"],
        {_MDPS: ("OPSRL / PSRL",)},
    ),
    "beb": Facts(
        _PLAN + r"""the mean transitions $P$ of the posterior, and rewards with a bonus for what is
little known:

$$r(s, a) = m(s, a) + \frac{1}{1 + n_r(s, a)} + (T - 1 - t)\, \frac{\beta}{1 + n_P(s, a)}$$

where $m$ is the posterior's mean reward, $n_r$ its precision, $n_P$ the weight of the transitions,
and $\beta$ is `beta`.
""",
        ["Kolter & Ng (2009), Near-Bayesian exploration in polynomial time, ICML"],
        {_MDPS: ("BEB",)},
    ),
    "ucrl2": Facts(
        r"""
$$\max_{r,\, P}\; Q_0(s, a) \quad\text{such that}\quad
  |r - m| \le c\, \sqrt{\frac{7 \log(2 S A t / \delta)}{2 n}}, \qquad
  \lVert P - \hat P \rVert_1 \le c\, \sqrt{\frac{14 S \log(2 A t / \delta)}{n}}$$

with $S$ states, $A$ actions, $n$ visits of $(s, a)$ in $t$ steps, empirical means $m$ and
$\hat P$, $c$ (`scale`) and $\delta$ (`delta`); the values $Q$ of the best such process are found by
backward induction.
""",
        ["Jaksch, Ortner & Auer (2010), Near-optimal regret bounds for reinforcement learning, "
         "JMLR 11"],
        {_MDPS: ("UCRL2",)},
    ),
}  # fmt: skip

_WALKING = {
    "shortest_path": Facts(
        r"""
$$D(q) = 1 + \min_a D(q \cdot a), \qquad D(\text{target}) = 0, \qquad
  a_t = \arg\min_a D(q_t \cdot a)$$

with the pose $q$ (room and heading), the pose $q \cdot a$ after action $a$, and the number $D$ of
actions to the target, by breadth-first search in the true maze.
""",
        ["Moore (1959), The shortest path through a maze, International Symposium on the Theory of "
         "Switching"],
        {_MAZES: ("shortest path, the maze known (ceiling)",)},
    ),
    "wall_follower": Facts(
        r"""
$$a_t = \begin{cases} \text{right} & \text{if the way to the right is open} \\
  \text{forward} & \text{else, if the way ahead is open} \\
  \text{left} & \text{else} \end{cases}$$

with the action $a_t$, until the target is seen; from then on it takes the shortest way on the map
that it drew. (After a right turn it goes forward first.)
""",
        [f"Of the task: {_DUAN}"],
        {_MAZES: ("wall follower, then the shortest path",)},
    ),
    "nearest_frontier": Facts(
        r"""
$$a_t = \arg\min_a\, \min_{u \in U} D(q_t \cdot a, u)$$

with the pose $q$, the pose $q \cdot a$ after action $a$, the rooms $U$ that it has not seen, and
the number $D$ of actions to one of them if all that is unseen were open.
""",
        ["Yamauchi (1997), A frontier-based approach for autonomous exploration, CIRA"],
        {_MAZES: ("nearest frontier, then the shortest path",)},
    ),
    "straight_to_goal": Facts(
        r"""
$$a_t = \operatorname{clip}\left(\frac{g - p_t}{v},\, -1,\, 1\right)$$

with the goal $g$, which no learner sees, the position $p_t$ and the greatest velocity $v$, each
coordinate for itself.
""",
        [_FINN_TASK], measure=_WALKERS,
    ),
    "trilateration": Facts(
        r"""
$$r_i + \lVert p_i \rVert^2 = 2\, p_i^\top g - \lVert g \rVert^2, \qquad i = 1, 2, 3$$

with the rewards $r_i = -\lVert p_i - g \rVert^2$ at three positions $p_i$: linear equations for the
goal $g$ and $\lVert g \rVert^2$. Then it walks straight to $g$.
""",
        [_FINN_TASK], measure=_WALKERS,
    ),
    "random": Facts(
        r"""
$$a_t \sim \mathcal{U}(A_t)$$

with the actions $A_t$ that the environment allows.
""",
        [f"Of the tables that it is the floor of: {_DUAN}"],
        {_MDPS: ("random",), _MAZES: ("random",)},
    ),
}  # fmt: skip

# -- architecture search -------------------------------------------------------------------------

_EVERYWHERE = (_NAS, _DIGITS201, _SEARCHER)

_SEARCH = {
    "RandomSearch": Facts(
        r"""
$$a_t \sim \mathcal{U}(A_t)$$

with the token $a_t$ at place $t$ and the tokens $A_t$ that the space allows there, whatever the
scores were.
""",
        ["Li & Talwalkar (2019), Random search and reproducibility for neural architecture search, "
         "UAI"],
        {**dict.fromkeys(_EVERYWHERE, ("random search",)), _CHAINS: ("random search",),
         _CONTROLLER: ("random search",), _CELLS: ("found by random search",)},
    ),
    "RegularizedEvolution": Facts(
        r"""
$$\text{child} = \operatorname{mutate}\left(\arg\max_{a \in S} R(a)\right), \qquad
  S \subset P, \qquad P \leftarrow P \cup \{\text{child}\} \setminus \{\text{oldest}\}$$

with the population $P$ (of `population`), a random draw $S$ of `sample` of its members and the
validation score $R$.
""",
        ["Real, Aggarwal, Huang & Le (2019), Regularized evolution for image classifier "
         "architecture search, AAAI", _NASBENCH],
        {**dict.fromkeys(_EVERYWHERE, ("REA",)), _CELLS: ("found by regularised evolution",)},
    ),
    "LocalSearch": Facts(
        r"""
$$a \leftarrow a' \quad\text{for the first } a' \in N(a) \text{ with } R(a') > R(a)$$

with the neighbours $N(a)$ of an architecture in random order and the validation score $R$; where no
neighbour is better, $a$ is drawn anew.
""",
        ["White, Nolen & Savani (2021), Exploring the loss landscape in neural architecture "
         "search, UAI"],
        dict.fromkeys(_EVERYWHERE, ("local search",)),
    ),
    "ReinforceLogits": Facts(
        r"""
$$\theta \leftarrow \theta + \operatorname{Adam}\left((R(a) - b)\, \nabla_\theta
  \sum_{t} \log \operatorname{softmax}(\theta_t)_{a_t}\right), \qquad
  b \leftarrow \rho\, b + (1 - \rho)\, R(a)$$

with one logit in $\theta_t$ for each token at place $t$, the architecture $a$ drawn from them, its
validation score $R$, and the baseline $b$ with $\rho$ (`decay`). With `advantage="rank"` the rank
of $R(a)$ among the last rewards takes the place of $R(a) - b$.
""",
        [_WILLIAMS, _NASBENCH],
        {**dict.fromkeys((_NAS, _DIGITS201), ("REINFORCE", "REINFORCE, ranks (ours)")),
         _CELLS: ("found by REINFORCE, ranks",)},
    ),
    "RandomizedValues": Facts(
        r"""
$$a = \arg\max_{a'} w^\top \phi(a'), \qquad
  w \sim \mathcal{N}(m, S), \qquad
  S^{-1} = I + \tfrac{1}{v} X^\top X, \qquad m = \tfrac{1}{v} S X^\top z$$

with features $\phi(a)$ that say which token stands where and which two stand together, scaled so
that the weights $w$ have the prior $\mathcal{N}(0, I)$; $X$ are the features of what was tried, $z$
the normal scores of the ranks of their rewards and $v$ (`noise`) the variance around the linear
function. With `sampled=False`, $w = m$.
""",
        ["Osband, Van Roy & Wen (2016), Generalization and exploration via randomized value "
         "functions, ICML"],
        {**dict.fromkeys(
            (_NAS, _DIGITS201), ("randomised values (ours)", "- without pairs",
                                 "- without sampling")),
         _SEARCHER: ("randomised values",), _CELLS: ("found by randomised values",)},
    ),
}  # fmt: skip
_AS_AGENTS = {
    "regularized_evolution": _SEARCH["RegularizedEvolution"],
    "local_search": _SEARCH["LocalSearch"],
    "reinforce_logits": _SEARCH["ReinforceLogits"],
    "randomized_values": _SEARCH["RandomizedValues"],
}

AGENT_FACTS: dict[str, Facts] = {
    **_LEARNING, **_SHIPPED, **_RULES, **_BLACK_BOX, **_ON_BANDITS, **_ON_MDPS, **_WALKING,
    **_SEARCH, **_AS_AGENTS,
}  # fmt: skip
