"""`Vocabulary`: the units a policy may write, their ids in observations, and text <-> units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from promptgym.errors import ConfigError
from promptgym.problem import check_words

Level = Literal["word", "token"]
PAD, UNKNOWN, SPECIALS = 0, 1, 2
_MARKERS = ("Ġ", "▁")  # byte-level BPE and SentencePiece write a leading space like this


class Vocabulary:
    """Units by index (for actions) and by id (for observations).

    Action `i` writes `units[i]`. Observation ids are 0 for padding, 1 for a unit that is not known,
    `i + 2` for `units[i]`, and above those the `extra` units: words of start prompts that a policy
    may see and delete but not write.

    At level "word" a text is its words. At level "token" units are subwords in the notation of
    their tokenizer: a continuation starts with `##` (WordPiece), or else a word's beginning carries
    `Ġ` or `▁` (BPE, SentencePiece). Text is cut into the longest units that match, from the left;
    a word that cannot be cut stays whole.
    """

    def __init__(
        self, units: Sequence[str], *, level: Level = "word", extra: Iterable[str] = ()
    ) -> None:
        """Index the units.

        Args:
            units: what may be written, without duplicates.
            level: how text is cut and joined.
            extra: texts of start prompts; their units that are not in `units` get ids of their own.

        Raises:
            ConfigError: for an empty vocabulary, a duplicate, a unit with whitespace, or a level
                that does not exist.
        """
        if level not in ("word", "token"):
            raise ConfigError(f"level must be 'word' or 'token', got {level!r}")
        if not units:
            raise ConfigError("the vocabulary is empty; give `vocabulary=[...]` to the problem")
        check_words(units)
        self.units = tuple(units)
        self.level: Level = level
        counts = {m: sum(u.startswith(m) for u in self.units) for m in _MARKERS}
        marker = max(counts, key=lambda m: counts[m])
        self._marker = marker if level == "token" and counts[marker] else ""
        self._known = frozenset(self.units)
        self._longest = max(map(len, self.units))
        self._ids = {unit: i + SPECIALS for i, unit in enumerate(self.units)}
        for text in extra:
            for unit in self.split(text):
                self._ids.setdefault(unit, len(self._ids) + SPECIALS)

    def __len__(self) -> int:
        """Return how many units can be written."""
        return len(self.units)

    @property
    def n_ids(self) -> int:
        """Number of observation ids, specials and extra units included."""
        return len(self._ids) + SPECIALS

    def ids(self, units: Iterable[str]) -> list[int]:
        """Return the observation id of each unit."""
        return [self._ids.get(unit, UNKNOWN) for unit in units]

    def split(self, text: str) -> tuple[str, ...]:
        """Cut a text into units."""
        words = text.split()
        if self.level == "word":
            return tuple(words)
        return tuple(unit for word in words for unit in self._pieces(word))

    def join(self, units: Iterable[str]) -> str:
        """Write units as text."""
        if self.level == "word":
            return " ".join(units)
        if self._marker:
            return " ".join("".join(units).replace(self._marker, " ").split())
        text = " ".join(units).replace(" ##", "")
        return text.removeprefix("##")

    def _pieces(self, word: str) -> list[str]:
        """Cut one word greedily; the word itself if that fails."""
        whole = self._marker + word
        rest, pieces = whole, list[str]()
        while rest:
            for end in range(min(len(rest), self._longest), 0, -1):
                if rest[:end] in self._known:
                    pieces.append(rest[:end])
                    rest = rest[end:]
                    break
            else:
                return [whole]
            if rest and not self._marker:
                rest = "##" + rest
                if rest[2:].startswith("##"):  # a literal ## inside a word cannot be written
                    return [whole]
        return pieces
