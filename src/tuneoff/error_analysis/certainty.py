"""How sure a finding is: intervals of a rate, exact tests, and many findings looked at at once.

With thousands of words and dozens of slices some look guilty by luck. All that is looked at in one
view, over all methods, is corrected together by Benjamini and Hochberg's procedure, so that of the
findings called sure at most a twentieth are expected to be luck, and that in a view without any
real finding one is called sure in at most a twentieth of studies.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tuneoff.error_analysis.evidence import Bools, Floats, Ints

SURE = 0.05
"""False discovery rate below which a finding is called sure."""
Z = 1.959963984540054
"""Of a 95 % interval."""


def design_effects(inside: Any, wrong: Any, groups: Ints | None) -> Floats:
    """How many times larger the variance of an error rate is because rows come in groups.

    Counts divided by their design effect can be judged like counts of independent rows: Rao and
    Scott 1992, A simple method for the analysis of clustered binary data, Biometrics 48. The effect
    is at least 1. A subset of one group has 1: it is about that group. Where a subset has no error,
    or nothing else, the effect is that over all rows.

    Args:
        inside: (rows, subsets) ones where a row belongs to a subset; may be sparse.
        wrong: (rows, methods) whether a method's answer is wrong.
        groups: (rows,) the same number for rows that belong together; None: rows are independent.

    Returns:
        (subsets, methods)
    """
    from scipy.sparse import coo_array, csr_array, hstack

    wrong = np.asarray(wrong, np.float64)
    n, methods = wrong.shape
    if groups is None:
        return np.ones((inside.shape[1], methods))
    every = csr_array(np.ones((n, 1)))
    subsets = csr_array(hstack([csr_array(inside, dtype=np.float64), every]))
    ones = (np.ones(n), (groups, np.arange(n)))
    to_groups = csr_array(coo_array(ones, shape=(int(groups.max()) + 1, n)))
    counts = to_groups @ subsets
    rows, squares = np.asarray(subsets.sum(0)).ravel(), np.asarray((counts * counts).sum(0)).ravel()
    clusters = np.asarray((counts > 0).sum(0)).ravel()
    found = np.ones((len(rows), methods))
    for j in range(methods):
        hits = to_groups @ (subsets * wrong[:, [j]])
        rate = np.asarray(hits.sum(0)).ravel() / np.maximum(rows, 1)
        crossed, own = (np.asarray((hits * x).sum(0)).ravel() for x in (counts, hits))
        between = own - 2 * rate * crossed + rate**2 * squares
        independent = rows * rate * (1 - rate)
        factor = clusters / np.maximum(clusters - 1, 1)
        known = independent > 0
        effect = np.full(len(rows), np.nan)
        effect[known] = (factor * between)[known] / independent[known]
        effect = np.where(known, effect, effect[-1] if known[-1] else 1.0)
        found[:, j] = np.where(clusters > 1, np.maximum(effect, 1.0), 1.0)
    return found[:-1]


def wilson(hits: Any, rows: Any) -> tuple[Floats, Floats]:
    """The 95 % interval of the share `hits / rows`, elementwise; 0 to 1 without any row.

    Wilson 1927, Probable Inference, the Law of Succession, and Statistical Inference.
    """
    hits, rows = np.asarray(hits, np.float64), np.asarray(rows, np.float64)
    n = np.maximum(rows, 1)
    share = hits / n
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    low = np.where(rows > 0, np.maximum(middle - half, 0), 0.0)
    high = np.where(rows > 0, np.minimum(middle + half, 1), 1.0)
    # the ends are exact where rounding leaves 1e-17
    return np.where(hits == 0, 0.0, low), np.where(hits == rows, 1.0, high)


def more_than_chance(hits: Any, drawn: Any, marked: Any, total: Any) -> Floats:
    """P-values: so many `hits` or more among `drawn` rows, if `marked` of `total` lay at random.

    The upper tail of the hypergeometric distribution, Fisher's exact test with one side; 1 where
    there are no more hits than expected. SciPy's own takes 0.2 ms an element, too long for
    20,000 words of 8 methods; this one adds up the tail of all elements at once.
    """
    from scipy.special import gammaln

    counts = (np.asarray(x, np.float64) for x in (hits, drawn, marked, total))
    hits, drawn, marked, total = np.broadcast_arrays(*counts)
    p = np.ones(hits.shape)
    look = hits * total > drawn * marked
    if not look.any():
        return p
    k, n, marked, total = hits[look], drawn[look], marked[look], total[look]

    def choose(of: Any, some: Any) -> Any:
        return gammaln(of + 1) - gammaln(some + 1) - gammaln(of - some + 1)

    log_first = choose(marked, k) + choose(total - marked, n - k) - choose(total, n)
    term, tail = np.ones(len(k)), np.ones(len(k))
    at = k.copy()
    # beyond the mean each term is smaller than the one before
    while (term > 1e-13 * tail).any():
        term = term * (n - at) * (marked - at) / ((at + 1) * (total - marked - n + at + 1))
        term = np.maximum(term, 0)
        tail += term
        at += 1
    p[look] = np.minimum(np.exp(log_first + np.log(tail)), 1.0)
    return p


def differs_from_rest(hits: Any, drawn: Any, marked: Any, total: Any) -> Floats:
    """P-values with two sides: `hits` of `drawn` rows against the rest; twice the smaller tail."""
    more = more_than_chance(hits, drawn, marked, total)
    others = np.asarray(total) - np.asarray(marked)
    fewer = more_than_chance(np.asarray(drawn) - np.asarray(hits), drawn, others, total)
    both: Floats = np.minimum(2 * np.minimum(more, fewer), 1.0)
    return both


def adjusted(p: Floats) -> Floats:
    """P-values of any shape as false discovery rates, all corrected together.

    Benjamini and Hochberg 1995, Controlling the False Discovery Rate.
    """
    from scipy.stats import false_discovery_control

    if not p.size:
        return p
    return np.asarray(false_discovery_control(p.ravel(), method="bh")).reshape(p.shape)


def sure(q: Floats) -> Bools:
    """Whether a false discovery rate is low enough to call the finding sure."""
    return np.asarray(q <= SURE)
