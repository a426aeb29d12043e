"""metagym: a Gymnasium suite in which an episode is an act of learning.

Importing it registers every environment id and nothing more: neither torch, nor scikit-learn,
nor Stable-Baselines3 is loaded until something needs them.
"""

# The repository keeps envs/ and agents/ at its top; they install below this package. These
# lines let Python find them wherever it was started, also when this folder shadows the
# installed package; in a checkout they are the checkout's own.
from pathlib import Path
from pkgutil import extend_path

_CHECKOUT = Path(__file__).resolve().parent.parent
if (_CHECKOUT / "envs" / "learn_to_optimize.py").is_file():
    __path__.append(str(_CHECKOUT))
__path__ = extend_path(__path__, __name__)

from metagym.registration import register_environments  # noqa: E402

__version__ = "0.1.0"

register_environments()
