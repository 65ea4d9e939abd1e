"""`PieceTokenizer`: texts as tokens, every piece between two spaces tokenized once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, product
from typing import Any

LIMIT = 2**18  # pieces kept; when there are more, all are forgotten
BEGIN = 256  # characters; a text of twice as many has a beginning, cut at a multiple of it
BEGINNINGS = 2**24  # characters of beginnings kept; when there are more, all are forgotten

_EDGES = "aZ7.'\"(-_<\u00e9\u4e2d\u0627\U0001f600"  # letters, digits, signs, other scripts

Pieces = dict[str, list[int] | None]


class PieceTokenizer:
    """Tokenizes many texts that are made of the same words.

    Prompts x examples are few words in many texts, and the tokenizer costs a small model as much
    as a layer. A tokenizer that always cuts before a space (all that split by words do) gives a
    text the tokens of its pieces, one after the other. Whether it does is tried at the start on
    every pair of sorts of characters. Every new piece is tried between two letters: one that makes
    other tokens there (a zero-width space at its end, which some tokenizers read as a space) is
    always tokenized in its text, as are those beside further white space. And the first text that
    holds a piece is tokenized as a whole, too: where the two differ, all are from then on. Of a
    long text whose beginning is known (an input, with another prompt behind it) only the rest is
    cut up.

    Attributes:
        exact: whether pieces are used.
    """

    def __init__(self, backend: Any) -> None:
        """Take the tokenizer (of the library `tokenizers`) and try it."""
        self.backend = backend
        self._first: Pieces = {}  # pieces that begin a text
        self._later: Pieces = {}  # pieces behind a space, which is theirs
        self._begun: dict[str, list[int]] = {}  # beginnings of long texts
        self._begun_size = 0
        self._before: list[int] = []
        self._behind: list[int] = []
        self._letter: list[int] = []  # "a"
        self._spaced: list[int] = []  # " a"
        self.exact = self._probe()

    def encode(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        """Tokenize texts, nothing truncated or padded."""
        if not self.exact:
            return self._whole(texts, special)
        known = self._begun
        cuts = [_cut(text) for text in texts]
        begun = [known.get(text[:cut]) for text, cut in zip(texts, cuts, strict=True)]
        split = [
            text.split(" ") if ids is None else ["", *text[cut + 1 :].split(" ")]
            for text, cut, ids in zip(texts, cuts, begun, strict=True)
        ]
        first, later = self._pieces()
        new = self._learn(texts, split, first, later)
        before, behind = (self._before, self._behind) if special else ([], [])
        out: list[list[int]] = []
        odd = []
        for number, (head, *rest) in enumerate(split):
            found = [first[head], *map(later.__getitem__, rest)]
            if None in found:
                odd.append(number)
                out.append([])
                continue
            ids = begun[number]
            own = list(chain.from_iterable(found))  # type: ignore[arg-type]
            out.append([*before, *(ids or ()), *own, *behind])
            if ids is None and cuts[number]:
                self._begin(texts[number][: cuts[number]], found)  # type: ignore[arg-type]
        if odd:
            whole = self._whole([texts[i] for i in odd], special)
            for number, ids in zip(odd, whole, strict=True):
                out[number] = ids
        if new and self._whole([texts[i] for i in new], special) != [out[i] for i in new]:
            self.exact = False
            return self._whole(texts, special)
        return out

    def _begin(self, text: str, pieces: list[list[int]]) -> None:
        """Remember a beginning of the text that is made of these pieces."""
        if self._begun_size > BEGINNINGS:
            self._begun, self._begun_size = {}, 0
        self._begun[text] = list(chain.from_iterable(pieces[: text.count(" ") + 1]))
        self._begun_size += len(text)

    def _pieces(self) -> tuple[Pieces, Pieces]:
        """Return the pieces known; other threads may still hold those that are forgotten."""
        if len(self._first) + len(self._later) > LIMIT:
            self._first, self._later = {}, {}
        return self._first, self._later

    def _learn(
        self, texts: Sequence[str], split: list[list[str]], first: Pieces, later: Pieces
    ) -> list[int]:
        """Tokenize the pieces not known yet; return texts that together hold all of them."""
        begin: dict[str, None] = {}
        follow: dict[str, None] = {}
        new = []
        for number, (head, *rest) in enumerate(split):
            strange = [piece for piece in rest if piece not in later and piece not in follow]
            follow.update(dict.fromkeys(strange))
            if head not in first and head not in begin:
                begin[head] = None
                strange.append(head)
            if strange:
                new.append(number)
        if new:
            names = [*begin, *(f" {piece}" for piece in follow)]
            found = self._whole(names, False)
            beside = [*(f"{piece} a" for piece in begin), *(f"a {piece} a" for piece in follow)]
            tried = self._whole(beside, False)
            for piece, ids, among in zip(begin, found, tried, strict=False):
                alike = among == ids + self._spaced and not piece[-1:].isspace()
                first[piece] = ids if alike else None
            count = len(begin)
            for piece, ids, among in zip(follow, found[count:], tried[count:], strict=True):
                alike = among == self._letter + ids + self._spaced
                later[piece] = ids if alike and piece.strip() == piece != "" else None
        return new

    def _whole(self, texts: Sequence[str], special: bool) -> list[list[int]]:
        """Tokenize every text in one go."""
        found = self.backend.encode_batch_fast(list(texts), add_special_tokens=special)
        return [encoding.ids for encoding in found]

    def _probe(self) -> bool:
        """Whether the tokenizer cuts before every single space, and what it adds around a text."""
        cut, normalizer = self.backend.pre_tokenizer, self.backend.normalizer
        added = self.backend.get_added_tokens_decoder().values()
        if cut is None or any(t.rstrip or t.content.split() != [t.content] for t in added):
            return False
        (bare,), (dressed,) = self._whole(["a"], False), self._whole(["a"], True)
        starts = [n for n in range(len(dressed)) if dressed[n : n + len(bare)] == bare]
        if not bare or len(starts) != 1:
            return False
        self._letter, (self._spaced,) = bare, self._whole([" a"], False)
        self._before, self._behind = dressed[: starts[0]], dressed[starts[0] + len(bare) :]
        for left, right in product(_EDGES, repeat=2):
            pieces = [f"a{left}", f" {right}b", f" {left}", f" {right}"]
            plain = ["".join(pieces), *pieces]
            if normalizer is not None:
                plain = [normalizer.normalize_str(text) for text in plain]
            words = [[word for word, _ in cut.pre_tokenize_str(text)] for text in plain]
            if words[0] != list(chain.from_iterable(words[1:])):
                return False
            ids = self._whole(["".join(pieces), *pieces], False)
            if ids[0] != list(chain.from_iterable(ids[1:])):
                return False
        return True


def _cut(text: str) -> int:
    """Return where the beginning of a text ends, at a space; 0 for a text without one."""
    if len(text) < 2 * BEGIN:
        return 0
    return max(0, text.find(" ", (len(text) // BEGIN - 1) * BEGIN))
