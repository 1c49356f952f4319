"""Causal language models and tokenizers from a folder, from the hub or fresh by name, and adapters.

Weights are never read from a pickle.
"""

import difflib
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
from torch import nn

from attar.core.errors import InputError, shortened, unknown
from attar.core.extras import install
from attar.core.foreign import NO_CODE, check_no_code
from attar.core.seeds import seeded
from attar.core.settings import Range, Settings, words
from attar.language.placement import Teacher
from attar.language.vocabulary import size_of, width

END = "<|endoftext|>"
PAD = "<|pad|>"
SIZES = {"layers": "num_hidden_layers", "width": "hidden_size", "heads": "num_attention_heads"}
FRESH = re.compile(r"[a-z][\w-]*:(?:\w+=\d+)(?:,\w+=\d+)*")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Lora(Settings):
    """Train only low-rank adapters of the student's matrices (Hu et al., ICLR 2022, arXiv:2106.09685)."""

    lora_rank: Annotated[int, Range(0)] = 0
    """Rank of the low-rank adapters. 0 trains all parameters."""
    lora_alpha: Annotated[int, Range(0)] = 16
    """α of the low-rank adapters: their output is multiplied by α divided by the rank."""
    lora_dropout: Annotated[float, Range(0, 1)] = 0.0
    """Dropout rate on the input of the low-rank adapters."""
    lora_targets: tuple[str, ...] = ()
    """Names of the modules that get low-rank adapters. Default: peft's choice for the model family."""


def is_fresh(name: str) -> bool:
    """Whether a name describes a fresh model, such as gpt2:layers=1,width=64."""
    return FRESH.fullmatch(name) is not None


def check_fresh(name: str) -> None:
    """Check that a description of a fresh model can be built.

    Raises:
        InputError: The kind of model or a size is unknown.
    """
    transformers = _library()
    kind, options = words(name)
    if kind not in transformers.CONFIG_MAPPING:
        near = difflib.get_close_matches(kind, transformers.CONFIG_MAPPING, n=3)
        raise unknown(
            "kind of model", kind, {*near, "gpt2", "llama", "opt", "qwen2"}, hint="And what transformers has."
        )
    for option, value in options.items():
        if option not in SIZES:
            raise unknown(f"size of {kind}", option, SIZES)
        if not value.isdigit() or len(value) > 5 or not 1 <= int(value) <= (1000 if option == "layers" else 10**5):
            raise InputError(f"{option} of {shortened(name)} must be a whole number, from 1 to some thousands.")


def fresh_model(name: str, tokenizer: Any, positions: int, generator: torch.Generator) -> nn.Module:
    """A causal model by kind and sizes, with random parameters: gpt2:layers=1,width=64,heads=2.

    Args:
        name: A kind that transformers knows, and its sizes. Default: 2 layers, width 64 and a head per 32.
        tokenizer: The tokenizer that gives the vocabulary and the end token.
        positions: Length of the longest sequence.
        generator: Draws the parameters.

    Raises:
        InputError: The kind or size is unknown, transformers refuses it, or it is not a causal language model.
    """
    transformers = _library()
    check_fresh(name)
    kind, options = words(name)
    sizes = {"layers": 2, "width": 64} | {key: int(value) for key, value in options.items()}
    sizes.setdefault("heads", max(1, sizes["width"] // 32))
    facts = {SIZES[key]: value for key, value in sizes.items()}
    facts |= {"vocab_size": size_of(tokenizer), "max_position_embeddings": positions}
    facts |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    facts["pad_token_id"] = tokenizer.pad_token_id
    usual = transformers.CONFIG_MAPPING[kind]()
    for inner in ("intermediate_size", "ffn_dim"):
        if isinstance(getattr(usual, inner, None), int):
            facts[inner] = 4 * sizes["width"]
    if hasattr(usual, "num_key_value_heads"):
        facts["num_key_value_heads"] = sizes["heads"]
    if hasattr(usual, "word_embed_proj_dim"):
        facts["word_embed_proj_dim"] = sizes["width"]
    with seeded(generator):
        try:
            made: nn.Module = transformers.AutoModelForCausalLM.from_config(type(usual)(**facts))
        except Exception as error:  # each family checks its sizes in its own way
            raise InputError(f"{name} cannot be built as a causal model ({_first_line(error)}).") from None
    return made


def causal_model(name: str | Path, *, to_train: bool = False, place: Teacher | None = None) -> nn.Module:
    """A trained causal model from a folder or the hub, only from safetensors.

    Args:
        name: The folder, or user/name.
        to_train: Whether to load the parameters as float32, in any precision of the file.
        place: Where the parameters lie and in which precision. Default: in memory, as in the file.

    Raises:
        InputError: There is no such model, it is not causal, it exists only as a pickle, or it has no room.
    """
    transformers = _library()
    folder = Path(name)
    if folder.is_dir():
        _refuse_pickles(folder)
    given = {"dtype": torch.float32 if to_train else "auto", **(place.arguments() if place else {})}
    model: nn.Module = _fetched(
        str(name),
        "causal language model",
        lambda: transformers.AutoModelForCausalLM.from_pretrained(str(name), use_safetensors=True, **given, **NO_CODE),
    )
    return model


def tokenizer_of(name: str | Path) -> Any:
    """The tokenizer in a folder or on the hub.

    Raises:
        InputError: There is none.
    """
    transformers = _library()
    return _fetched(str(name), "tokenizer", lambda: transformers.AutoTokenizer.from_pretrained(str(name), **NO_CODE))


def tokenizer_beside(model: nn.Module) -> Any:
    """The tokenizer in the folder from which a model was loaded; None if there is none."""
    home = getattr(getattr(model, "config", None), "_name_or_path", "")
    if not home:
        return None
    try:
        return tokenizer_of(home)
    except InputError:
        return None


def byte_tokenizer(texts: Iterable[str], vocabulary: int = 512) -> Any:
    """A byte-level BPE tokenizer, trained on texts. Every byte is a token, so that nothing is unknown.

    Args:
        texts: The texts from which merges are learned.
        vocabulary: Number of tokens, including the 256 bytes and two marks (end, padding).

    Raises:
        InputError: The vocabulary is too small for the bytes.
    """
    import tokenizers

    transformers = _library()
    if vocabulary < 258:
        raise InputError(f"vocabulary is {vocabulary}, but bytes and marks alone are 258.")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END, PAD],
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token=END, bos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False
    )


def with_lora(model: nn.Module, lora: Lora, generator: torch.Generator) -> nn.Module:
    """The model with adapters, of which only the adapters are trained; the model itself if the rank is 0.

    Raises:
        InputError: Peft is not installed, or knows no modules of this family and none are named.
    """
    if lora.lora_rank == 0:
        return model
    try:
        import peft
    except ModuleNotFoundError:
        raise InputError(f"--lora-rank needs peft. Install it: {install('transformers')}.") from None
    config = peft.LoraConfig(
        r=lora.lora_rank,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        target_modules=list(lora.lora_targets) or None,
        fan_in_fan_out=getattr(model.config, "model_type", "") == "gpt2",  # whose matrices lie the other way round
        task_type="CAUSAL_LM",
    )
    with seeded(generator):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers in its former way
                return peft.get_peft_model(model, config)
        except ValueError as error:
            raise InputError(f"adapters do not fit the student ({_first_line(error)}). Check --lora-targets.") from None


def merged(model: nn.Module) -> nn.Module:
    """The model with its adapters merged into its matrices; the model itself if it has none."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model  # type: ignore[operator]


def without_padding(model: nn.Module, tokenizer: Any) -> nn.Module:
    """A model without the logits beyond its tokenizer's tokens; no tool has to suppress them, and no text decodes them.

    Input and output embeddings are cut in place, as `resize_token_embeddings` does it. A model whose embeddings cannot
    be cut stays as it is.
    """
    size = size_of(tokenizer)
    if width(model) <= size or not hasattr(model, "resize_token_embeddings"):
        return model
    with silent():
        try:
            model.resize_token_embeddings(size, mean_resizing=False)  # type: ignore[operator]
        except NotImplementedError:
            return model
    return model


@torch.no_grad()
def check_runs(model: nn.Module, who: str, words: int, *, answers: bool = False) -> None:
    """Check with two tokens that a model runs, is causal and gives logits; with `answers`, with its cache too.

    Args:
        model: A causal model.
        who: What it is, for the message.
        words: Number of logits that it must have.
        answers: Whether it has to generate.

    Raises:
        InputError: It does not.
    """
    training, device = model.training, device_of(model)
    ids = torch.arange(min(2, words), device=device).unsqueeze(0)
    given = {"attention_mask": torch.ones_like(ids)}
    model.eval()
    try:
        found = model(input_ids=ids, **given, use_cache=False)
        logits = getattr(found, "logits", None)
        if not isinstance(logits, torch.Tensor) or logits.shape[:2] != ids.shape or logits.shape[2] < words:
            what = f"a {type(found).__name__}" if logits is None else f"logits of shape {[*logits.shape]}"
            raise InputError(
                f"the {who} gives {what} for {ids.shape[1]} tokens of a vocabulary of {words}. Give a causal model of "
                "transformers, which returns an output with logits."
            )
        other = model(input_ids=ids[:, :1].expand_as(ids), **given, use_cache=False).logits
        half = logits.element_size() < 4
        near, least = (1e-2, 1e-2 * float(logits.abs().max())) if half else (1e-4, 1e-5)
        if not torch.allclose(other[:, 0], logits[:, 0], rtol=near, atol=least, equal_nan=True):
            raise InputError(f"the {who} is not causal: it sees the tokens that it has to foretell. Give another one.")
        if answers:
            before = model(input_ids=ids, **given, use_cache=True)
            longer = torch.cat([given["attention_mask"], given["attention_mask"][:, :1]], dim=1)
            model(input_ids=ids[:, :1], attention_mask=longer, past_key_values=before.past_key_values, use_cache=True)
    except InputError:
        raise
    except Exception as error:  # what does not fit raises what it likes
        raise InputError(
            f"the {who} cannot run ({_first_line(error)}). Check its sizes, or give another one."
        ) from None
    finally:
        model.train(training)


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's first parameter, where it takes its tokens; where it is offloaded, that of its passes."""
    device = next(model.parameters()).device
    if device.type != "meta":
        return device
    hook = getattr(model, "_hf_hook", None)  # accelerate's
    return torch.device(getattr(hook, "execution_device", None) or "cpu")


def longest_input(*models: nn.Module | None) -> int:
    """The largest number of tokens that all of the models can read."""
    limits = [getattr(model.config, "max_position_embeddings", None) for model in models if model is not None]
    return min((limit for limit in limits if isinstance(limit, int)), default=2**20)


@contextmanager
def silent() -> Iterator[None]:
    """Switch off the progress bars of transformers."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _refuse_pickles(folder: Path) -> None:
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles:
        raise InputError(
            f"{folder} holds only a pickle ({pickles[0]}), which can run code when read. Save the model as safetensors."
        )
    raise InputError(f"{folder} holds no model.safetensors.")


def _fetched(name: str, what: str, fetch: Callable[[], R]) -> R:
    """Fetch something by name from a folder or the hub."""
    check_no_code(name)
    try:
        with silent():
            return fetch()
    except Exception as error:  # what a damaged file raises depends on the family
        raise InputError(f"{name!r} is not a {what} in a folder or on the hub ({_first_line(error)}).") from None


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join(lines[:2] if lines and lines[0].endswith(":") else lines[:1])
    return said.rstrip(".") or type(error).__name__


def _library() -> Any:
    try:
        import transformers
    except ModuleNotFoundError:
        raise InputError(f"language models need transformers. Install it: {install('transformers')}.") from None
    return transformers
