"""Small tokenizers of many kinds, made on the spot, and a text that is hard on each of them."""

import functools
from typing import Any

TEXTS = (
    "the old fox sees the grey spoon",
    "Naïve café, übermäßig – 你好!",
    "1234 and  two  spaces\n\n\ttabs",
    "🦊🦊 🇩🇪 e\u0301",
)
HARD = "  The fox🦊 isn't  naïve,\n\tüber 你好 🇩🇪 e\u0301 12345  "


@functools.cache
def tokenizer_named(name: str) -> Any:
    """A tokenizer: bytes300 and bytes400 (byte-level BPE), characters, words (with an unknown token), pieces, slow."""
    return {
        "bytes300": lambda: _bytes(300),
        "bytes400": lambda: _bytes(400),
        "characters": _characters,
        "words": _words,
        "pieces": _pieces,
        "slow": _slow,
    }[name]()


LOSSLESS = ("bytes300", "bytes400", "pieces", "slow")


def _bytes(vocabulary: int) -> Any:
    from attar.language.models import byte_tokenizer

    return byte_tokenizer([*TEXTS, "the spoon of the fox and the otter"] * 20, vocabulary)


def _fast(made: Any, **special: str) -> Any:
    import transformers

    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, clean_up_tokenization_spaces=False, **{"eos_token": "</s>", **special}
    )


def _characters() -> Any:
    """A token for each character of the texts; any other is unknown."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    letters = sorted(set("".join(TEXTS)) | set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,:?"))
    made = tokenizers.Tokenizer(
        models.WordLevel({word: n for n, word in enumerate(["</s>", "<unk>", *letters])}, unk_token="<unk>")
    )
    made.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
    made.decoder = decoders.Fuse()
    return _fast(made, unk_token="<unk>")


def _words() -> Any:
    """Whole words without the spaces before them; most words are unknown."""
    import tokenizers
    from tokenizers import models, pre_tokenizers

    made = tokenizers.Tokenizer(
        models.WordLevel(
            {word: n for n, word in enumerate(["</s>", "<unk>", "the", "fox", "old", "."])}, unk_token="<unk>"
        )
    )
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return _fast(made, unk_token="<unk>")


def _pieces() -> Any:
    """Pieces that begin with a mark for the space, and bytes for all else, as in SentencePiece."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    made = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=True)
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    marks = ["</s>", "<unk>", *(f"<0x{n:02X}>" for n in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=340, special_tokens=marks, show_progress=False)
    made.train_from_iterator(list(TEXTS) * 20, trainer)
    return _fast(made, unk_token="<unk>")


def _slow() -> Any:
    """Bytes, by a tokenizer in Python that knows no offsets."""
    import transformers

    return transformers.ByT5Tokenizer(extra_ids=0)
