"""The cache that lasts: answers of models, kept on disk or in a team's database.

**What is kept.** What a model said (log-probabilities of labels, or completions) and the tokens it
cost, never a metric or a reward: those are computed anew, so one answer serves every metric. One
row holds all answers of one prompt on one set of examples, as arrays; a set of examples is stored
once, under the hash of its content. Failures are never stored.

**Key.** `Setting` (model identity and revision, template, labels, decoding with its sample index,
`SCORING_VERSION`), prompt and examples. Whatever changes an answer changes the key.

**Place.** SQLite in WAL mode at `~/.cache/promptgym/scores.sqlite`; `PROMPTGYM_CACHE` names another
folder, file or `postgresql://` URL. Nothing is opened or created before the first question, least
of all at import. Any number of threads and processes may read and write at once; a kill in the
middle of a write loses that write and nothing else. WAL needs a local disk: on a network drive, use
PostgreSQL or no cache. Tables carry the version of their layout in their names, so that releases of
different layouts share a place and leave each other alone.

**On or off.** `open_store` reads the `cache` argument of `Problem` and the option `--cache`. Left
out, the cache is used for models that are asked over a network (`remote` is true, or they count
their `usage`) and not for models of this machine, whose runs then depend on nothing but their seed.
A ledger is charged the same whether the store or the model answers.

**Trouble.** A file that is no database, or a damaged one, is renamed out of the way with a
`CacheWarning` and a new one begun; a healthy database of another program is left as it is and a
file beside it is used. Any other failure (disk full, server gone) turns the cache off for the rest
of the process, with a `CacheWarning`. No trouble with the cache ends a run.
"""

from promptgym.scoring.store.exchange import export_store, import_store
from promptgym.scoring.store.place import CacheSpec, default_place, open_store, store_at
from promptgym.scoring.store.setting import SCORING_VERSION, ExampleSet, Setting
from promptgym.scoring.store.shelf import Answered, Shelf
from promptgym.scoring.store.store import ScoreStore

__all__ = [
    "SCORING_VERSION",
    "Answered",
    "CacheSpec",
    "ExampleSet",
    "ScoreStore",
    "Setting",
    "Shelf",
    "default_place",
    "export_store",
    "import_store",
    "open_store",
    "store_at",
]
