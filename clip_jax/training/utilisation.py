"""Model FLOP utilisation: the share of the devices' peak that a run's model makes use of.

What counts is the dense model (models/flops.py), every caption at the full context length: three
forward passes of a tower that is trained, one of a frozen one. Work that is done again counts once,
work that is left out counts, so that the figure only changes with speed. It is set against the
devices' published rate in bfloat16, without sparsity, in whatever precision the run computes.
"""

import jax
from jax.sharding import Mesh

from clip_jax.models.config import CLIPConfig
from clip_jax.models.flops import forward_flops
from clip_jax.parallel.topology import CHIPS

# TPUs: topology.CHIPS. GPUs: NVIDIA's data sheets, dense bfloat16 with float32 sums.
PEAK_FLOPS = {
    "TPU v4": CHIPS["v4"].flops,
    "TPU v5 lite": CHIPS["v5e"].flops,
    "TPU v5": CHIPS["v5p"].flops,
    "TPU v6 lite": CHIPS["v6e"].flops,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-PCIE-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA L4": 121e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989e12,
    "NVIDIA B200": 2250e12,
}
"""FLOP/s by jax.Device.device_kind."""


def update_flops(config: CLIPConfig, trained: frozenset[str]) -> int:
    """FLOPs of an update for one pair, if `trained` of the parts are not frozen altogether."""
    forward = forward_flops(config)
    return sum(flops * (3 if tower in trained else 1) for tower, flops in forward.items())


def pairs_at_peak(config: CLIPConfig, trained: frozenset[str], mesh: Mesh) -> float | None:
    """Pairs a second that the mesh would train at its peak; None if that is not known."""
    device: jax.Device = mesh.devices.flat[0]
    peak = PEAK_FLOPS.get(device.device_kind)
    return None if peak is None else mesh.devices.size * peak / update_flops(config, trained)
