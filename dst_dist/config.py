"""Defines the whole recipe as strict models: every key with its type, its default, and a sentence on what it decides.

Precedence: defaults < YAML files left to right < `key=value`. `dst_dist/recipes/README.md` is made from this file.
"""

import importlib.util
import math
from typing import Annotated, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from dst_dist.metrics import METRICS
from dst_dist.recipe_types import (
    AutoOrCount,
    AutoOrSwitch,
    AutoOrWhole,
    Count,
    Dataset,
    Names,
    NonNegative,
    PathOrNull,
    PathText,
    Positive,
    PositiveShare,
    Section,
    Share,
    ShareBelowOne,
    Whole,
)


class Model(Section):
    """The model to train, and its frames' tokens."""

    name_or_path: PathText = "HuggingFaceTB/SmolVLM2-2.2B-Instruct"
    """A SmolVLM2 on the hub, a local folder of one, or an earlier run's `final/`."""
    tokens_per_frame: Annotated[Count, Field(json_schema_extra={"enum": [k * k for k in range(1, 10)]})] = 1
    """K, the image tokens of a frame: the connector's grid is pooled to k x k, K = k * k."""
    vision_batch_size: Count = 64
    """Frames per call of the vision tower."""

    @field_validator("tokens_per_frame")
    @classmethod
    def _square(cls, value: int) -> int:
        if math.isqrt(value) ** 2 != value:
            raise ValueError("must be a square number: 1, 4, 9, ... up to the model's whole grid (81 or 64)")
        return value


class TrainedParts(Section):
    """The parts of the model that are trained, besides both heads."""

    vision: bool = False
    """Train the vision tower."""
    connector: bool = True
    """Train the connector between tower and text model, in full."""
    text: bool = True
    """Train the text model: its LoRA adapter, or all of it in mode `full`."""


class Lora(Section):
    """The LoRA adapter of mode `lora` (Hu et al., 2021)."""

    rank: Count = 64
    """Rank of the adapter's matrices."""
    alpha: Positive = 128
    """Scale of the adapter: its output is multiplied by alpha / rank."""
    dropout: ShareBelowOne = 0.0
    """Dropout before the adapter in training."""
    target_modules: Names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    """Linear layers of the text model that are adapted."""


class Finetune(Section):
    """The way of fine-tuning: LoRA or all weights, and of which parts."""

    mode: Literal["lora", "full"] = "lora"
    """`lora` adapts the text model, `full` trains its weights."""
    train: TrainedParts = TrainedParts()
    lora: Lora = Lora()

    @model_validator(mode="after")
    def _lora_has_text(self) -> "Finetune":
        if self.mode == "lora" and not self.train.text:
            raise ValueError("mode lora adapts the text model: set train.text to true, or mode to full")
        return self


class Data(Section):
    """Datasets, checks of their frames, and the cutting of clips into samples."""

    root: PathText = "data"
    """Folder that all datasets lie below; nothing outside it is read."""
    train: Annotated[list[Dataset], Field(min_length=1)] = ["assembly101"]
    """Datasets (`<root>/<name>/train_training.json`) or files to train on; `{name: 2}` is drawn twice an epoch."""
    val: list[Dataset] = ["assembly101"]
    """Datasets to validate on in the loop; none if empty."""
    test: list[Dataset] = []
    """Datasets for `dst-dist evaluate --split test`; none if empty."""
    frames: Literal["continuous", "event"] = "continuous"
    """`continuous` shows every frame of a clip, `event` only the frames of its turns."""
    on_missing: Literal["error", "filter", "placeholder"] = "error"
    """Missing frames stop the start, leave their clips out, or become grey frames whose decisions are ignored."""
    check: Literal["headers", "rows", "decode"] = "headers"
    """Check of every frame before training: of its JPEG header, only of its row's place, or of the whole image."""
    strict: bool = False
    """Refuse clips that contradict themselves, as by a transition that the state does not allow; false counts them."""
    max_seq_len: Count = 4096
    """Most tokens of a sample; a longer clip is split."""
    context_seconds: NonNegative = 10.0
    """Seconds of frames that open the next part of a split clip, without labels."""
    feature_cache: PathOrNull = None
    """Folder that keeps the frozen tower's output of each frame, so that each is encoded once; none if null."""
    num_workers: AutoOrWhole = "auto"
    """Data workers of each process; `auto` goes by the node's cores, 0 reads in the training process."""
    index_cache: PathOrNull = None
    """Folder that keeps clips that were read, checked and split, for later starts; `<root>/.dst_dist` if null."""


class Labels(Section):
    """The decision positions that count, and their weights."""

    neg_frame_sampling_rate: Share = 0.1
    """Share of the negatives that count in training; evaluation counts all."""
    positive_frames: Literal["last", "all"] = "last"
    """Positives are the last frame of a turn's range, or every frame of it."""
    balance: Literal["classes", "none", "focal"] = "classes"
    """A head's loss: half over positives and half over negatives, the mean, or the focal loss (Lin et al., 2017)."""


class Loss(Section):
    """Weights of the loss terms."""

    lm: NonNegative = 1.0
    """Next tokens of replies and updates."""
    dst_gen: NonNegative = 1.0
    """Next tokens of updates, which count in `lm` too."""
    dst_update: NonNegative = 1.0
    """The head that decides on updates."""
    speaking: NonNegative = 1.0
    """The head that decides on replies."""

    @model_validator(mode="after")
    def _trains_something(self) -> "Loss":
        if not any(self.model_dump().values()):
            raise ValueError("nothing is trained, every weight is 0: set one of them above 0")
        return self


class Optim(Section):
    """AdamW (Loshchilov and Hutter, 2019) and its learning rate."""

    learning_rate: NonNegative = 2.0e-4
    """Peak learning rate of the text model, and of every part without its own."""
    head_learning_rate: NonNegative | None = None
    """Peak learning rate of both heads."""
    connector_learning_rate: NonNegative | None = None
    """Peak learning rate of the connector."""
    vision_learning_rate: NonNegative | None = None
    """Peak learning rate of the vision tower."""
    betas: Annotated[list[ShareBelowOne], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    """Decay rates of both moments."""
    weight_decay: NonNegative = 0.01
    """Decoupled weight decay, not on norms and biases."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Shape of the learning rate's fall to 0 after the warm-up; `constant` does not fall."""
    decay_share: PositiveShare = 1.0
    """Share of the steps after the warm-up, at the end, over which the rate falls."""
    warmup_steps: Whole = 100
    """Optimizer steps over which the rate rises linearly to its peak."""
    max_grad_norm: Positive = 1.0
    """Global norm to which gradients are clipped."""


class Train(Section):
    """Length of the training, size of its steps, precision and memory."""

    num_epochs: Count = 4
    """Passes over the data, unless `max_steps` is set."""
    max_steps: Count | None = None
    """Optimizer steps of the whole run."""
    global_batch_size: Count = 64
    """Samples of one optimizer step over all processes."""
    max_tokens: AutoOrCount = 8192
    """Most tokens of a micro-batch on one process; `auto` takes the most that fit, in steps of 1024."""
    max_frames: Count = 2048
    """Most frames of a micro-batch on one process."""
    probe: bool = False
    """Run the largest micro-batches before the first step, so that a run that does not fit ends at once."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Precision of computing; trained weights and moments are float32 in any case."""
    gradient_checkpointing: AutoOrSwitch = "auto"
    """Recompute activations in the backward pass, a third more computing; `auto` does if it does not fit otherwise."""
    compile: AutoOrSwitch = "auto"
    """Compile text layers, which then move far fewer bytes: `auto` does on a GPU that can, `true` on a CPU too."""


class Eval(Section):
    """Validation in the loop, evaluation and streaming."""

    every_steps: Count = 200
    """Optimizer steps between validations."""
    max_clips: Count | None = None
    """Most clips of a split to measure on, evenly spaced."""
    patience: Count | None = None
    """Validations in a row without a new best after which training ends."""
    dst_threshold: Share | None = None
    """Probability above which an update is written; null takes the one stored with the model, else 0.5."""
    speaking_threshold: Share | None = None
    """Probability above which a reply is written; null takes the one stored with the model, else 0.5."""
    tolerance_s: NonNegative = 2.0
    """Seconds that a predicted transition may be off and still count."""
    on_full_context: Literal["carry_state", "drop_middle", "drop_all"] = "carry_state"
    """A stream with a full context begins anew with state and last frames, keeps the newer half, or drops all."""
    num_streams: Count = 8
    """Videos streamed in one batch."""
    similarity: PathText = "lexical"
    """Similarity of replies: `lexical`, or a sentence-transformers model by its folder or its name on the hub."""


class Checkpoint(Section):
    """Saving of the training state."""

    every_steps: Count = 200
    """Optimizer steps between checkpoints."""
    keep: Annotated[int, Field(ge=2)] = 3
    """Newest checkpoints that are kept; the best one is kept too."""
    background: bool = True
    """Copy the state to host memory and write it while training goes on; where no copy fits, training waits."""
    best: Literal[tuple(f"val/{key}" for key, metric in METRICS.items() if metric.chooses_best)] = "val/loss"
    """Validation metric that chooses the best checkpoint."""
    final: Literal["last", "best"] = "last"
    """Which model `final/` is: that of the last step, or of the best checkpoint, also of a run that is over."""


class Log(Section):
    """Log lines and trackers."""

    every_steps: Count = 10
    """Optimizer steps between log lines; `metrics.jsonl` has every step."""
    report_to: list[Literal["tensorboard", "wandb", "mlflow", "comet_ml", "trackio"]] = ["tensorboard"]
    """Trackers that get the metrics, besides `metrics.jsonl`."""

    @field_validator("report_to")
    @classmethod
    def _installed(cls, value: list[str]) -> list[str]:
        # A folder of that name, such as wandb makes where it is run, is no package.
        missing = [name for name in value if getattr(importlib.util.find_spec(name), "origin", None) is None]
        if missing:
            raise ValueError(f"not installed: {', '.join(missing)}; pip install {' '.join(missing)}")
        return value


class Recipe(Section):
    """Everything that decides a run. Sections and keys are those of `recipes/*.yaml`."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the order of samples, the negatives, new weights and dropout."""
    output_dir: PathText = "runs/lora"
    """The run folder."""
    model: Model = Model()
    finetune: Finetune = Finetune()
    data: Data = Data()
    labels: Labels = Labels()
    loss: Loss = Loss()
    optim: Optim = Optim()
    train: Train = Train()
    eval: Eval = Eval()
    checkpoint: Checkpoint = Checkpoint()
    log: Log = Log()

    @model_validator(mode="after")
    def _sections_agree(self) -> "Recipe":
        faults = []
        if self.checkpoint.final == "best" and not self.data.val:
            faults.append("checkpoint.final: best is chosen by validation, and data.val is empty; set it to last")
        if self.data.feature_cache is not None and self.finetune.train.vision:
            faults.append(
                "data.feature_cache keeps what a frozen tower makes of frames, and finetune.train.vision trains the "
                "tower; set one of them to null or false"
            )
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def to_yaml(self) -> str:
        """Return the resolved recipe as YAML; loading it again gives an equal recipe."""
        return yaml.safe_dump(self.model_dump(), sort_keys=False)
