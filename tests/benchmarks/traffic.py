"""Count the kernels and bytes that a training step of the 2.2B text model asks of a GPU, without a GPU.

    python -m tests.benchmarks.traffic lora
    python -m tests.benchmarks.traffic full --checkpointing --kinds

Steps of one and two layers of the true width, on few tokens, run on the CPU; both counts grow in a straight line by
layer and by token, which gives the whole model. `before` runs each operation by itself and has peft's own LoRA layers;
`after` is what `train.compile` trains. Matrix products and attention are left out, they are the same in both.

An operation counts its inputs and outputs, a compiled kernel the buffers that inductor's scheduler says it reads and
writes, each once. The graphs are scheduled for the CPU; a GPU's may differ a little. Views cost nothing. Before, the
calls agree within 1 % with the profile of an H100, which moved such bytes at 1.7 TB/s.
"""

import argparse
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from unittest import mock

import torch
from peft import get_peft_model
from torch._inductor import compile_fx as inductor
from torch._inductor.debug import DebugContext
from torch._inductor.graph import GraphLowering
from torch._inductor.scheduler import BaseSchedulerNode, ExternKernelSchedulerNode, NopKernelSchedulerNode
from torch._inductor.virtualized import V
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only

from dst_dist.config import Recipe
from dst_dist.model.adapters import add_adapter
from dst_dist.model.compiling import compile_layers
from dst_dist.model.lora import lora_config
from dst_dist.model.losses import compute_loss
from dst_dist.model.smolvlm_dst import SmolVLMForDST
from dst_dist.model.trainable import make_trainable, unwrap
from tests.gpu.make_models import SHAPES
from tests.model.tiny import count_terms, inputs

NUM_LAYERS, LAYERS, TOKENS = 24, (1, 2), (128, 256)
PRODUCTS = ("mm", "addmm", "bmm", "convolution", "convolution_backward", "_unsafe_index")
FREE = (
    *("view", "reshape", "transpose", "t", "permute", "expand", "slice", "select", "unsqueeze", "squeeze", "detach"),
    *("alias", "as_strided", "split", "split_with_sizes", "unbind", "_unsafe_view", "empty", "empty_like", "new_empty"),
    *("lift_fresh", "empty_strided", "new_empty_strided", "is_same_size", "_local_scalar_dense"),
)


class Traffic(TorchDispatchMode):
    """Calls and bytes by kind of operation: `product`, `attention`, `compiled`, or the operation's name."""

    def __init__(self):
        super().__init__()
        self.calls, self.bytes = Counter(), Counter()

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        return True

    def add(self, kind: str, num_bytes: int) -> None:
        self.calls[kind] += 1
        self.bytes[kind] += num_bytes

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__.split(".")[0]
        result = zeros_of(func, args, kwargs or {}) if name in PRODUCTS else func(*args, **(kwargs or {}))
        if name not in FREE:
            kind = "attention" if "scaled_dot_product" in name else "product" if name in PRODUCTS else name
            leaves = (*tree_leaves(args), *tree_leaves(kwargs or {}), *tree_leaves(result))
            self.add(kind, sum(leaf.nbytes for leaf in leaves if isinstance(leaf, torch.Tensor)))
        return result


def zeros_of(func, args: tuple, kwargs: dict):
    """Return zeros in place of a product: a CPU would need minutes, and no value is counted."""
    args, kwargs = tree_map_only(torch.Tensor, lambda tensor: tensor.to("meta"), (args, kwargs))
    return tree_map_only(torch.Tensor, lambda tensor: torch.zeros_like(tensor, device="cpu"), func(*args, **kwargs))


def counting_backend(traffic: Traffic) -> Callable:
    """Return a backend that counts the kernels inductor makes of a graph, and runs the graph operation by operation."""

    def compile_graph(graph_module, example_inputs, **options):
        kernels = list(scheduled_kernels(graph_module, example_inputs, options.get("is_backward", False)))

        def run(arguments):
            for kind, num_bytes in kernels:
                traffic.add(kind, num_bytes)
            with _disable_current_modes(), Traffic():
                return graph_module.forward(*arguments)

        run._boxed_call = True
        return run

    return lambda graph_module, example_inputs: inductor.compile_fx(graph_module, example_inputs, compile_graph)


def scheduled_kernels(graph_module, example_inputs, is_backward: bool) -> Iterator[tuple[str, int]]:
    """Yield kind and bytes of each kernel that inductor makes of a graph, by its own steps up to the schedule."""
    inductor.view_to_reshape(graph_module)
    with torch.no_grad():
        fake_mode = inductor.fake_tensor_prop(graph_module, example_inputs)
    inductor._recursive_record_original_output_strides(graph_module)
    with V.set_fake_mode(fake_mode):
        inductor._recursive_post_grad_passes(graph_module, is_inference=False)
        shape_env = inductor.shape_env_from_inputs(example_inputs)
        graph = GraphLowering(graph_module, example_inputs, shape_env=shape_env, is_backward=is_backward)
        with V.set_graph_handler(graph), DebugContext():
            graph.run(*example_inputs)
            graph._update_scheduler()
            for node in graph.scheduler.nodes:
                if not isinstance(node, NopKernelSchedulerNode):
                    yield kind_of(node), int(node.get_read_write_buffers_sizes())


def kind_of(node: BaseSchedulerNode) -> str:
    """Return `compiled`, or what a kernel of a library is."""
    if not isinstance(node, ExternKernelSchedulerNode):
        return "compiled"
    name = (node.node.python_kernel_name or type(node.node).__name__).rpartition(".")[2]
    return "product" if name in PRODUCTS else name


def build(options: argparse.Namespace, layers: int, is_before: bool) -> torch.nn.Module:
    """Return a model of the 2.2B's width with so many text layers."""
    train = {"gradient_checkpointing": options.checkpointing}
    recipe = Recipe.model_validate({"finetune": {"mode": options.mode}, "train": train})
    config = SHAPES["2.2B"].config()
    config.tokens_per_frame, config.vision_config.num_hidden_layers, config.text_config.num_hidden_layers = 1, 1, layers
    torch.manual_seed(0)
    model = SmolVLMForDST(config).to(torch.bfloat16)
    if options.mode == "lora":
        add = get_peft_model if is_before else add_adapter
        model = add(model, lora_config(recipe, model))
    make_trainable(model, recipe)
    return model


def make_batch(options: argparse.Namespace, image_token: int, tokens: int) -> SimpleNamespace:
    """Return a micro-batch with one frame, whose tower of one layer is part of the count."""
    ids = torch.randint(300, 40000, (tokens,))
    ids[5] = image_token
    labelled = torch.arange(6, 6 + int(0.15 * tokens))
    return SimpleNamespace(
        input_ids=ids,
        frames=torch.zeros(1, 3, 384, 384, dtype=torch.uint8),
        segment_lengths=[tokens // options.segments] * options.segments,
        lm_positions=labelled,
        lm_targets=ids[labelled + 1],
        lm_is_dst=labelled % 2 == 0,
        decision_positions=labelled,
        decisions={"dst_update": labelled % 2, "speaking": labelled % 2},
    )


def count(options: argparse.Namespace, layers: int, tokens: int, is_before: bool) -> Traffic:
    """Return the traffic of one forward and backward; compiled graphs are made in the step before."""
    traffic = Traffic()
    model = build(options, layers, is_before)
    if not is_before:
        torch._dynamo.reset()
        torch_compile, backend = torch.compile, counting_backend(traffic)
        with mock.patch("torch.compile", lambda part, **more: torch_compile(part, backend=backend, **more)):
            compile_layers(unwrap(model))
    batch = make_batch(options, unwrap(model).config.image_token_id, tokens)
    terms = count_terms(batch)
    for _ in range(1 if is_before else 2):
        traffic.calls.clear()
        traffic.bytes.clear()
        model.zero_grad(set_to_none=True)
        with traffic:
            compute_loss(model(**inputs(batch)), batch, terms, Recipe().loss, "classes")[0].backward()
    return traffic


def extrapolate(values: dict[tuple[int, int], float], tokens: int) -> float:
    """Return a + b T + L (c + d T) of the whole model, from its values at LAYERS x TOKENS."""
    (one, two), (few, many) = LAYERS, TOKENS
    whole = {}
    for number in TOKENS:
        slope = values[two, number] - values[one, number]
        whole[number] = values[one, number] + slope * (NUM_LAYERS - one)
    return whole[few] + (whole[many] - whole[few]) / (many - few) * (tokens - few)


def measure(options: argparse.Namespace, is_before: bool) -> tuple[float, float]:
    """Print kinds if wanted; return calls and GiB of the whole model without products and attention."""
    found = {(layers, tokens): count(options, layers, tokens, is_before) for layers in LAYERS for tokens in TOKENS}
    kinds = set().union(*(traffic.calls for traffic in found.values())) - {"product", "attention"}
    calls = {kind: extrapolate({at: one.calls[kind] for at, one in found.items()}, TOKENS[0]) for kind in kinds}
    volume = {kind: extrapolate({at: one.bytes[kind] for at, one in found.items()}, options.tokens) for kind in kinds}
    for kind in sorted(kinds, key=lambda kind: -volume[kind])[: 15 if options.kinds else 0]:
        print(f"  {kind:28} {calls[kind]:6,.0f} calls {volume[kind] / 2**30:8.1f} GiB")
    return sum(calls.values()), sum(volume.values()) / 2**30


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", nargs="?", default="lora", choices=("lora", "full"))
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--segments", type=int, default=8)
    parser.add_argument("--kinds", action="store_true", help="list kinds of operation")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("torch").setLevel(logging.ERROR)
    print(
        f"{options.mode}, checkpointing {options.checkpointing}, {options.tokens:,} tokens, {options.segments} samples"
    )
    before, after = measure(options, True), measure(options, False)
    for name, (calls, gib) in {"before": before, "after": after}.items():
        print(f"{name:15} {calls:6,.0f} kernels {gib:7.1f} GiB", flush=True)
    print(f"{'after / before':15} {after[0] / before[0]:6.2f}         {after[1] / before[1]:7.2f}")


if __name__ == "__main__":
    main()
