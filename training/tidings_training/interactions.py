"""How much each user likes each item, as one sparse matrix: what embeddings and neighbours are learned from."""

import numpy as np
import scipy.sparse

from tidings_core.features import DAY
from tidings_core.fold_in import HALF_LIFE_DAYS
from tidings_training.events import Events
from tidings_training.log import Log


def interactions(
    events: Events | Log, as_of: float, half_life_days: float = HALF_LIFE_DAYS
) -> "scipy.sparse.csr_matrix":
    """Liking f32[U, I] (CSR): log(1 + the sum of a pair's event weights, halved with age as of `as_of` Unix seconds).

    The logarithm keeps the hundredth purchase of a staple from outweighing everything else.
    """
    age_days = np.maximum(as_of - events.times, 0.0) / DAY
    weights = events.weights * np.exp2(-age_days / half_life_days)
    shape = (len(events.user_ids), len(events.item_ids))
    matrix = scipy.sparse.csr_matrix((weights, (events.users, events.items)), shape=shape, dtype=np.float32)
    matrix.data = np.log1p(matrix.data)
    matrix.eliminate_zeros()
    return matrix
