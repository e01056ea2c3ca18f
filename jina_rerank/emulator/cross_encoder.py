"""A scorer for cross-encoders from the Hugging Face Hub or a directory, with sentence-transformers."""

import atexit
import importlib
import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from .scorers import TextRules, against_rivals, header_name
from .tokens import without_lone_surrogates

try:
    # import_module, since it has no type annotations.
    _LIBRARY: Final[Any] = importlib.import_module("sentence_transformers")
    _IDENTITY: Final[Any] = importlib.import_module("torch").nn.Identity()
except ModuleNotFoundError as _error:
    raise ImportError('CrossEncoderScorer needs sentence-transformers: pip install "jina-rerank[hf]"') from _error

# One batch at a time: each already uses all cores, and a tokenizer is not thread-safe. A short request waits for
# at most one batch of a long one, and so does the exit of the interpreter.
_INFERENCE: Final = threading.Lock()
_BATCH_SIZE: Final = 32

# The interpreter aborts if a thread is in native code while it exits: never release the lock again.
atexit.register(_INFERENCE.acquire)


class CrossEncoderScorer(TextRules):
    """A scorer with a cross-encoder, which reads query and document together; on the GPU if there is one.

    Pointwise, a score is the logistic function of the model's output; listwise, `against_rivals` applies to the
    logistic function scaled to [-1, 1]. Batching changes a score from the seventh digit on; scores have six.

    Args:
        model: A name on the Hugging Face Hub, `org/name`, which is downloaded once; or a directory.

    Raises:
        ValueError: The model cannot be loaded, or is not a cross-encoder with one score.
    """

    blocking = True

    def __init__(self, model: str) -> None:
        self._model = _loaded(model)
        self._tokenizer = self._model.tokenizer
        self.name: str = header_name(f"hf:{Path(model).name}")
        """`hf:` and the last part of the model's name."""

    def score(self, query: str, documents: Sequence[str], *, listwise: bool) -> list[float]:
        """Return the model's scores of the pairs of query and document."""
        pairs = [(without_lone_surrogates(query), without_lone_surrogates(document)) for document in documents]
        outputs = [0.0] * len(pairs)
        # Texts of similar length together, since all texts of a batch are padded to the longest.
        order = sorted(range(len(pairs)), key=lambda index: len(pairs[index][1]))
        for start in range(0, len(order), _BATCH_SIZE):
            indices = order[start : start + _BATCH_SIZE]
            batch = [pairs[index] for index in indices]
            with _INFERENCE:
                found = self._model.predict(batch, activation_fn=_IDENTITY, show_progress_bar=False)
            for index, output in zip(indices, found, strict=True):
                outputs[index] = float(output)
        # tanh(x/2) is the logistic function scaled to [-1, 1]; unlike exp() it never overflows.
        scores = [round(math.tanh(output / 2), 6) for output in outputs]
        return against_rivals(scores) if listwise else [(1 + score) / 2 for score in scores]

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of the whole text, special tokens included."""
        with _INFERENCE:
            return len(self._tokenizer(without_lone_surrogates(text), verbose=False)["input_ids"])

    def truncate(self, text: str, max_tokens: int) -> str:
        """Return the beginning of the text, cut after a token."""
        text = without_lone_surrogates(text)
        with _INFERENCE:
            read = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ends = [end for _, end in read["offset_mapping"]]
        return text if len(ends) <= max_tokens else text[: ends[max_tokens - 1]]


def _loaded(model: str) -> Any:
    path = Path(model).expanduser()
    if not path.is_dir() and (path.is_absolute() or model.startswith((".", "~")) or len(path.parts) > 2):
        raise ValueError(f"hf:{model}: there is no such directory")
    try:
        loaded = _LIBRARY.CrossEncoder(str(path) if path.is_dir() else model)
    except Exception as error:  # noqa: BLE001  # the libraries raise many kinds of errors
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"hf:{model} cannot be loaded: {reason}") from None
    trained = getattr(getattr(loaded.model, "config", None), "architectures", None) or ()
    if type(loaded.model).__name__ not in trained:
        # sentence-transformers has added a layer with random weights, whose scores are meaningless.
        raise ValueError(f"hf:{model} is not a cross-encoder: it was not trained to score pairs of texts")
    if loaded.num_labels != 1:
        raise ValueError(f"hf:{model} gives {loaded.num_labels} scores for a pair; a reranker gives one")
    if not loaded.tokenizer.is_fast:
        raise ValueError(f"hf:{model} has no fast tokenizer")
    return loaded
