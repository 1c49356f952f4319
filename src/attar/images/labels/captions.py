"""Image–text models: CLIP by name, or a small one trained here on captions made of class names.

Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021, arXiv:2103.00020.
The small model cannot replace one trained on the web, because it sees only the images of its classes. It serves to try,
test and resume methods that need a CLIP without downloading one. In its loss all images of a class form pairs with the
caption of the class, as in Yang et al., Unified Contrastive Learning, CVPR 2022, arXiv:2204.03610.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.core import store
from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.extras import install
from attar.core.foreign import NO_CODE, check_no_code
from attar.core.runtime import Runtime
from attar.core.seeds import derived_seed
from attar.core.settings import Range, Settings
from attar.core.state import rebuilt
from attar.core.training import cached, half_cosine, next_rows, set_lr
from attar.images.networks.blocks import Shape
from attar.images.sources import ImageSource
from attar.images.views.crops import crop_and_flip

CAPTION = "a photo of a {name}"
"""Caption of an image, with `{name}` in place of its class."""
FILE = "clip.safetensors"
SPECIAL = ("<pad>", "<start>", "<unknown>", "<end>")

Features = Float[Tensor, "_row feature"]


@dataclass(frozen=True, kw_only=True)
class TinyClip(Settings):
    """Settings of a small CLIP and its training on the captions of a labelled set."""

    clip_width: Annotated[int, Range(8)] = 64
    """Width of both towers of the small CLIP and of their common features, a multiple of 8."""
    clip_layers: Annotated[int, Range(1)] = 2
    """Number of transformer layers of each tower of the small CLIP."""
    clip_epochs: Annotated[int, Range(1)] = 30
    """Number of epochs of training the small CLIP."""
    clip_batch: Annotated[int, Range(2)] = 128
    """Batch size of training the small CLIP, in images."""
    clip_lr: Annotated[float, Range(0)] = 2e-3
    """Learning rate of AdamW for the small CLIP. It falls to zero along a cosine."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clip_width % 8:
            raise InputError(f"clip_width is {self.clip_width}; it must be a multiple of 8.")


class VisionTower(nn.Module):
    """The image half of a CLIP, which maps images to features."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision_model, self.projection = model.vision_model, model.visual_projection

    def forward(self, images: Float[Tensor, "image channel height width"]) -> Float[Tensor, "image feature"]:
        """The features of images, not normalised."""
        return self.projection(self.vision_model(pixel_values=images).pooler_output)


@dataclass
class Clip:
    """A CLIP with the tokenizer of its captions."""

    model: Any
    tokenizer: Any
    plain: dict[str, Any] | None = None
    """Facts to build it again, if it was trained here."""

    @property
    def vision(self) -> VisionTower:
        """The image half."""
        return VisionTower(self.model).eval()

    @property
    def side(self) -> int:
        """The side of its input images, in pixels."""
        return int(self.model.config.vision_config.image_size)

    @property
    def scale(self) -> float:
        """The factor by which cosines are multiplied."""
        return float(self.model.logit_scale.detach().double().exp())

    @cached_property
    def digest(self) -> str:
        """A fingerprint of its weights."""
        return store.digest_of(self.model.state_dict(), self.plain)

    def tokens(self, captions: Sequence[str]) -> dict[str, Tensor]:
        """The input of the text half: token ids and attention mask."""
        found = self.tokenizer(list(captions), padding=True, truncation=True, return_tensors="pt")
        return {name: found[name] for name in ("input_ids", "attention_mask")}

    def read(self, tokens: dict[str, Tensor]) -> Features:
        """The features of captions, not normalised."""
        return self.model.text_projection(self.model.text_model(**tokens).pooler_output)

    def save(self, folder: Path) -> str:
        """Write a model that was trained here to a folder and return its digest."""
        assert self.plain is not None, "what came by name is not copied"
        return store.write_tensors(folder / FILE, self.model.state_dict(), self.plain)

    def picture(self) -> None:
        """None: a model has no picture."""

    @classmethod
    def load(cls, folder: Path) -> "Clip":
        """Read a model that was trained here.

        Raises:
            InputError: The file is missing or damaged.
        """
        tensors, plain = store.read_tensors(folder / FILE)
        how, classes = TrainClip.from_json(plain["settings"]), tuple(plain["classes"])
        clip = how.untrained(tuple(plain["shape"]), classes, seed=0)
        clip.model.load_state_dict(tensors)
        return clip


@dataclass
class Reading:
    """The state of training a CLIP: the model, its optimiser, the order of images and the steps done."""

    model: Any
    optimizer: torch.optim.AdamW
    order: Tensor
    done: int = 0
    clip: Any = rebuilt(default=None)
    source: Any = rebuilt(default=None)
    tokens: Any = rebuilt(default=None)


@dataclass(frozen=True, kw_only=True)
class TrainClip(Settings):
    """Train a small CLIP on labelled images, one mini-batch per step, with one caption per class."""

    how: TinyClip = field(default_factory=TinyClip)
    """Settings of the model and its training."""
    caption: str = CAPTION
    """Caption of an image, with `{name}` in place of its class."""
    images: int = 0
    """Number of training images. It is counted in the data, not given."""

    name = "train-clip"

    def resolve(self, source: ImageSource, runtime: Runtime) -> Self:
        """Count the training images."""
        return replace(self, images=len(source.targets))

    def work(self, source: ImageSource) -> float:
        """Zero, because compiling does not pay."""
        return 0.0

    @property
    def batches(self) -> int:
        """The number of steps per epoch."""
        return math.ceil(self.images / self.how.clip_batch)

    @property
    def total_steps(self) -> int:
        """The number of steps."""
        return self.how.clip_epochs * self.batches

    def untrained(self, shape: Shape, classes: tuple[str, ...], *, seed: int) -> Clip:
        """A CLIP with fresh weights, for images of this shape and the captions of these classes."""
        transformers = library()
        tokenizer = word_tokenizer(captions_of(self.caption, classes))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derived_seed(seed, "clip"))
            model = transformers.CLIPModel(self._config(shape, tokenizer))
        plain = {"settings": self.to_json(), "shape": list(shape), "classes": list(classes)}
        return Clip(model.eval(), tokenizer, plain)

    def build(self, source: ImageSource, runtime: Runtime) -> Reading:
        """The state before the first step: a CLIP with fresh weights."""
        clip = self.untrained(source.shape, source.classes, seed=runtime.seed)
        model = clip.model.to(runtime.device).train()
        tokens = clip.tokens(captions_of(self.caption, source.classes))
        return Reading(
            model=model,
            optimizer=torch.optim.AdamW(model.parameters(), self.how.clip_lr),
            order=torch.arange(self.images),
            clip=clip,
            source=source,
            tokens={name: value.to(runtime.device) for name, value in tokens.items()},
        )

    def step(self, state: Reading, runtime: Runtime) -> Metrics:
        """Train on one mini-batch of images and the captions of all classes."""
        set_lr(state.optimizer, self.how.clip_lr * half_cosine(state.done, self.total_steps))
        rows = next_rows(state.order, state.done, self.how.clip_batch, runtime.generator("shuffle"))
        images = state.source.inputs(rows, runtime.device)
        images = crop_and_flip(images, runtime.generator("augment"), smallest=0.5, flips=state.source.flips)
        seen = VisionTower(state.model)(squared(images, state.clip.side))
        labels = state.source.targets[rows].to(runtime.device)
        scale = state.model.logit_scale.exp().clamp(max=100.0)
        loss = contrastive_loss(seen, state.clip.read(state.tokens), labels, scale)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()
        state.done += 1
        return {"loss": loss.detach()}

    def result(self, state: Reading, runtime: Runtime) -> Clip:
        """The trained model."""
        return state.clip

    def load(self, folder: Path) -> Clip:
        """Read a trained model."""
        return Clip.load(folder)

    def _config(self, shape: Shape, tokenizer: Any) -> Any:
        width, side = self.how.clip_width, min(shape[1:])
        tower = {
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": self.how.clip_layers,
            "num_attention_heads": width // 8,
            "projection_dim": width,
        }
        text = {"vocab_size": len(tokenizer), "max_position_embeddings": tokenizer.model_max_length}
        ends = {"pad_token_id": 0, "bos_token_id": SPECIAL.index("<start>"), "eos_token_id": SPECIAL.index("<end>")}
        vision = {"image_size": side, "patch_size": max(1, side // 4), "num_channels": shape[0]}
        return library().CLIPConfig(
            text_config={**tower, **text, **ends}, vision_config={**tower, **vision}, projection_dim=width
        )


def contrastive_loss(
    images: Float[Tensor, "image feature"],
    captions: Float[Tensor, "class feature"],
    labels: Int[Tensor, " image"],
    scale: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """The mean of two cross-entropies at scale · cosine: of each image's caption, and of each caption's images."""
    logits = scale * F.normalize(images, dim=1) @ F.normalize(captions, dim=1).T
    mine = F.one_hot(labels, len(captions)).to(logits)
    counts = mine.sum(dim=0)
    found = -(mine * logits.log_softmax(dim=0)).sum(dim=0) / counts.clamp_min(1)
    return 0.5 * (F.cross_entropy(logits, labels) + found.sum() / (counts > 0).sum())


def captions_of(caption: str, classes: Sequence[str]) -> list[str]:
    """A caption for each class.

    Raises:
        InputError: The caption does not contain `{name}`.
    """
    if "{name}" not in caption:
        raise InputError(f"caption is {caption!r}; it must contain {{name}} in place of the class.")
    return [caption.replace("{name}", name.replace("_", " ")) for name in classes]


def word_tokenizer(captions: Sequence[str]) -> Any:
    """A tokenizer whose vocabulary is the words of these captions."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    lower, split = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    spoken = [[word for word, _ in split.pre_tokenize_str(lower.normalize_str(text))] for text in captions]
    words = [*SPECIAL, *sorted({word for text in spoken for word in text})]
    numbers = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="<unknown>"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = lower, split
    ends = [(word, numbers[word]) for word in ("<start>", "<end>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<start> $A <end>", special_tokens=ends)
    return library().PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unknown>",
        bos_token="<start>",
        eos_token="<end>",
        model_max_length=max(map(len, spoken)) + 2,
    )


def squared(images: Float[Tensor, "image channel height width"], side: int) -> Tensor:
    """Scale images to a square of this side, if they have another size."""
    if images.shape[2:] == (side, side):
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)


def tiny_clip(source: ImageSource, how: TinyClip, caption: str, runtime: Runtime) -> Clip:
    """A small CLIP trained on a source, from the cache; it is trained if it is not there, and can be resumed."""
    method = TrainClip(how=how, caption=caption).resolve(source, runtime)
    return cached(method, source, runtime, title="training a small CLIP")


def clip_named(name: str) -> Clip:
    """A CLIP from a folder or from the hub.

    Raises:
        InputError: There is no such CLIP, it brings code of its own, or there is no connection to look for it.
    """
    transformers = library()
    check_no_code(name)
    try:
        config = transformers.AutoConfig.from_pretrained(name, **NO_CODE)
        if config.model_type != "clip":
            raise ValueError(f"it is a {config.model_type}")
        model = transformers.CLIPModel.from_pretrained(name, config=config, dtype=torch.float32, use_safetensors=True)
        return Clip(model.eval(), transformers.AutoTokenizer.from_pretrained(name, **NO_CODE))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"{name!r} is not a CLIP in a folder or on the hub ({reason}).") from None


def library() -> Any:
    """The `transformers` library.

    Raises:
        InputError: `transformers` is not installed.
    """
    try:
        import transformers
    except ModuleNotFoundError:
        raise InputError(f"a CLIP needs transformers: {install('transformers')}.") from None
    return transformers
