"""Slow, readable versions of what the library computes, in exact arithmetic where it matters."""

import math
from collections import Counter
from fractions import Fraction


def dyadic_bins(*samples, bins):
    """Bin numbers of every sample on the finest dyadic grid with at most `bins` bins.

    Tries one level after the other, from far too fine to just right, with fractions.
    """
    exact = [[Fraction(value) for value in sample] for sample in samples]
    everything = [value for sample in exact for value in sample]
    low, high = min(everything), max(everything)
    exponent = -1022
    largest = max(abs(low), abs(high))
    if largest:
        while largest / Fraction(2) ** exponent >= 2**52:
            exponent += 1
    while True:
        width = Fraction(2) ** exponent
        first, last = math.floor(low / width), math.floor(high / width)
        if last - first < bins:
            break
        exponent += 1
    numbers = [[math.floor(value / width) for value in sample] for sample in exact]
    return numbers, range(first, last + 1)


def dyadic_counts(*samples, bins):
    numbers, support = dyadic_bins(*samples, bins=bins)
    return [[Counter(sample)[i] for i in support] for sample in numbers]


def probabilities(counts, pseudocount=0.0):
    total = sum(counts) + pseudocount * len(counts)
    return [(n + pseudocount) / total for n in counts]


def entropy(p):
    return -sum(x * math.log(x) for x in p if x > 0)


def kl_divergence(p, q):
    return sum(
        (x * math.log(x / y) if y > 0 else math.inf) for x, y in zip(p, q, strict=True) if x > 0
    )
