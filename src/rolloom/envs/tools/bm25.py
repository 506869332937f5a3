"""A full-text index: Okapi BM25 (Robertson and Zaragoza 2009, with the idf of Lucene), for short texts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

K1, B = 1.5, 0.75
MAX_QUERY_TERMS = 32


def terms(text: str) -> list[str]:
    """Return the runs of letters and digits of a text, in lower case."""
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()


class Index:
    """An index over texts, which are known by their positions."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = [Counter(terms(text)) for text in texts]
        lengths = [count.total() for count in counts]
        mean = sum(lengths) / max(1, len(lengths)) or 1.0
        self._weights: dict[str, list[tuple[int, float]]] = {}
        for place, (count, length) in enumerate(zip(counts, lengths, strict=True)):
            norm = K1 * (1 - B + B * length / mean)
            for term, times in count.items():
                self._weights.setdefault(term, []).append((place, times * (K1 + 1) / (times + norm)))
        for found in self._weights.values():
            idf = math.log(1 + (len(texts) - len(found) + 0.5) / (len(found) + 0.5))
            found[:] = [(place, weight * idf) for place, weight in found]

    def search(self, query: str, k: int) -> list[int]:
        """Return the positions of the k best texts that share a term with the query, best first.

        Equal scores stand in the order of the texts.
        """
        scores: dict[int, float] = {}
        for term in terms(query)[:MAX_QUERY_TERMS]:
            for place, weight in self._weights.get(term, ()):
                scores[place] = scores.get(place, 0.0) + weight
        return sorted(scores, key=lambda place: (-scores[place], place))[:k]
