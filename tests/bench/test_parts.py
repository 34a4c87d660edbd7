"""Seconds by part, from events whose times are written by hand: of a CPU and of a GPU."""

from types import SimpleNamespace

import pytest
from torch.autograd import DeviceType

from dst_dist.bench.parts import PREFIX, seconds_of_parts


def event(name, begin_s, end_s, device=DeviceType.CPU, is_user_annotation=False):
    span = SimpleNamespace(start=begin_s * 1e6, end=end_s * 1e6)
    return SimpleNamespace(name=name, time_range=span, device_type=device, is_user_annotation=is_user_annotation)


def kernel(name, begin_s, end_s, is_user_annotation=False):
    return event(name, begin_s, end_s, DeviceType.CUDA, is_user_annotation)


# A step of 20 s: 1 s apart from its parts at either end.
REGIONS = [
    event(PREFIX + "step", 0, 20),
    event(PREFIX + "data", 1, 3),
    event(PREFIX + "text forward", 3, 9),
    event(PREFIX + "tower", 4, 6),
    event(PREFIX + "backward", 9, 16),
    event(PREFIX + "optimizer", 16, 19),
]


def test_parts_without_communication_add_up():
    found = seconds_of_parts(REGIONS)
    expected = {"data": 2, "tower": 2, "text forward": 4, "backward": 7, "optimizer": 3, "communication": 0, "other": 2}
    assert found == pytest.approx(expected)


def test_on_a_cpu_collectives_count_where_no_operation_runs():
    """Two collectives from 12 to 18, products until 13 and from 17: 13 to 16 is of backward, 16 to 17 of the update."""
    events = [
        *REGIONS,
        event("aten::mm", 9, 13),
        event("gloo:all_reduce", 12, 15),
        event("c10d::allreduce_", 14, 18),
        event("aten::add_", 17, 19),
        event("DistributedDataParallel.forward", 0, 20),
    ]
    found = seconds_of_parts(events)
    assert (found["communication"], found["backward"], found["optimizer"]) == pytest.approx((4, 4, 2))
    assert sum(found.values()) == pytest.approx(20)


def test_on_a_gpu_kernels_count_and_not_the_calls_that_ask_for_them():
    """The GPU sends from 10 to 15 and computes until 12; what the host asks for meanwhile, and names, are not work."""
    events = [
        *REGIONS,
        event("aten::mm", 9, 16),
        event("nccl:all_reduce", 9, 10),
        kernel("sm90_gemm", 9, 12),
        kernel("ncclDevKernel_AllReduce", 10, 15),
        kernel("nccl:all_reduce", 10, 15, is_user_annotation=True),
        kernel(PREFIX + "backward", 9, 15, is_user_annotation=True),
    ]
    found = seconds_of_parts(events)
    assert (found["communication"], found["backward"], found["other"]) == pytest.approx((3, 4, 2))


@pytest.mark.parametrize(
    "spans, others, left",
    [
        ([(0, 10)], [], [(0, 10)]),
        ([(0, 10)], [(0, 10)], []),
        ([(0, 10)], [(2, 3), (5, 12)], [(0, 2), (3, 5)]),
        ([(0, 4), (6, 10)], [(3, 7)], [(0, 3), (7, 10)]),
        ([(5, 6)], [(0, 1), (5.5, 9)], [(5, 5.5)]),
    ],
)
def test_what_is_left_of_spans(spans, others, left):
    """The tower runs within the forward; spans of one kind may overlap."""
    events = [
        event(PREFIX + name, *span)
        for name, of_name in (("text forward", spans), ("tower", others))
        for span in of_name
    ]
    left_s, others_s = (sum(end - begin for begin, end in of_name) for of_name in (left, others))
    found = seconds_of_parts([*events, *events])
    assert (found["text forward"], found["tower"]) == pytest.approx((left_s, others_s))
